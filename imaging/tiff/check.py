"""Check of a TIFF's structure, tag by tag, before tifffile or OpenSlide, which can end the process, opens the file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage
from imaging.guards import MAX_SLIDE_PIXELS
from imaging.tiff.compressed_sizes import JPEG, JPEG_2000
from imaging.tiff.directories import Ifd, bad_ifd, truncated, walk

_MAX_SIDE_PX = 300_000
_MAX_SAMPLES = 256
_TILE_SIDES_PX = range(16, 4096 + 1, 16)
_ABSURD_TILE_PX = 65536
_LEAST_SEGMENT_BYTES = 2**16  # a codec's headers may be larger than a small tile
_NO_COMPRESSION, _LZW, _DEFLATES, _PACKBITS, _ZSTD = 1, 5, (8, 32946), 32773, 50000
_COMPRESSIONS = {_NO_COMPRESSION, _LZW, *_DEFLATES, _PACKBITS, _ZSTD, JPEG, *JPEG_2000}
_PREDICTED = {_NO_COMPRESSION, _LZW, *_DEFLATES, _ZSTD}
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRICS = {_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _YCBCR}
_UNSIGNED, _SIGNED, _FLOAT, _UNDEFINED = 1, 2, 3, 4
_PIXELS = {
    *((kind, bits) for kind in (_UNSIGNED, _UNDEFINED) for bits in (*range(1, 17), 32, 64)),
    *((_SIGNED, bits) for bits in (8, 16, 32, 64)),
    *((_FLOAT, bits) for bits in (16, 32, 64)),
}
_TEXTS = (270, 700)  # description and XMP
_ENTITIES = (b"<!DOCTYPE", b"<!ENTITY")
_OME_COUNT = re.compile(rb"""\b(Size[ZCT]|PlaneCount|NumPlanes|IFD|First[ZCT])\s*=\s*["']([^"']*)""")
_LONGEST_COUNT = 6  # digits
_MAX_PLANES = 2**20


@dataclass(frozen=True)
class TiffPageLayout:
    """Checked layout of one directory.

    Args:
        shape: (H, W).
        tile: (H, W) of its tiles; None for strips.
        is_sub: the directory belongs to another one.
        is_rgb8: three interleaved samples of 8 bits.
    """

    shape: tuple[int, int]
    tile: tuple[int, int] | None
    is_sub: bool
    is_rgb8: bool


@dataclass(frozen=True)
class CheckedTiff:
    """TIFF with a checked structure, the only input of the TIFF readers."""

    path: Path
    pages: tuple[TiffPageLayout, ...]

    @property
    def largest(self) -> TiffPageLayout:
        """The page with most pixels: level 0 of a slide."""
        return max(self.pages, key=lambda page: page.shape[0] * page.shape[1])


def check_tiff(path: Path, max_pages: int) -> CheckedTiff:
    """Check the file's structure: directories, sizes, tiles and the kinds of pixels; nothing is decoded.

    Kinds of pixels are checked where readers look at them: on the first page and on those with tiles.

    Args:
        path: the file.
        max_pages: most directories to take.

    Raises:
        UnsupportedFormat: `unsupported_format` if it isn't a TIFF.
        BrokenImage: `tiff_bad_ifd`, `tiff_truncated`, `tiff_bad_tiles`, `slide_too_small` for a side of 0.
        ImageTooLarge: `slide_too_large`.
        UnsuitableImage: `tile_size_not_supported`, `pixel_format_not_supported`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        pages = [_page(ifd, number, size) for number, ifd in enumerate(walk(path, file, max_pages))]
    return CheckedTiff(path, tuple(pages))


def _page(ifd: Ifd, number: int, size: int) -> TiffPageLayout:
    shape = ifd.number(257, 0), ifd.number(256, 0)
    if 0 in shape:
        raise BrokenImage("slide_too_small", f"the TIFF declares the size {shape}; each side needs 1 pixel or more")
    if max(shape) > _MAX_SIDE_PX or shape[0] * shape[1] > MAX_SLIDE_PIXELS:
        raise ImageTooLarge(
            "slide_too_large",
            f"the TIFF declares the size {shape}, at most {_MAX_SIDE_PX} a side and {MAX_SLIDE_PIXELS} pixels are allowed; "
            "cut out the part that matters",
            MAX_SLIDE_PIXELS,
        )
    tile = _tile(ifd)
    samples = ifd.number(277, 1)
    if number == 0 or tile:
        _check_pixels(ifd, samples)
    planes = samples if ifd.number(284, 1) == 2 else 1
    segment = tile or (min(ifd.number(278, shape[0]), shape[0]), shape[1])
    if 0 in segment:
        raise bad_ifd()
    count = -(-shape[0] // segment[0]) * -(-shape[1] // segment[1]) * planes
    _check_segments(ifd, count, segment[0] * segment[1] * samples // planes, size)
    _check_texts(ifd)
    rgb8 = samples == 3 and planes == 1 and set(ifd.numbers(258).tolist()) == {8} and ifd.number(262, 0) in (_RGB, _YCBCR)
    return TiffPageLayout(shape, tile, ifd.is_sub, rgb8)


def _tile(ifd: Ifd) -> tuple[int, int] | None:
    if 322 not in ifd and 323 not in ifd:
        return None
    tile = ifd.number(323, 0), ifd.number(322, 0)
    if not all(0 < side <= _ABSURD_TILE_PX for side in tile):
        raise _bad_tiles(f"the TIFF's tiles are {tile}")
    if not all(side in _TILE_SIDES_PX for side in tile):
        raise UnsuitableImage(
            "tile_size_not_supported",
            f"the TIFF's tiles are {tile}, sides of 16 to 4096 in steps of 16 are allowed; save it with tiles of 512",
        )
    return tile


def _bad_tiles(what: str) -> DataError:
    return BrokenImage("tiff_bad_tiles", f"{what}, which can't be for its size; save it with tiles of 512")


def _check_segments(ifd: Ifd, expected: int, values: int, size: int) -> None:
    """Check that each tile or strip lies in the file; one without bytes is missing, and read as background."""
    tags = (324, 325) if 322 in ifd else (273, 279)
    if not ifd.count(tags[0]) == ifd.count(tags[1]) == expected:
        raise _bad_tiles(f"the TIFF has {ifd.count(324)} tiles of {expected}") if 322 in ifd else bad_ifd()
    offsets, counts = ifd.far(ifd.numbers(tags[0])), ifd.numbers(tags[1])
    offsets, counts = offsets[counts > 0], counts[counts > 0]
    if (offsets > size).any() or (counts > size).any() or (offsets + counts > size).any():
        raise truncated()
    most = 2 * values * max(1, ifd.number(258, 1) // 8) + _LEAST_SEGMENT_BYTES
    is_compressed = ifd.number(259, _NO_COMPRESSION) != _NO_COMPRESSION
    if (offsets < 8).any() or (is_compressed and (counts > most).any()):
        raise bad_ifd()


def _check_pixels(ifd: Ifd, samples: int) -> None:
    bits, formats = _same(ifd.numbers(258), 1), _same(ifd.numbers(339), _UNSIGNED)
    compression, photometric = ifd.number(259, _NO_COMPRESSION), ifd.number(262, -1)
    flat = ifd.number(32997, 1) == ifd.number(32998, 1) == 1
    sound = compression in _COMPRESSIONS and photometric in _PHOTOMETRICS and ifd.number(284, 1) in (1, 2)
    if not (sound and flat and 0 < samples <= _MAX_SAMPLES and (formats, bits) in _PIXELS and _predictor_fits(ifd, formats)):
        raise UnsuitableImage(
            "pixel_format_not_supported",
            f"the TIFF has {samples} samples a pixel of {bits or 'several'} bits, in an unsupported type or compression; "
            f"allowed are grey, RGB, palette and at most {_MAX_SAMPLES} channels of whole numbers of 1 to 16, 32 or 64 bits "
            "or real numbers, and none, LZW, deflate, PackBits, Zstandard, JPEG or JPEG 2000 as compression",
        )


def _predictor_fits(ifd: Ifd, sample_format: int) -> bool:
    predictor = ifd.number(317, 1)
    if predictor == 1:
        return True
    fits = sample_format == _FLOAT if predictor == 3 else predictor == 2 and sample_format != _FLOAT
    return fits and ifd.number(259, _NO_COMPRESSION) in _PREDICTED and ifd.number(258, 1) >= 8


def _same(values: NDArray[np.uint64], default: int) -> int:
    """Return the value that all samples share; 0 if they differ."""
    kinds: Sequence[int] = np.unique(values).tolist() or [default]
    return kinds[0] if len(kinds) == 1 else 0


def _check_texts(ifd: Ifd) -> None:
    """Check the texts in which readers parse XML: entities expand or name other files, and OME's counts become lists."""
    for text in map(ifd.payload, _TEXTS):
        if any(entity in text.upper() for entity in _ENTITIES):
            raise bad_ifd()
        most: dict[bytes, int] = {}
        for name, value in _OME_COUNT.findall(text):
            if not value.isdigit() or len(value) > _LONGEST_COUNT:
                raise bad_ifd()
            most[name] = max(int(value), most.get(name, 1))
        if prod(most.get(name, 1) for name in (b"SizeZ", b"SizeC", b"SizeT")) > _MAX_PLANES:
            raise bad_ifd()
        if b"ModuloAlong" in text:
            raise UnsuitableImage("dimension_not_supported", "the TIFF has axes within axes; save one 2D image or one Z stack")
