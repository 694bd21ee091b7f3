"""NIfTI files with odd headers, written field by field, and nibabel as their reference reader."""

import gzip
import itertools
import random
from math import inf, nan
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from odd_files import DIFFERENT, Format, OddFile, Pixels, Properties, choose, oddities, variants

_TYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
_ROTATED = ((0.866, -0.5, 0), (0.5, 0.866, 0), (0, 0, 1))
_EXTENSION = (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"written by a scanner....".ljust(24, b".")

PROPERTIES: Properties = {
    "version": variants(1, [("NIfTI-2", 2)]),
    "byte order": variants("<", [("big-endian", ">")]),
    "type": variants(
        "i2",
        [
            *((name, name) for name in _TYPES if name != "i2"),
            ("complex64", "c8", "dtype_not_supported"),
            ("RGB24", "rgb", "dtype_not_supported"),
            ("float128", "f16", "dtype_not_supported"),
        ],
    ),
    "axes": variants(
        (5, 6, 7),
        [
            ("(x, y)", (5, 6)),
            ("(x, y, 1)", (5, 6, 1)),
            ("(x, y, z, 1)", (5, 6, 7, 1)),
            ("(x, y, z, 1, 1)", (5, 6, 7, 1, 1)),
            ("(x, 1, z)", (5, 1, 7)),
            ("(x)", (5,), "dimension_not_supported"),
            ("(x, y, z, 3)", (5, 6, 7, 3), "dimension_not_supported"),
            ("(x, y, z, 1, 3)", (5, 6, 7, 1, 3), "dimension_not_supported"),
        ],
    ),
    "scaling": variants(
        (1, 0),
        [
            ("slope 0", (0, 0)),
            ("slope 0, intercept 5", (0, 5)),
            ("slope NaN", (nan, 0)),
            ("slope infinite", (inf, 0)),
            ("both NaN", (nan, nan)),
            ("slope 0.5", (0.5, 0)),
            ("slope -2, intercept 7", (-2, 7)),
            ("intercept -1024", (1, -1024)),
            ("slope 1e-20", (1e-20, 0), "bad_scaling"),
            ("intercept NaN", (1, nan), "bad_scaling"),
        ],
    ),
    "offset": variants(
        0,
        [
            ("0", None, f"nifti_size_mismatch {DIFFERENT}"),
            ("16 bytes more", 16),
            ("3 bytes more", 3),
            ("a half more", 0.5, "nifti_bad_offset"),
            ("inside the header", -100, "nifti_bad_offset"),
        ],
    ),
    "bitpix": variants("right", [("0", 0), ("1", 1), ("64", 64)]),
    "codes": variants(
        (1, 0),
        [
            (f"sform {s}, qform {q}", (s, q))
            for s, q in [(0, 0), (0, 1), (2, 2), (4, 1), (5, 3), (6, 0), (-1, 1), (99, 99), (0, 7)]
        ],
    ),
    "affine": variants(
        np.diag([-1.0, 1, 2]),
        [
            ("oblique", np.array(_ROTATED) * (1, 1, 2)),
            ("permuted", np.array([(0, 0, 2.0), (1, 0, 0), (0, -1, 0)])),
            ("flipped", np.diag([1.0, -1, -2])),
            ("sheared", np.array([(1, 0, 0.3), (0, 1.0, 0), (0, 0, 2)]), "affine_sheared"),
            ("all 0", np.zeros((3, 3)), "affine_invalid"),
            ("NaN", np.full((3, 3), nan), "affine_invalid"),
            ("voxels of 1 km", np.diag([1e6, 1e6, 1e6]), "affine_invalid"),
        ],
    ),
    "pixdim": variants(
        (1, 1, 1, 2),
        [
            ("qfac 0", (0, 1, 1, 2)),
            ("qfac -1", (-1, 1, 1, 2)),
            ("negative", (1, -1, 1, 2), "affine_invalid"),
            ("0", (1, 0, 0, 0), "affine_invalid"),
            ("0 for the third axis", (1, 1, 1, 0), "affine_invalid"),
        ],
    ),
    "units": variants(2, [("0", 0), ("unknown", 7), ("mm and s", 10), ("255", 255), ("micrometre", 3)]),
    "extension": variants(
        b"\0\0\0\0",
        [
            ("one", b"\1\0\0\0" + _EXTENSION),
            ("announced and absent", b"\1\0\0\0"),
            ("of 0 bytes", b"\1\0\0\0" + bytes(16), "nifti_bad_extension"),
            ("of 24 bytes", b"\1\0\0\0" + (24).to_bytes(4, "little") + bytes(20)),
        ],
    ),
    "end": variants(b"", [("16 zeros", bytes(16)), ("a note", b"saved by a program")]),
    "packing": variants(
        "none",
        [(name, name) for name in ("gzip", "three members", "gzip and zeros", "gzip and a note", "an empty member at the end")],
    ),
    "text": variants(b"", [("not ASCII", b"\xff\xfe\x00secret")]),
    "intent": variants(0, [("label", 1002), ("undefined", 9999), ("CIFTI", 3001, "unsupported_format")]),
    "sizeof_hdr": variants(True, [("0", False)]),
}


def write(folder: Path, seed: int) -> OddFile:
    """Write the file of a seed."""
    chance = random.Random(seed)  # noqa: S311
    chosen = choose(PROPERTIES, chance)
    is_packed = chosen["packing"].value != "none"
    path = folder / f"{seed}.nii{'.gz' if is_packed else ''}"
    content = _content({name: variant.value for name, variant in chosen.items()}, np.random.default_rng(seed))
    path.write_bytes(_packed(content, chosen["packing"].value) if is_packed else content)
    return OddFile(path, oddities(chosen, PROPERTIES))


def _content(values: dict[str, Any], generator: np.random.Generator) -> bytes:
    kind, order = (nib.Nifti1Header if values["version"] == 1 else nib.Nifti2Header), values["byte order"]
    header = kind(endianness=order)
    shape, letters = values["axes"], values["type"]
    body = _voxels(letters, shape, order, generator)
    header["dim"] = (len(shape), *shape, *[1] * (7 - len(shape)))
    header["datatype"] = {**_TYPES, "c8": 32, "rgb": 128, "f16": 1536}[letters]
    header["bitpix"] = 8 * len(body) // int(np.prod(shape)) if values["bitpix"] == "right" else values["bitpix"]
    header["pixdim"][:4] = values["pixdim"]
    header["scl_slope"], header["scl_inter"] = values["scaling"]
    header["sform_code"], header["qform_code"] = values["codes"]
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = (*values["affine"][row], 10 * row)
    header["quatern_d"], header["qoffset_x"] = 0.5, 3
    header["xyzt_units"], header["intent_code"], header["descrip"] = values["units"], values["intent"], values["text"]
    header["magic"] = b"n+1" if values["version"] == 1 else b"n+2\0\r\n\x1a\n"
    extension, offset = values["extension"], values["offset"]
    if order == ">":
        extension = extension[:4] + b"".join(extension[at : at + 4][::-1] for at in (4, 8)) + extension[12:]
    filler = bytes(int(offset)) if offset is not None and offset > 0 else b""
    start = header.sizeof_hdr + len(extension)
    header["vox_offset"] = 0 if offset is None else start + offset
    if not values["sizeof_hdr"]:
        header["sizeof_hdr"] = 0
    return bytes(header.binaryblock) + extension + filler + body + bytes(values["end"])


def _voxels(letters: str, shape: tuple[int, ...], order: str, generator: np.random.Generator) -> bytes:
    if letters == "rgb":
        return generator.bytes(3 * int(np.prod(shape)))
    stored = generator.integers(0, 100, int(np.prod(shape)))
    return stored.astype(np.dtype(letters).newbyteorder(order)).tobytes()


def _packed(content: bytes, packing: str) -> bytes:
    if packing == "three members":
        return b"".join(gzip.compress(content[start:end], 1) for start, end in itertools.pairwise((0, 100, 500, None)))
    ends = {"gzip and zeros": bytes(512), "gzip and a note": b"note", "an empty member at the end": gzip.compress(b"")}
    return gzip.compress(content, 1) + ends.get(packing, b"")


def read(path: Path) -> Pixels:
    """Return nibabel's voxels, (1, superior, anterior, right); (1, y, x) of a single plane."""
    image = nib.load(path)
    stored = np.asanyarray(image.dataobj)
    if stored.dtype.names or stored.dtype.kind == "c":
        raise TypeError("colour or complex numbers")
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    affine: NDArray[np.float64] = np.asarray(image.affine)
    flat = stored.reshape(*stored.shape, *[1] * (3 - stored.ndim))
    axes = nib.orientations.io_orientation(affine)
    if flat.ndim == 3 and not np.isnan(axes).any():
        flat = nib.orientations.apply_orientation(flat, axes)
    return flat.transpose(*range(flat.ndim)[::-1])[None]  # (1, D, H, W)


FORMAT = Format(write, read, "nibabel")
