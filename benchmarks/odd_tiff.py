"""TIFF files with odd layouts and tags, written and edited by tifffile, which is also their reference reader."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from odd_files import Format, OddFile, Pixels, Properties, choose, oddities, variants

_UNREAD = "pixel_format_not_supported"
_TYPES = ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "bool")
_TAG_BYTES = {False: 12, True: 20}  # of a classic TIFF's entry, and of a BigTIFF's

PROPERTIES: Properties = {
    "type": variants("u1", [*((name, name) for name in _TYPES[1:]), ("complex64", "c8", _UNREAD)]),
    "kind": variants(
        "grey",
        [
            ("RGB", "rgb"),
            ("RGB in planes", "planar"),
            ("palette", "palette"),
            ("white is 0", "miniswhite", _UNREAD),
            ("grey and alpha", "alpha"),
            ("RGB and alpha", "rgba"),
            ("five channels", "five"),
            ("CMYK", "separated", _UNREAD),
            ("CIE L*a*b*", "cielab", _UNREAD),
        ],
    ),
    "compression": variants(
        None,
        [
            *((name, name) for name in ("lzw", "deflate", "adobe_deflate", "packbits", "zstd")),
            *((name, name) for name in ("jpeg", "jpeg2000")),
            *((name, name, _UNREAD) for name in ("lzma", "webp", "png", "jpegxl", "lerc")),
        ],
    ),
    "predictor": variants(False, [("on", True, _UNREAD)]),
    "layout": variants(None, [("strips of 5 rows", 5), ("tiles of 16", (16, 16)), ("tiles of 32 x 48", (32, 48))]),
    "shape": variants(
        (33, 47), [("one row", (1, 47)), ("one column", (33, 1)), ("one pixel", (1, 1)), ("whole tiles", (48, 64))]
    ),
    "pages": variants(
        "one",
        [
            ("another of half the size", "half"),
            ("another of the same size", "two", "dimension_not_supported"),
            ("OME-TIFF", "ome"),
            ("OME-TIFF with a Z stack", "ome z"),
            ("ImageJ with a Z stack", "imagej z"),
            ("ImageJ with time points", "imagej t", "dimension_not_supported"),
        ],
    ),
    "byte order": variants("<", [("big-endian", ">")]),
    "size of offsets": variants(False, [("BigTIFF", True)]),
    "bits": variants(None, [*((f"{bits}", bits) for bits in (2, 4, 10, 12))]),
    "orientation": variants(None, [*((f"{value}", value) for value in (0, 2, 3, 6, 8, 9))]),
    "resolution": variants(None, [("0 / 0", (0, 0)), ("72 dpi", (72, 1)), ("4294967295", (2**32 - 1, 1))]),
    "software": variants(None, [("control characters", "\x07a\x1b[31m")]),
    "edit": variants(
        None,
        [
            ("bytes at the end", "append"),
            ("tag of an unknown type", "unknown type"),
            ("tag twice", "twice", "tiff_bad_ifd"),
            ("tags in another order", "order"),
            ("no photometric interpretation", "no photometric", _UNREAD),
            ("no strip byte counts", "no counts", "tiff_bad_ifd"),
            ("strip byte counts of 0", "counts 0"),
            ("sample format 4 (undefined)", "undefined format"),
            ("RowsPerStrip of 4294967295", "rows"),
            ("next directory behind the end", "next", "tiff_truncated"),
            ("next directory is the first", "loop", "tiff_bad_ifd"),
            ("private tag whose offset is behind the end", "far tag", "tiff_truncated"),
        ],
    ),
}


def write(folder: Path, seed: int) -> OddFile:
    """Write the file of a seed."""
    path, chance = folder / f"{seed}.tif", random.Random(seed)  # noqa: S311
    for attempt in range(1000):
        chosen = choose(PROPERTIES, chance)
        try:
            _write({name: variant.value for name, variant in chosen.items()}, np.random.default_rng(seed + attempt), path)
        except Exception:  # noqa: BLE001, S112  (tifffile cannot write every combination)
            continue
        return OddFile(path, oddities(chosen, PROPERTIES))
    raise RuntimeError("no combination can be written")


def _write(values: dict[str, Any], generator: np.random.Generator, path: Path) -> None:
    pages, kind = values["pages"], values["kind"]
    options: dict[str, Any] = {"compression": values["compression"], "photometric": "minisblack"}
    shape = (4, *values["shape"]) if pages[-2:] in (" z", " t") else values["shape"]
    samples = {"rgb": 3, "planar": 3, "alpha": 2, "rgba": 4, "five": 5, "separated": 4, "cielab": 3}.get(kind, 1)
    if kind in ("rgb", "rgba", "planar"):
        options["photometric"] = "rgb"
    if kind in ("miniswhite", "palette", "separated", "cielab"):
        options["photometric"] = kind
    if kind == "palette":
        options["colormap"] = generator.integers(0, 2**16, (3, 256 if values["type"] == "u1" else 2**16)).astype("u2")
    if kind in ("alpha", "rgba"):
        options["extrasamples"] = [str(generator.choice(["unspecified", "assocalpha", "unassalpha"]))]
    if kind == "five":
        options["extrasamples"] = ["unspecified"] * 4
    if kind == "planar":
        options["planarconfig"] = "separate"
        shape = (*shape[:-2], samples, *shape[-2:])
    elif samples > 1:
        options["planarconfig"] = "contig"
        shape = (*shape, samples)
    if isinstance(values["layout"], tuple):
        options["tile"] = values["layout"]
    elif values["layout"]:
        options["rowsperstrip"] = values["layout"]
    if values["predictor"]:
        options["predictor"] = True
    if values["bits"]:
        options["bitspersample"] = values["bits"]
    if values["orientation"] is not None:
        options["extratags"] = [(274, 3, 1, values["orientation"], True)]
    if values["software"]:
        options["software"] = values["software"]
    stored = _stored(values, shape, generator)
    writer = {"byteorder": values["byte order"], "bigtiff": values["size of offsets"]}
    if pages.startswith("imagej"):
        writer |= {"imagej": True}
        options["metadata"] = {"axes": ("Z" if pages[-1] == "z" else "T") + "YX" + ("S" if samples > 1 else "")}
    elif pages.startswith("ome"):
        writer |= {"ome": True}
        axes = "SYX" if kind == "planar" else "YXS" if samples > 1 else "YX"
        options["metadata"] = {"axes": ("Z" if pages[-1] == "z" else "") + axes}
    else:
        options["metadata"] = None
    with tifffile.TiffWriter(path, **writer) as tiff:
        tiff.write(stored, **options)
        if pages in ("half", "two"):
            rows, columns = (slice(None, None, 2 if pages == "half" else 1),) * 2
            tiff.write(stored[..., rows, columns] if samples == 1 or kind == "planar" else stored[rows, columns], **options)
    if values["resolution"]:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages.first.tags[282].overwrite(values["resolution"])
    if values["edit"]:
        EDITS[values["edit"]](path)


def _stored(values: dict[str, Any], shape: tuple[int, ...], generator: np.random.Generator) -> Pixels:
    highest = 2 ** values["bits"] if values["bits"] else 2 if values["type"] == "bool" else 100
    return generator.integers(0, highest, shape).astype(values["type"])


def _first_directory(content: bytes) -> tuple[str, bool, int, int]:
    """Return byte order, whether it is a BigTIFF, the offset of the first tag, and the number of tags."""
    order, is_big = ("<" if content[:2] == b"II" else ">"), content[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), content, start)
    return order, is_big, start + (8 if is_big else 2), count


def _edit_tag(code: int, field: int, new: int | None) -> Callable[[Path], None]:
    """Return an edit of one tag of the first directory: its number (0), type (1), count (2) or value (3)."""

    def edit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        order, is_big, at, count = _first_directory(bytes(content))
        form = struct.Struct(order + ("HHQQ" if is_big else "HHII"))
        for start in range(at, at + count * form.size, form.size):
            entry = list(form.unpack_from(content, start))
            if entry[0] == code:
                entry[field] = new
                form.pack_into(content, start, *entry)
                path.write_bytes(content)
                return
        raise ValueError("the file lacks the tag")

    return edit


def _reorder(path: Path) -> None:
    content = bytearray(path.read_bytes())
    _, is_big, at, count = _first_directory(bytes(content))
    size = _TAG_BYTES[is_big]
    tags = [content[start : start + size] for start in range(at, at + count * size, size)]
    content[at : at + count * size] = b"".join(tags[1:] + tags[:1])
    path.write_bytes(content)


def _edit_next(is_loop: bool) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = bytearray(path.read_bytes())
        order, is_big, at, count = _first_directory(bytes(content))
        new = at - (8 if is_big else 2) if is_loop else len(content) + 1000
        struct.pack_into(order + ("Q" if is_big else "I"), content, at + count * _TAG_BYTES[is_big], new)
        path.write_bytes(content)

    return edit


def _overwrite(code: int, value: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tag = tiff.pages.first.tags[code]
            tag.overwrite([value] * tag.count if tag.count > 1 else value)

    return edit


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"saved by a program")


EDITS: dict[str, Callable[[Path], None]] = {
    "append": _append,
    "unknown type": _edit_tag(305, 1, 99),
    "twice": _edit_tag(305, 0, 256),
    "order": _reorder,
    "no photometric": _edit_tag(262, 0, 60000),
    "no counts": _edit_tag(279, 0, 60000),
    "counts 0": _overwrite(279, 0),
    "undefined format": _overwrite(339, 4),
    "rows": _overwrite(278, 2**32 - 1),
    "next": _edit_next(is_loop=False),
    "loop": _edit_next(is_loop=True),
    "far tag": _edit_tag(305, 3, 2**31),
}


def read(path: Path) -> Pixels:
    """Return tifffile's first series, (C, *S), with colours as Overtile documents them: as a viewer shows them."""
    with tifffile.TiffFile(path) as tiff:
        series, page = tiff.series[0], tiff.pages.first
        if tiff.filehandle.size == 0 or not series.pages:
            raise ValueError("no image")
        stored, axes = series.asarray(), list(series.axes)
    for axis in [axis for axis, size in zip(axes, stored.shape, strict=True) if size == 1 and axis not in "YX"]:
        stored = stored.take(0, axes.index(axis))
        axes.remove(axis)
    lead = [axis for axis in axes if axis in "SCQ"]
    stored = stored.transpose([axes.index(axis) for axis in (*lead, *(axis for axis in axes if axis not in lead))])
    return _shown(stored if lead else stored[None], page)


def _shown(stored: Pixels, page: tifffile.TiffPage) -> Pixels:
    """Return the colours of a palette, bits as 0 and 255, black as 0, and transparent pixels on white."""
    bits = page.bitspersample if isinstance(page.bitspersample, int) else page.bitspersample[0]
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        return np.moveaxis((np.asarray(page.colormap).T >> 8).astype("u1")[stored[0]], -1, 0)
    if stored.dtype == bool:
        stored = stored.astype("u1") * np.uint8(255)
        bits = 8
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and stored.dtype.kind == "u":
        return np.array(2**bits - 1 - stored.astype(object), stored.dtype)
    kind = int(page.extrasamples[-1]) if page.extrasamples and len(stored) in (2, 4) else 0
    if kind == 0 or stored.dtype not in (np.uint8, np.uint16):
        return stored
    white = 2**bits - 1
    colour, alpha = stored[:-1].astype(np.int64), stored[-1].astype(np.int64)
    weighted = colour if kind == 1 else (colour * alpha + white * (white - alpha) + white // 2) // white
    return np.minimum(colour + white - alpha, white) if kind == 1 else weighted


FORMAT = Format(write, read, "tifffile")
