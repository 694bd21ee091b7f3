"""TIFF images and Z stacks, (C, *S), plain or tiled, with or without a pyramid, read region by region through tifffile."""

import logging
import struct
import zlib
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage
from imaging.guards import MAX_SLIDE_PIXELS
from imaging.source import Geometry, ImageSource, Level, MaskFormat, ReadOptions, Region, check_range, over_white
from imaging.tiff.check import CheckedTiff
from imaging.tiff.compressed_sizes import APERIO_YCBCR, JPEG
from imaging.tiff.levels import MappedLevel, SegmentCache, SegmentedLevel, is_mapped, segment_bytes, segment_shape
from imaging.tiff.series import broken, channels_of, image_levels, shape_of
from imaging.tiff.spacing import spacing_um

MAX_HELD_PIXELS = 2**29
TIFF_ERRORS = (  # that tifffile and imagecodecs raise on broken files
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, MemoryError,
    RuntimeError, SyntaxError, struct.error, zlib.error,
)  # fmt: skip

_CACHE_BYTES = 32 * 2**20
_MAX_CHANNELS = 256
_ORIENTATION_TAG, _TOP_LEFT = 274, 1
_READ_AS = {  # stored type -> type of the pixels; values that this would change are refused
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "int8": "int16", "int16": "int16", "int32": "int32", "int64": "int64",
    "bool": "uint8", "float16": "float32", "float32": "float32", "float64": "float32",
}  # fmt: skip
_AS_DECLARED = ReadOptions()
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2
_OTHER_KINDS = (  # layouts of tifffile that aren't supported here, since some consist of several files
    "lsm", "mmstack", "ndtiff", "fluoview", "stk", "sis", "scn", "ndpi", "bif", "avs", "eer", "philips", "scanimage", "nih",
    "mdgel",
)  # fmt: skip

logging.getLogger("tifffile").disabled = True  # its messages contain paths and the file's texts


class TiffSource(ImageSource):
    """A TIFF's first image: grey, RGB, palette or several channels, or a Z stack of them, with its pyramid's levels.

    Integers keep their type except int8, which becomes int16; bits become 0 and 255, real numbers float32. Transparent pixels
    are blended with white, palettes become the colours that they show, grey in which white is 0 is inverted. The orientation
    tag is not applied, as in tifffile, with the remark `orientation_ignored`. A region costs the tiles or strips that it
    touches; what lies uncompressed in one piece is mapped.

    Args:
        tiff: the file, checked.
        max_pixels: most pixels to take; None means 10**11.
        options: how the file is to be read. Labels are read as stored: a palette's indices, bits as 0 and 1, and not inverted.

    Raises:
        BrokenImage: `tiff_broken`, `tiff_truncated`; at a read `tile_unreadable`, after which other regions can be read.
        ImageTooLarge: `slide_too_large`, by the header, before anything is decoded.
        UnsuitableImage: `pixel_format_not_supported`, `several_files`, `pyramid_not_supported`, or
            `dimension_not_supported` for time series and several positions; at a read `non_finite_pixels`, and
            `value_range` for integers of 64 bits.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, tiff: CheckedTiff, max_pixels: int | None = None, options: ReadOptions = _AS_DECLARED) -> None:
        other_kinds: dict[str, Any] = {f"is_{kind}": False for kind in _OTHER_KINDS}
        try:
            self._tiff = TiffFile(tiff.path, _multifile=False, **other_kinds)
        except TIFF_ERRORS as error:
            raise broken() from error
        self._tiff.filehandle.set_lock(True)
        try:
            self._prepare(MAX_SLIDE_PIXELS if max_pixels is None else max_pixels, options)
        except TIFF_ERRORS as error:
            self._tiff.close()
            raise broken() from error
        except DataError:
            self._tiff.close()
            raise

    def _prepare(self, max_pixels: int, options: ReadOptions) -> None:
        levels = image_levels(self._tiff, options)
        first = levels[0]
        self._page = first.keyframe
        self._read_labels = read_labels = options.labels
        _check_pixels(first)
        _check_size("pixels", prod(shape_of(first)), max_pixels)
        for level in (level for level in levels if not is_mapped(level)):
            _check_size("pixels in one strip", prod(segment_shape(level.keyframe)), MAX_HELD_PIXELS)
        self._largest_segment_bytes = max(segment_bytes(level.keyframe) for level in levels)
        self._readers = _readers(levels, SegmentCache(_CACHE_BYTES), 0 if read_labels else _background(self._page))
        self._alpha = 0 if read_labels or channels_of(first) == 1 else _alpha(self._page)
        self._palette = None if read_labels else _palette(self._page)
        shape = shape_of(first)
        spacing = spacing_um(self._tiff, "ZYX"[-len(shape) :])
        resolutions = []
        for level_shape in map(shape_of, levels):
            steps = [whole / size for whole, size in zip(shape, level_shape, strict=True)]
            level_spacing = spacing and tuple(value * step for value, step in zip(spacing, steps, strict=True))
            resolutions.append(Level(level_shape, level_spacing))
        channels = 3 if self._palette is not None else channels_of(first) - (1 if self._alpha else 0)
        dtype = np.dtype("uint8" if self._palette is not None else _READ_AS[first.dtype.name])
        super().__init__(Geometry(shape, spacing), channels, dtype, tuple(resolutions))
        orientation = self._page.tags.valueof(_ORIENTATION_TAG, _TOP_LEFT)
        if orientation != _TOP_LEFT:
            self.file_warnings = ("orientation_ignored",)

    @property
    def held_bytes(self) -> int:
        """Upper limit of the decoded tiles in the cache, which holds at least one."""
        return max(_CACHE_BYTES, self._largest_segment_bytes)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        try:
            stored = self._readers[level].read(region)
        except TIFF_ERRORS as error:
            raise BrokenImage("tile_unreadable", "a part of the TIFF can't be decoded; export the image again") from error
        if stored.dtype.kind in "iu" and stored.dtype.itemsize == 8:
            check_range(stored)
        if self.dtype.kind == "f" and not (np.abs(stored) <= np.finfo(np.float32).max).all():
            raise UnsuitableImage(
                "non_finite_pixels",
                "the TIFF holds pixels that are NaN, infinite or too large for float32; replace them with numbers",
            )
        return self._convert(stored)

    def _convert(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels with their colours and their type."""
        if self._palette is not None:
            return np.moveaxis(self._palette[stored[0]], -1, 0)  # (3, *S)
        pixels = np.array(stored, self.dtype)  # a copy, in the machine's byte order
        if self._read_labels:
            return pixels
        if stored.dtype == np.bool_:
            pixels *= 255
        if self._alpha:
            premultiplied = self._alpha == _ASSOCIATED_ALPHA
            return over_white(pixels[:-1], pixels[-1], white=_largest_value(self._page), premultiplied=premultiplied)
        return _largest_value(self._page) - pixels if self._page.photometric == PHOTOMETRIC.MINISWHITE else pixels

    def close(self) -> None:
        """Close the file and release decoded tiles."""
        self._readers = []
        self._tiff.close()


