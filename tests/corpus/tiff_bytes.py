"""TIFF files built byte by byte, valid ones and ones with false entries."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

SIDE = 64
TILE = 32
PIXELS = np.random.default_rng(7).integers(0, 200, (SIDE, SIDE, 3)).astype(np.uint8)

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 256, 257, 258, 259, 262, 270
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
COLORMAP, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS, SUB_IFDS = 320, 322, 323, 324, 325, 330
SUBFILE, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, XMP = 254, 338, 339, 347, 700
RGB, GREY, PALETTE, CMYK, YCBCR = 2, 1, 3, 5, 6
LZW, JPEG, DEFLATE, APERIO_RGB = 5, 7, 8, 33005

KINDS = {"B": 1, "s": 2, "H": 3, "I": 4, "r": 5, "i": 9, "f": 11, "Q": 16}  # r: numerators and denominators in turn
Tag = tuple[str, Sequence[int] | bytes]


@dataclass
class Page:
    """Directory of a TIFF: its tags, the tiles or strips that they point to, and the directories below it.

    Args:
        tags: letter of `struct` and values by number; offsets and counts are added unless they are given.
        segments: bytes of the tiles or strips.
        entries: type, count and value by number, which are written instead of those of the tag.
        subs: pages below this one.
    """

    tags: dict[int, Tag]
    segments: list[bytes]
    entries: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    subs: list["Page"] = field(default_factory=list)


def page(pixels: np.ndarray = PIXELS, *, tile: int | None = TILE, compression: int = DEFLATE, **tags: object) -> Page:
    """Return a page of (H, W) or (H, W, samples), valid except for tags that are given as t_NUMBER."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    made: dict[int, Tag] = {
        WIDTH: ("I", [width]),
        HEIGHT: ("I", [height]),
        BITS: ("H", [8 * pixels.itemsize] * samples),
        COMPRESSION: ("H", [compression]),
        PHOTOMETRIC: ("H", [RGB if samples >= 3 else GREY]),
        SAMPLES: ("H", [samples]),
    }
    made |= {TILE_WIDTH: ("I", [tile]), TILE_LENGTH: ("I", [tile])} if tile else {ROWS_PER_STRIP: ("I", [height])}
    made |= {int(name[2:]): value for name, value in tags.items()}  # type: ignore[misc]
    blocks = _blocks(pixels, tile) if tile else [pixels]
    return Page(made, [zlib.compress(block.tobytes()) if compression == DEFLATE else block.tobytes() for block in blocks])


def tiff(pages: Sequence[Page], *, order: str = "<", big: bool = False, first: int | None = None, ndpi: bool = False) -> bytes:
    """Return the file: the header, then each page's directory, values, segments and the pages below it."""
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    word = order + ("Q" if big or ndpi else "I")
    content = bytearray(head + struct.pack(word, len(head) + struct.calcsize(word) if first is None else first))
    for number, one in enumerate(pages):
        _append(content, one, _Layout(order, big, ndpi), last=number == len(pages) - 1)
    return bytes(content)


@dataclass
class _Layout:
    order: str
    big: bool
    ndpi: bool

    @property
    def following(self) -> str:
        """Letter of `struct` for the offset of the next directory."""
        return "Q" if self.big or self.ndpi else "I"

    def pack(self, kind: str, values: Sequence[int] | bytes) -> bytes:
        if isinstance(values, bytes):
            return values
        return struct.pack(f"{self.order}{len(values)}{'I' if kind == 'r' else kind}", *values)


