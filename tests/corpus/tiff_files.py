"""Malformed, false and unusual TIFFs and slides, by fault number S01 to S16, and the expected result of each."""

import struct
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from tests.corpus.rows import Layer, Row
from tests.corpus.tiff_bytes import (
    APERIO,
    APERIO_RGB,
    CMYK,
    COLORMAP,
    DEFLATE,
    DESCRIPTION,
    GREY,
    HEIGHT,
    JPEG,
    KINDS,
    LZW,
    OME,
    PALETTE,
    PHOTOMETRIC,
    PIXELS,
    ROWS_PER_STRIP,
    SIDE,
    STRIP_OFFSETS,
    SUB_IFDS,
    TILE,
    TILE_COUNTS,
    TILE_LENGTH,
    TILE_OFFSETS,
    TILE_WIDTH,
    WIDTH,
    XMP,
    YCBCR,
    Page,
    Tag,
    ome,
    page,
    pyramid,
    tiff,
)

SECRETS = (b"DOE^JOHN 19700101", b"MRN 1234567", b"../other/secret")


def _file(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return build


def _row(id: str, code: str | None, content: Callable[[], bytes], layer: Layer = "header", name: str = "a.svs") -> Row:
    return Row(id, _file(name, content), code, layer)


def _lies(**tags: Tag) -> Callable[[], bytes]:
    """Return a file that is valid except for these tags."""
    return lambda: tiff([page(**tags)])


def _entry(number: int, kind: int, count: int, value: int, *, big: bool = False) -> Callable[[], bytes]:
    """Return a file that is valid except for one entry, whose tag is added if it is missing."""

    def content() -> bytes:
        one = page()
        one.tags.setdefault(number, ("I", [0]))
        one.entries[number] = (kind, count, value)
        return tiff([one], big=big)

    return content


def _noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def _picture(format: str, mode: str = "RGB", **options: object) -> bytes:
    stream = BytesIO()
    Image.new(mode, (8, 8)).save(stream, format, **options)
    return stream.getvalue()


_NAMES = [  # S01: what isn't a TIFF, under a slide's name
    _row("S01-empty", "empty_file", lambda: b""),
    _row("S01-8-bytes", "tiff_truncated", lambda: tiff([page()])[:8]),
    _row("S01-header-to-nothing", "tiff_bad_ifd", lambda: b"II*\0\0\0\0\0"),
    _row("S01-bigtiff-4-byte-offsets", "tiff_bad_ifd", lambda: b"II+\0\4\0\0\0" + bytes(99)),
    _row("S01-random", "unsupported_format", lambda: _noise(1, 4096)),
    _row("S01-text", "unsupported_format", lambda: b"a slide, honestly\n" * 9),
    _row("S01-pdf", "unsupported_format", lambda: b"%PDF-1.7\n" + bytes(999)),
    _row("S01-zip", "unsupported_format", lambda: b"PK\3\4" + bytes(999)),
    _row("S01-svg", "unsupported_format", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    _row("S01-jpeg", None, lambda: _picture("JPEG")),
    _row("S01-png", None, lambda: _picture("PNG")),
]


def _sized(height: int, width: int, **tags: Tag) -> Callable[[], bytes]:
    return _lies(**{f"t_{HEIGHT}": ("I", [height]), f"t_{WIDTH}": ("I", [width])}, **tags)


def _strip(height: int, width: int, content: Callable[[], bytes], compression: int = 1) -> Callable[[], bytes]:
    """Return a grey image with one strip, whose content may be false."""
    tags = {f"t_{HEIGHT}": ("I", [height]), f"t_{WIDTH}": ("I", [width]), f"t_{ROWS_PER_STRIP}": ("I", [height])}
    return lambda: tiff([Page(page(np.zeros((1, 1), np.uint8), tile=None, compression=compression, **tags).tags, [content()])])


_EXTENTS = [  # S02
    _row("S02-2-31", "slide_too_large", _sized(2**31, 2**31)),
    _row("S02-2-32", "slide_too_large", _sized(2**32 - 1, 2**32 - 1)),
    _row("S02-long-side", "slide_too_large", _sized(16, 300_001)),
    _row("S02-0x0", "slide_too_small", _sized(0, 0)),
    _row("S02-0x64", "slide_too_small", _sized(0, 64)),
    _row("S02-no-width", "slide_too_small", lambda: tiff([Page({HEIGHT: ("I", [64])}, [b"x"])])),
    _row("S02-40000-in-1-kib", "tiff_truncated", _strip(40000, 40000, lambda: bytes(1024))),
    _row("S02-1x1", None, lambda: tiff([page(PIXELS[:1, :1], tile=None)])),
    _row("S02-1x1-tiled", None, lambda: tiff([page(PIXELS[:1, :1], tile=16)])),
]

_TILES = [  # S03, S04
    *(
        _row(f"S03-tile-{name}", "tiff_bad_tiles", _lies(**{f"t_{tag}": ("I", [side])}))
        for name, tag, side in (
            ("width-1.49e9", TILE_WIDTH, 1_490_000_000),
            ("length-1.49e9", TILE_LENGTH, 1_490_000_000),
            ("width-0", TILE_WIDTH, 0),
            ("length-0", TILE_LENGTH, 0),
            ("width-2-32", TILE_WIDTH, 2**32 - 1),
            ("width-65552", TILE_WIDTH, 65552),
            ("width-16-for-32", TILE_WIDTH, 16),
            ("width-4096-for-32", TILE_WIDTH, 4096),
        )
    ),
    _row("S03-aperio-tile-width-1.49e9", "tiff_bad_tiles", lambda: _patched(pyramid(vendor=APERIO), TILE_WIDTH, 1_490_000_000)),
    _row("S03-tile-length-missing", "tiff_bad_tiles", lambda: tiff([_without(page(), TILE_LENGTH)])),
    _row("S03-one-tile-of-four", "tiff_bad_tiles", lambda: tiff([Page(page().tags, page().segments[:1])])),
    _row("S03-tiles-without-counts", "tiff_bad_tiles", _lies(**{f"t_{TILE_COUNTS}": ("I", [1])})),
    _row("S04-tile-65536", "tile_size_not_supported", _lies(t_322=("I", [65536]), t_323=("I", [65536]))),
    _row("S04-tile-1", "tile_size_not_supported", _lies(t_322=("I", [1]), t_323=("I", [1]))),
    _row("S04-tile-8", "tile_size_not_supported", _lies(t_322=("I", [8]), t_323=("I", [8]))),
    _row("S04-tile-24", "tile_size_not_supported", _lies(t_322=("I", [24]))),
    _row("S04-tile-4112", "tile_size_not_supported", _lies(t_323=("I", [4112]))),
    _row("S04-tile-2-32-by-1e5", "tiff_bad_tiles", _sized(100_000, 100_000)),
]


def _without(one: Page, *numbers: int) -> Page:
    return Page({number: tag for number, tag in one.tags.items() if number not in numbers}, one.segments)


def _patched(content: bytes, number: int, value: int) -> bytes:
    """Return a little-endian classic file with another value in its first such entry of one LONG."""
    entry = struct.pack("<HHI", number, KINDS["I"], 1)
    at = content.index(entry) + len(entry)
    return content[:at] + struct.pack("<I", value) + content[at + 4 :]


def _with_tiles(content: bytes, compression: int = DEFLATE, **tags: Tag) -> Callable[[], bytes]:
    """Return a file that is valid except for its first tile."""

    def build() -> bytes:
        one = page(compression=compression, **tags)
        return tiff([Page(one.tags, [content, *one.segments[1:]])])

    return build


def _jpeg(side: int = TILE, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(PIXELS[:side, :side]).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def _jpeg_file(change: Callable[[bytes], bytes] = lambda data: data, **tags: Tag) -> Callable[[], bytes]:
    tags = {f"t_{PHOTOMETRIC}": ("H", [YCBCR])} | tags
    return lambda: tiff([Page(page(compression=JPEG, **tags).tags, [change(_jpeg())] * 4)])


def _claims(height: int, width: int) -> Callable[[bytes], bytes]:
    """Return a change that writes another size into a JPEG's frame."""

    def change(data: bytes) -> bytes:
        at = data.index(b"\xff\xc0") + 5
        return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]

    return change


def _jpeg_2000_file(change: Callable[[bytes], bytes] = lambda data: data) -> Callable[[], bytes]:
    def build() -> bytes:
        data = imagecodecs.jpeg2k_encode(PIXELS[:TILE, :TILE], codecformat="j2k", level=0)
        return tiff([Page(page(compression=APERIO_RGB).tags, [change(data)] * 4)])

    return build


_BOMBS = [  # S05
    _row("S05-deflate-tile", "tile_unreadable", lambda: _with_tiles(zlib.compress(bytes(2**26)))(), "reader"),
    _row("S05-deflate-strip", "slide_too_large", lambda: _strip(40000, 40000, lambda: zlib.compress(bytes(2**28), 1), 8)()),
    _row("S05-lzw-tile", "tile_unreadable", lambda: _with_tiles(imagecodecs.lzw_encode(bytes(2**22)), LZW)(), "reader"),
    _row("S05-jpeg-says-65500", "tile_unreadable", _jpeg_file(_claims(65500, 65500)), "reader"),
    _row("S05-jpeg-says-33-rows", "tile_unreadable", _jpeg_file(_claims(33, 32)), "reader"),
    _row(
        "S05-jpeg-2000-says-2-31",
        "tile_unreadable",
        _jpeg_2000_file(lambda data: data[:8] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + data[16:]),
        "reader",
    ),
    _row("S05-jpeg-2000-in-a-box", "tile_unreadable", _jpeg_2000_file(lambda data: bytes(12) + data), "reader"),
    _row("S05-tile-far-too-heavy", "tiff_bad_ifd", lambda: _with_tiles(bytes(2**17))()),
    _row("S05-whole-jpeg", None, _jpeg_file()),
    _row("S05-whole-jpeg-2000", None, _jpeg_2000_file()),
]


def _kinds(name: str, **tags: Tag) -> Row:
    return _row(f"S06-{name}", "pixel_format_not_supported", _lies(**tags))


_FORMATS = [  # S06, S10
    _kinds("samples-65529", t_277=("H", [65529])),
    _kinds("samples-0", t_277=("H", [0])),
    *(_kinds(f"bits-{bits}", t_258=("H", [bits] * 3)) for bits in (0, 24)),
    *(_row(f"S06-bits-{bits}", None, _lies(t_258=("H", [bits] * 3))) for bits in (2, 4)),
    _row("S06-bits-12", "tile_unreadable", _lies(t_258=("H", [12] * 3)), "reader"),
    _row("S06-bits-64", "tile_unreadable", _lies(t_258=("H", [64] * 3)), "reader"),
    _kinds("bits-8-8-16", t_258=("H", [8, 8, 16])),
    _kinds("planar-3", t_284=("H", [3])),
    _kinds("predictor-7", t_317=("H", [7])),
    _kinds("float-predictor-of-bytes", t_317=("H", [3])),
    _kinds("predictor-of-jpeg", t_317=("H", [2]), t_259=("H", [JPEG])),
    _kinds("compression-9999", t_259=("H", [9999])),
    _kinds("compression-old-jpeg", t_259=("H", [6])),
    _kinds("complex", t_339=("H", [6] * 3)),
    _kinds("formats-differ", t_339=("H", [1, 1, 2])),
    _kinds("no-photometric", t_262=("H", [999])),
    _kinds("depth-4", t_32997=("I", [4])),
    _row("S06-planar-2", None, lambda: tiff([_planar()])),
    _row("S10-grey", None, lambda: tiff([page(PIXELS[..., 0])])),
    _row("S10-16-bit", None, lambda: tiff([page(PIXELS.astype("<u2") * 257)])),
    _row("S10-16-bit-of-aperio", "pixel_format_not_supported", lambda: tiff([_aperio(PIXELS.astype("<u2"))])),
    _row("S10-grey-of-aperio", "pixel_format_not_supported", lambda: tiff([_aperio(PIXELS[..., 0])])),
    _row("S10-float", None, lambda: tiff([page(PIXELS[..., 0].astype("<f4"), t_339=("H", [3]))])),
    _row(
        "S10-float-nan", "non_finite_pixels", lambda: tiff([page(np.full((32, 32), np.nan, "<f4"), t_339=("H", [3]))]), "reader"
    ),
    _row("S10-uint32", None, lambda: tiff([page(PIXELS[..., 0].astype("<u4"))])),
    _row("S10-white-is-0-float", "pixel_format_not_supported", lambda: tiff([_white_is_0_float()])),
    _row("S10-rgba", None, lambda: tiff([_rgba((0, 129, 255))])),
    _row("S10-5-channels", None, lambda: tiff([_channels(5)])),
    _row("S10-palette", None, lambda: tiff([_palette()])),
    _row("S10-palette-without-colours", "pixel_format_not_supported", lambda: tiff([_without(_palette(), COLORMAP)])),
    _row("S10-ycbcr", "pixel_format_not_supported", _lies(t_262=("H", [YCBCR]))),
    _row("S10-cmyk", "pixel_format_not_supported", lambda: tiff([_channels(4, CMYK)])),
    _row("S10-lab", "pixel_format_not_supported", _lies(t_262=("H", [8]))),
]


def _aperio(pixels: np.ndarray) -> Page:
    return page(pixels, t_270=("s", APERIO + b"\0"))


def _planar() -> Page:
    one = page(t_284=("H", [2]))
    return Page(one.tags, [tile for sample in range(3) for tile in page(PIXELS[..., sample]).segments])


def _channels(number: int, photometric: int = GREY) -> Page:
    pixels = np.concatenate([PIXELS[..., :1]] * number, axis=2)
    return page(pixels, t_262=("H", [photometric]), t_338=("H", [0] * (number - (4 if photometric == CMYK else 1) or 1)))


def _rgba(alphas: Sequence[int]) -> Page:
    alpha = np.resize(np.array(alphas, np.uint8), (SIDE, SIDE, 1))
    return page(np.concatenate([PIXELS, alpha], axis=2), t_338=("H", [2]))


def _palette() -> Page:
    return page(PIXELS[..., 0], t_262=("H", [PALETTE]), t_320=("H", [257 * (value % 256) for value in range(768)]))


def _white_is_0_float() -> Page:
    return page(PIXELS[..., 0].astype("<f4"), t_339=("H", [3]), t_262=("H", [0]))


def _loop(sub: bool) -> bytes:
    """Return a file whose second directory is followed by the first, or whose first directory is below itself."""
    if sub:
        one = page()
        one.tags[SUB_IFDS] = ("I", [8])
        return tiff([one])
    content = tiff([page(), page()])
    second = int.from_bytes(content[8 + 2 + 12 * 10 :][:4], "little")
    last = second + 2 + 12 * 10
    return content[:last] + struct.pack("<I", 8) + content[last + 4 :]


def _many(directories: int) -> bytes:
    """Return a file of valid pages that share one pixel."""
    whole = tiff([page(PIXELS[:1, :1, 0], tile=None, compression=1)])
    one = whole[8:-5]  # without the place of the next one and the pixel
    places = range(8, 8 + directories * (len(one) + 4), len(one) + 4)
    strip = struct.pack("<HHI", STRIP_OFFSETS, 4, 1)
    at = one.index(strip) + len(strip)
    one = one[:at] + struct.pack("<I", places.stop) + one[at + 4 :]
    followers = [*places[1:], 0]
    return whole[:8] + b"".join(one + struct.pack("<I", place) for place in followers) + whole[-1:]


_DIRECTORIES = [  # S07
    _row("S07-loop", "tiff_bad_ifd", lambda: _loop(sub=False)),
    _row("S07-loop-below", "tiff_bad_ifd", lambda: _loop(sub=True)),
    _row("S07-200000-pages", "tiff_bad_ifd", lambda: _many(200_000)),
    _row("S07-5000-pages", "tiff_bad_ifd", lambda: _many(5000)),
    _row("S07-no-tags", "tiff_bad_ifd", lambda: b"II*\0\x08\0\0\0" + bytes(99)),
    _row("S07-300-tags", "tiff_bad_ifd", lambda: tiff([page(**{f"t_{40000 + n}": ("H", [1]) for n in range(300)})])),
    _row("S07-count-2-28", "tiff_bad_ifd", _entry(TILE_OFFSETS, 4, 2**28, 200)),
    _row("S07-count-2-40", "tiff_bad_ifd", _entry(TILE_OFFSETS, 16, 2**40, 200, big=True)),
    _row("S07-count-2-63", "tiff_bad_ifd", _entry(TILE_OFFSETS, 16, 2**63 + 1, 200, big=True)),
    _row("S07-value-past-the-end", "tiff_truncated", _entry(DESCRIPTION, 2, 100, 2**31)),
    _row("S07-first-past-the-end", "tiff_truncated", lambda: tiff([page()], first=2**31)),
    _row("S07-first-in-the-header", "tiff_bad_ifd", lambda: tiff([page()], first=4)),
    _row("S07-below-past-the-end", "tiff_truncated", _entry(SUB_IFDS, 4, 1, 2**31)),
    _row("S07-below-a-million", "tiff_bad_ifd", lambda: tiff([page(t_330=("I", [8] * 10**6))])),
    _row("S07-values-over-the-directory", "tiff_bad_ifd", _entry(DESCRIPTION, 2, 100, 10)),
    _row("S07-values-over-the-header", "tiff_bad_ifd", _entry(DESCRIPTION, 2, 5, 0)),
    _row("S07-values-over-values", "tiff_bad_ifd", lambda: _overlapping()),
    _row(
        "S07-tag-twice", "tiff_bad_ifd", lambda: tiff([page()]).replace(struct.pack("<HH", 277, 3), struct.pack("<HH", 256, 3))
    ),
    _row("S07-type-99", None, _entry(DESCRIPTION, 99, 1, 0)),
    _row("S07-type-0", None, _entry(DESCRIPTION, 0, 1, 0)),
    _row("S07-width-as-text", "tiff_bad_ifd", _entry(WIDTH, 2, 4, 64)),
    _row("S07-width-below-0", "tiff_bad_ifd", _entry(WIDTH, 9, 1, 2**32 - 64)),
    _row("S07-offsets-in-the-header", "tiff_bad_ifd", _lies(t_324=("I", [1, 1, 1, 1]))),
    _row("S07-strips-short", "tiff_bad_ifd", lambda: tiff([page(tile=None, t_278=("I", [8]))])),
    _row("S07-strips-of-0", "tiff_bad_ifd", lambda: tiff([page(tile=None, t_278=("I", [0]))])),
]


def _overlapping() -> bytes:
    one = page(t_270=("s", b"x" * 40), t_305=("s", b"y" * 40))
    content = tiff([one])
    at = content.index(struct.pack("<HHI", 305, 2, 40)) + 8
    (place,) = struct.unpack("<I", content[at : at + 4])
    return content[:at] + struct.pack("<I", place - 20) + content[at + 4 :]


def _cut(content: Callable[[], bytes], share: float) -> Callable[[], bytes]:
    return lambda: content()[: int(len(content()) * share)]


_WHOLE: dict[str, Callable[[], bytes]] = {
    "pyramid": pyramid,
    "aperio": lambda: pyramid(vendor=APERIO),
    "big": lambda: pyramid(big=True, order=">"),
    "below": lambda: tiff([_with_levels_below()]),
    "strips": lambda: tiff([page(tile=None)] * 2),
}


def _with_levels_below() -> Page:
    one = page(t_270=("s", ome()))
    one.subs = [page(PIXELS[::2, ::2], tile=16, t_254=("I", [1])), page(PIXELS[::4, ::4], tile=16, t_254=("I", [1]))]
    return one


_CUTS = [  # S08
    *(_row(f"S08-{name}-whole", None, content) for name, content in _WHOLE.items() if name != "strips"),
    *(
        _row(f"S08-{name}-{share}", "tiff_truncated", _cut(content, share / 100))
        for name, content in _WHOLE.items()
        for share in (*range(10, 100, 10), 99)
    ),
]


def _rotten(content: bytes, page_of: Page) -> bytes:
    """Return the file with the page's last tile overwritten."""
    at = content.index(page_of.segments[-1])
    return content[:at] + b"\xff" * len(page_of.segments[-1]) + content[at + len(page_of.segments[-1]) :]


_ROT = [  # S09
    _row("S09-tile", "tile_unreadable", lambda: _rotten(tiff([page()]), page()), "reader"),
    _row("S09-strip", "tile_unreadable", lambda: _rotten(tiff([page(tile=None)]), page(tile=None)), "reader"),
    _row("S09-aperio", "tile_unreadable", lambda: _rotten(tiff([_aperio(PIXELS)]), page()), "reader"),
]


def _reduced(pixels: np.ndarray) -> Page:
    return page(pixels, tile=16, t_254=("I", [1]))


_PYRAMIDS = [  # S11
    _row("S11-strips", None, lambda: tiff([page(tile=None)])),
    _row("S11-no-pyramid", None, lambda: tiff([page()])),
    _row("S11-factor-3-then-2", None, lambda: tiff([page(), _reduced(PIXELS[::3, ::3][:21, :21]), _reduced(PIXELS[::6, ::6])])),
    _row("S11-level-of-another-shape", "pyramid_not_supported", lambda: tiff([page(), _reduced(PIXELS[::2, ::4])])),
    _row("S11-level-twice", "pyramid_not_supported", lambda: tiff([page(), _reduced(PIXELS)])),
    _row("S11-levels-upside-down", None, lambda: tiff([_reduced(PIXELS[::4, ::4]), _reduced(PIXELS[::2, ::2]), page()])),
    _row("S11-label-and-macro", None, lambda: tiff([_aperio(PIXELS), *_label_and_macro()])),
    _row("S11-two-pages", "dimension_not_supported", lambda: tiff([page(), page()])),
    _row("S11-time-series", "dimension_not_supported", lambda: _planes(b'SizeC="1" SizeZ="1" SizeT="2"')),
    _row("S11-two-positions", "dimension_not_supported", lambda: _positions()),
    _row("S11-one-of-several-files", "several_files", lambda: tiff([page(t_270=("s", ome(rest=_UUID)))])),
]
_UUID = b'<TiffData IFD="0"><UUID FileName="../other/secret">urn:uuid:2</UUID></TiffData>'


def _label_and_macro() -> list[Page]:
    """Return Aperio's thumbnail, label and macro pages, in strips."""
    return [page(PIXELS[::8, ::8], tile=None), *(page(PIXELS[::2], tile=None, t_254=("I", [flag])) for flag in (1, 9))]


def _planes(sizes: bytes) -> bytes:
    text = OME + b'SizeX="64" SizeY="64" ' + sizes + b"><TiffData/></Pixels></Image></OME>\0"
    return tiff([page(PIXELS[..., 0], t_270=("s", text)), page(PIXELS[..., 1])])


def _positions() -> bytes:
    part = b'DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="64" SizeC="1" SizeZ="1" SizeT="1">'
    images = b"".join(
        b'<Image ID="Image:%d"><Pixels ID="p" %b<TiffData IFD="%d"/></Pixels></Image>' % (n, part, n) for n in (0, 1)
    )
    text = b'<?xml version="1.0"?><OME>' + images + b"</OME>\0"
    return tiff([page(PIXELS[..., 0], t_270=("s", text)), page(PIXELS[..., 1])])


def _index(name: str, text: bytes) -> Callable[[Path], Path]:
    """Return a function that writes an index file that points into another's folder."""

    def build(folder: Path) -> Path:
        (folder / "other").mkdir()
        (folder / "own").mkdir()
        for secret in ("secret", "secret.jpg"):
            (folder / "other" / secret).write_bytes(_picture("JPEG"))
        (folder / "own" / name).write_bytes(text)
        return folder / "own" / name

    return build


def _mirax(folder: Path) -> Path:
    (folder / "slide").mkdir()
    (folder / "slide" / "Slidedat.ini").write_bytes(b"[GENERAL]\nSLIDE_VERSION = 01.02\n[FILE]\nFILE_0 = ../other/secret\n")
    (folder / "slide.mrxs").write_bytes(_picture("JPEG"))
    return folder / "slide.mrxs"


_VMS = b"""[Virtual Microscope Specimen]
NoJpegColumns=1
NoJpegRows=1
ImageFile=../other/secret.jpg
MapFile=../other/secret.jpg
"""
_INDICES = [  # S13
    Row("S13-vms", _index("a.vms", _VMS), "unsupported_format"),
    Row("S13-vms-as-tiff", _index("a.tif", _VMS), "unsupported_format"),
    Row("S13-vmu", _index("a.vmu", _VMS.replace(b"[V", b"[Uncompressed V")), "unsupported_format"),
    Row("S13-mrxs", _mirax, "slide_vendor_not_supported"),
    Row("S13-ini-as-mrxs", _index("a.mrxs", b"[GENERAL]\nFILE_0 = /etc/passwd\n"), "unsupported_format"),
]


def _plain(colour: Sequence[int]) -> Callable[[], bytes]:
    return lambda: tiff(
        [page(np.broadcast_to(np.array(colour, np.uint8), (SIDE, SIDE, len(colour))).copy(), **_alpha_tag(colour))]
    )


def _alpha_tag(colour: Sequence[int]) -> dict[str, Tag]:
    return {"t_338": ("H", [2])} if len(colour) == 4 else {}


def _empty_aperio() -> bytes:
    """Return a slide in which no tile was scanned, so that all are left out."""
    one = _aperio(PIXELS)
    return tiff([Page(one.tags | {TILE_OFFSETS: ("I", [0] * 4), TILE_COUNTS: ("I", [0] * 4)}, [b""] * 4)])


_BLANKS = [  # S14
    _row("S14-white", None, _plain((255, 255, 255))),
    _row("S14-black", None, _plain((0, 0, 0))),
    _row("S14-transparent", None, _plain((0, 0, 0, 0))),
    _row("S14-nothing-scanned", None, _empty_aperio),
]


def _text(number: int, text: bytes) -> Callable[[], bytes]:
    return lambda: tiff([page(**{f"t_{number}": ("s", text + b"\0")})])


_LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><OME>&b;</OME>'
_TEXTS = [  # S15
    _row("S15-secrets", None, _text(DESCRIPTION, b"\x1b[31m\n".join(SECRETS))),
    _row("S15-secrets-and-broken", "tiff_bad_tiles", lambda: tiff([page(t_270=("s", SECRETS[0]), t_322=("I", [0]))])),
    _row("S15-laughs", "tiff_bad_ifd", _text(DESCRIPTION, _LAUGHS)),
    _row("S15-entity-of-a-file", "tiff_bad_ifd", _text(DESCRIPTION, _LAUGHS.replace(b'"ha"', b'SYSTEM "/etc/passwd"'))),
    _row("S15-laughs-as-xmp", "tiff_bad_ifd", _text(XMP, _LAUGHS)),
    _row("S15-100-mb-of-text", "tiff_bad_ifd", _entry(DESCRIPTION, 2, 100_000_000, 300)),
    _row("S15-17-mib-of-text", "tiff_bad_ifd", _text(DESCRIPTION, b" " * (17 * 2**20))),
    _row(
        "S15-ome-1e9-planes",
        "tiff_bad_ifd",
        _text(DESCRIPTION, ome(b'SizeX="64" SizeY="64" SizeC="3" SizeZ="1" SizeT="1000000000"')),
    ),
    _row(
        "S15-ome-1e12-planes",
        "tiff_bad_ifd",
        _text(DESCRIPTION, ome(b'SizeX="64" SizeY="64" SizeC="9999" SizeZ="9999" SizeT="9999"')),
    ),
    _row("S15-ome-count-spelled", "tiff_bad_ifd", _text(DESCRIPTION, ome(rest=b'<TiffData PlaneCount="&#57;999999999"/>'))),
    _row("S15-ome-count-1e9", "tiff_bad_ifd", _text(DESCRIPTION, ome(rest=b'<TiffData PlaneCount="1000000000"/>'))),
    _row(
        "S15-ome-axes-within-axes",
        "dimension_not_supported",
        _text(DESCRIPTION, ome(rest=b'<ModuloAlongZ Start="0" End="1e12"/>')),
    ),
    _row("S15-ome-that-ends-early", "tiff_broken", _text(DESCRIPTION, b'<?xml version="1.0"?><OME><Image></OME>')),
    _row("S15-imagej-1e9-images", "tiff_broken", _text(DESCRIPTION, b"ImageJ=1.54f\nimages=1000000000\nslices=1000000000\n")),
    _row("S15-shape-of-1e9", None, _text(DESCRIPTION, b'{"shape": [1000000000, 64, 64, 3]}')),
]

_JPEGS = [  # S16
    _row("S16-tables-cut", "tile_unreadable", _jpeg_file(t_347=("s", b"\xff\xd8\xff\xdb\0\x43\0" + bytes(9))), "reader"),
    _row("S16-tables-random", "tile_unreadable", _jpeg_file(t_347=("s", _noise(3, 400))), "reader"),
    _row("S16-without-a-frame", "tile_unreadable", _jpeg_file(lambda data: data.replace(b"\xff\xc0", b"\xff\xef")), "reader"),
    _row("S16-random-tile", "tile_unreadable", _jpeg_file(lambda data: _noise(4, 900)), "reader"),
    _row("S16-restarts", None, lambda: _jpeg_file(lambda data: _jpeg(restart_marker_blocks=1))()),
    _row("S16-picture-of-65500", "image_too_large", lambda: _claims(65500, 65500)(_picture("JPEG"))),
    _row("S16-picture-cut", "picture_broken", lambda: _jpeg()[:-200], "reader"),
    _row("S16-picture-without-a-frame", "picture_broken", lambda: _picture("JPEG").replace(b"\xff\xc0", b"\xff\xef")),
]

ROWS = [
    *_NAMES, *_EXTENTS, *_TILES, *_BOMBS, *_FORMATS, *_DIRECTORIES, *_CUTS, *_ROT, *_PYRAMIDS, *_INDICES, *_BLANKS, *_TEXTS,
    *_JPEGS,
]  # fmt: skip