def _check_pixels(series: TiffPageSeries) -> None:
    page = series.keyframe
    dtype = "none" if page.dtype is None else page.dtype.name
    if not _photometric_fits(page, channels_of(series)) or dtype not in _READ_AS or channels_of(series) > _MAX_CHANNELS:
        raise UnsuitableImage(
            "pixel_format_not_supported",
            f"the TIFF's pixels are {channels_of(series)} x {dtype} in an unsupported format; "
            f"allowed are grey, RGB, palette and at most {_MAX_CHANNELS} channels of {', '.join(_READ_AS)}",
        )


def _photometric_fits(page: TiffPage, channels: int) -> bool:
    """Return True for supported colours: YCbCr only where the JPEG decoder converts it, never JPEG 2000's unmarked YCbCr."""
    kind, compression = page.photometric, int(page.compression)
    if kind == PHOTOMETRIC.PALETTE:
        is_index = channels == 1 and page.dtype in (np.uint8, np.uint16) and page.colormap is not None
        return is_index and np.asarray(page.colormap).shape[1] > _largest_value(page)
    if kind == PHOTOMETRIC.MINISWHITE:
        return np.dtype(page.dtype).kind in "ub"
    if kind == PHOTOMETRIC.YCBCR:
        return compression == JPEG
    return kind in (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB) and compression != APERIO_YCBCR


def _check_size(what: str, pixels: int, limit: int) -> None:
    if pixels > limit:
        raise ImageTooLarge(
            "slide_too_large",
            f"the TIFF has {pixels} {what}, at most {limit} are allowed; cut it, or save it with tiles",
            limit,
        )


def _largest_value(page: TiffPage) -> int:
    """Return the largest value of integers without a sign, as read: bits become 0 and 255."""
    return 255 if page.dtype == np.bool_ else 2 ** int(page.bitspersample) - 1


def _background(page: TiffPage) -> float:
    """Return the value of missing tiles, which weren't scanned: white in colour images, dark in channels."""
    white = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) and page.dtype in (np.uint8, np.uint16)
    return float(_largest_value(page) if white else page.nodata)


def _readers(levels: list[TiffPageSeries], cache: SegmentCache, background: float) -> list[MappedLevel | SegmentedLevel]:
    return [
        MappedLevel(level) if is_mapped(level) else SegmentedLevel(level, number, cache, background)
        for number, level in enumerate(levels)
    ]


def _palette(page: TiffPage) -> NDArray[np.uint8] | None:
    """Return the colours of each index, (indices, 3); some programs store them in the lower 8 of the 16 bits."""
    if page.photometric != PHOTOMETRIC.PALETTE:
        return None
    colours = np.asarray(page.colormap).T  # (indices, 3)
    return (colours if colours.max() < 256 else colours >> 8).astype(np.uint8)


def _alpha(page: TiffPage) -> int:
    """Return the kind of alpha of the last sample; 0 for none."""
    kinds = (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA)
    kind = int(page.extrasamples[-1]) if page.extrasamples and page.samplesperpixel in (2, 4) else 0
    return kind if kind in kinds and page.dtype in (np.uint8, np.uint16) else 0