def _append(content: bytearray, one: Page, layout: _Layout, *, last: bool) -> None:
    word, count = ("Q", "Q") if layout.big else ("I", "H")
    tiled = TILE_WIDTH in one.tags
    places = dict.fromkeys((TILE_OFFSETS if tiled else STRIP_OFFSETS, TILE_COUNTS if tiled else STRIP_COUNTS), ())
    places |= {SUB_IFDS: ()} if one.subs else {}
    tags: dict[int, Tag] = {number: (word, [0] * len(one.segments)) for number in places} | one.tags
    tags |= {SUB_IFDS: (word, [0] * len(one.subs))} if one.subs else {}
    start = len(content)
    ends = {}
    size = struct.calcsize("=" + count) + len(tags) * (20 if layout.big else 12) + struct.calcsize("=" + layout.following)
    at = start + size
    for number in sorted(tags):
        length = len(layout.pack(*tags[number]))
        if length > struct.calcsize("=" + word):
            ends[number], at = at, at + length + length % 2
    *offsets, at = accumulate(map(len, one.segments), initial=at)
    made: dict[int, Tag] = {TILE_OFFSETS: (word, offsets), STRIP_OFFSETS: (word, offsets)}
    made |= dict.fromkeys((TILE_COUNTS, STRIP_COUNTS), (word, [len(segment) for segment in one.segments]))
    below = bytearray(content) + bytes(at - len(content))
    subs = []
    for sub in one.subs:
        subs.append(len(below))
        _append(below, sub, layout, last=True)
    made[SUB_IFDS] = (word, subs)
    tags = {number: made[number] if number in made and number not in one.tags else tag for number, tag in tags.items()}
    content += _directory(tags, ends, one, layout, 0 if last else len(below))
    for number in sorted(ends):
        stored = layout.pack(*tags[number])
        content += stored + bytes(len(stored) % 2)
    content += b"".join(one.segments) + below[at:]


def _directory(tags: dict[int, Tag], ends: dict[int, int], one: Page, layout: _Layout, following: int) -> bytes:
    word = "Q" if layout.big else "I"
    stored = layout.pack("Q" if layout.big else "H", [len(tags)])
    for number, (kind, values) in sorted(tags.items()):
        place = layout.pack(word, [ends[number]]) if number in ends else layout.pack(kind, values)
        entry = layout.pack("H", [number, KINDS[kind]]) + layout.pack(word, [len(values) // (2 if kind == "r" else 1)])
        if number in one.entries:
            lie, count, value = one.entries[number]
            entry, place = layout.pack("H", [number, lie]) + layout.pack(word, [count]), layout.pack(word, [value])
        stored += entry + place.ljust(struct.calcsize("=" + word), b"\0")
    return stored + layout.pack(layout.following, [following])


def _blocks(pixels: np.ndarray, tile: int) -> list[np.ndarray]:
    height, width = (-(-size // tile) * tile for size in pixels.shape[:2])
    padded = np.zeros((height, width, *pixels.shape[2:]), pixels.dtype)
    padded[: pixels.shape[0], : pixels.shape[1]] = pixels
    return [padded[top : top + tile, left : left + tile] for top in range(0, height, tile) for left in range(0, width, tile)]


def pyramid(*, order: str = "<", big: bool = False, vendor: bytes = b"") -> bytes:
    """Return a valid file of three levels, which OpenSlide reads if `vendor` is Aperio's description."""
    text = {f"t_{DESCRIPTION}": ("s", vendor + b"\0")} if vendor else {}
    flag = {f"t_{SUBFILE}": ("I", [1])}
    levels = [PIXELS, PIXELS[::2, ::2], PIXELS[::4, ::4]]
    kinds: list[dict[str, object]] = [{}, flag, flag] if not vendor else [{}, {}, {}]
    pages = [page(level, tile=16, **text, **kind) for level, kind in zip(levels, kinds, strict=True)]
    return tiff([pages[0], page(PIXELS[::8, ::8], tile=None), *pages[1:]] if vendor else pages, order=order, big=big)


APERIO = b"Aperio Image Library v12\n64x64 (16x16)|AppMag = 40|MPP = 0.25"
OME = b'<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '


def ome(sizes: bytes = b'SizeX="64" SizeY="64" SizeC="3" SizeZ="1" SizeT="1"', rest: bytes = b'<TiffData IFD="0"/>') -> bytes:
    """Return the OME description of the valid page."""
    channel = b'<Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
    return OME + sizes + b">" + channel + rest + b"</Pixels></Image></OME>\0"
