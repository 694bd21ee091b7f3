"""TIFF images, plain or tiled, with or without a pyramid -> (C, H, W) region by region, through tifffile."""

import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffPage, TiffPageSeries

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage
from imaging.pixels import over_white
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region
from imaging.tiff_levels import JPEG_COMPRESSIONS, TiledLevel, WholeLevel, is_mapped, plane_of, tile_pixels
from imaging.tiff_spacing import spacing_um

MAX_TILED_PIXELS = 10**11
MAX_HELD_PIXELS = 2**29
TIFF_ERRORS = (  # what tifffile and imagecodecs were seen to raise on broken files
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ZeroDivisionError, OverflowError,
    MemoryError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip

_MAX_TILE_PIXELS = 8192**2
_MAX_CHANNELS = 256
_DTYPES = ("uint8", "uint16", "int16", "float32")
_CHANNEL_AXES = "SCQ"  # samples, channels, and tifffile's letter for a first axis without a name
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2


class TiffSource(ImageSource):
    """A TIFF's first image: grey, RGB or several channels, of 8 or 16 bits or float32, with its pyramid's levels.

    Transparent pixels are laid on white; grey in which white is 0 is turned round. Where a level is tiled, a region costs
    the tiles that it touches; where it isn't, the level is mapped if it lies uncompressed in one piece, else decoded once.

    Args:
        path: the file.
        max_pixels: most pixels to take; None means 10**11 for levels that are tiled or mapped, 2**29 for others.
        read_labels: values come as stored: a palette's indices, and no turning round.

    Raises:
        BrokenImage: `tiff_broken`, `tiff_truncated`, `tiff_bad_tiles`.
        ImageTooLarge: `image_too_large`, by the header, before anything is decoded.
        UnsuitableImage: `pixel_format_not_supported`, or `dimension_not_supported` for stacks and time series; at a read
            `non_finite_pixels`.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, path: Path, max_pixels: int | None = None, *, read_labels: bool = False) -> None:
        self._tiff = opened(path)
        try:
            self._prepare(max_pixels, read_labels)
        except TIFF_ERRORS as error:
            self._tiff.close()
            raise _broken() from error
        except DataError:
            self._tiff.close()
            raise

    def _prepare(self, max_pixels: int | None, read_labels: bool) -> None:
        series = _first_series(self._tiff)
        _check_pixels(series, read_labels)
        _check_sizes(series, max_pixels)
        self._read_labels = read_labels
        self._page = series.keyframe
        self._readers = [TiledLevel(level) if level.keyframe.is_tiled else WholeLevel(level) for level in series.levels]
        self._alpha = 0 if read_labels else _alpha(self._page)
        levels = _levels(series, spacing_um(self._tiff))
        channels = _channels(series) - (1 if self._alpha else 0)
        dtype = np.dtype(series.dtype).newbyteorder("=")
        super().__init__(Geometry(levels[0].shape, levels[0].spacing_um), channels, dtype, levels)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        rows, columns = region
        try:
            stored = self._readers[level].read(rows, columns)
        except TIFF_ERRORS as error:
            raise BrokenImage("tile_unreadable", "a part of the TIFF can't be decoded; export the image again") from error
        if self.dtype.kind == "f" and not np.isfinite(stored).all():
            raise UnsuitableImage(
                "non_finite_pixels", "the TIFF holds pixels that are NaN or infinite; replace them with numbers"
            )
        return self._shown(stored)

    def _shown(self, stored: NDArray[Any]) -> NDArray[Any]:
        pixels = np.array(stored, self.dtype)  # a copy, in the machine's byte order
        if self._alpha:
            return over_white(pixels[:-1], pixels[-1], premultiplied=self._alpha == _ASSOCIATED_ALPHA)
        if self._page.photometric == PHOTOMETRIC.MINISWHITE and not self._read_labels:
            return np.iinfo(self.dtype).max - pixels
        return pixels

    def close(self) -> None:
        """Closes the file and lets go of what was decoded."""
        self._readers = []
        self._tiff.close()


def opened(path: Path) -> TiffFile:
    """The file, open, its structure checked: offsets inside the file, no page missing at the end, tiles of a sane size.

    Raises:
        BrokenImage: `tiff_broken`, `tiff_truncated`, `tiff_bad_tiles`.
    """
    try:
        tiff = TiffFile(path)
    except TIFF_ERRORS as error:
        raise _broken() from error
    try:
        tiff.filehandle.set_lock(True)
        _check_structure(tiff)
    except TIFF_ERRORS as error:
        tiff.close()
        raise _broken() from error
    except BrokenImage:
        tiff.close()
        raise
    return tiff


def is_rgb8(tiff: TiffFile) -> bool:
    """Whether OpenSlide would read the file without a loss: three samples of 8 bits."""
    page = tiff.pages.first
    colours = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR)
    return bool(colours and page.samplesperpixel == 3 and page.bitspersample == 8)


def _broken() -> BrokenImage:
    return BrokenImage("tiff_broken", "the TIFF's structure can't be read; export the image again")


def _check_structure(tiff: TiffFile) -> None:
    if not tiff.series or not tiff.series[0].levels:
        raise _broken()
    if _next_page(tiff) != 0:
        raise _truncated()  # tifffile would only log it, and a level would be missing
    for level in tiff.series[0].levels:
        if level.keyframe.is_tiled and any(page is None for page in level.pages):
            raise _truncated()
        for page in (page for page in level.pages if page is not None):
            ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True) if count)
            if max(ends, default=0) > tiff.filehandle.size:
                raise _truncated()
        if level.keyframe.is_tiled and not 0 < tile_pixels(level.keyframe) <= _MAX_TILE_PIXELS:
            raise BrokenImage(
                "tiff_bad_tiles",
                f"the TIFF's tiles are {level.keyframe.tile}, at most {_MAX_TILE_PIXELS} pixels are allowed in one; "
                "save it with tiles of 512",
            )


def _truncated() -> BrokenImage:
    return BrokenImage("tiff_truncated", "the TIFF points to data beyond its end; it was cut, send or export it again")


def _next_page(tiff: TiffFile) -> int:
    """The offset that the last page gives for a next one; 0 in a whole file."""
    file, kind = tiff.filehandle, tiff.tiff
    offset = tiff.pages[-1].offset
    file.seek(offset)
    (tags,) = struct.unpack(kind.tagnoformat, file.read(kind.tagnosize))
    file.seek(offset + kind.tagnosize + tags * kind.tagsize)
    return int(struct.unpack(kind.offsetformat, file.read(kind.offsetsize))[0])


def _first_series(tiff: TiffFile) -> TiffPageSeries:
    series = tiff.series[0]
    if any(page is not None and page.parent is not tiff for page in series.pages):
        raise UnsuitableImage("several_files", "the TIFF is one of several that belong together; save the image as one file")
    axes = series.axes
    channel_axes = [axis for axis in axes if axis not in "YX"]
    if "Y" not in axes or "X" not in axes or len(channel_axes) > 1 or not set(channel_axes) <= set(_CHANNEL_AXES):
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the TIFF has the size {tuple(series.shape)}, a stack or a series; send one 2D image, or a volume as NIfTI",
        )
    return series


def _check_pixels(series: TiffPageSeries, read_labels: bool) -> None:
    page = series.keyframe
    kinds = {PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB}
    kinds |= {PHOTOMETRIC.YCBCR} if page.compression in JPEG_COMPRESSIONS else set()  # tifffile turns it into RGB
    kinds |= {PHOTOMETRIC.PALETTE} if read_labels else set()
    dtype = "none" if page.dtype is None else page.dtype.name
    if page.photometric not in kinds or dtype not in _DTYPES or page.imagedepth != 1 or _channels(series) > _MAX_CHANNELS:
        raise UnsuitableImage(
            "pixel_format_not_supported",
            f"the TIFF's pixels are {_channels(series)} x {dtype} of a kind that isn't read; "
            f"allowed are grey, RGB and at most {_MAX_CHANNELS} channels of {', '.join(_DTYPES)}",
        )


def _check_sizes(series: TiffPageSeries, max_pixels: int | None) -> None:
    for level in series.levels:
        pixels = prod(plane_of(level))
        lasting = level.keyframe.is_tiled or is_mapped(level)
        limit = max_pixels if max_pixels is not None else MAX_TILED_PIXELS if lasting else MAX_HELD_PIXELS
        if pixels < 1:
            raise _broken()
        if pixels > limit:
            raise ImageTooLarge(
                "image_too_large",
                f"the TIFF has {pixels} pixels, at most {limit} are allowed; cut it, or save it with tiles",
                limit,
            )


def _channels(series: TiffPageSeries) -> int:
    return int(prod(series.shape) // max(1, prod(plane_of(series))))


def _alpha(page: TiffPage) -> int:
    """The kind of alpha that the last sample is; 0 for none."""
    kinds = (_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA)
    kind = int(page.extrasamples[-1]) if page.extrasamples and page.samplesperpixel in (2, 4) else 0
    return kind if kind in kinds and page.bitspersample in (8, 16) else 0


def _levels(series: TiffPageSeries, spacing: tuple[float, float] | None) -> tuple[Level, ...]:
    whole = plane_of(series)
    shapes = [plane_of(level) for level in series.levels]
    steps = [(whole[0] / height, whole[1] / width) for height, width in shapes]
    spacings = [spacing and (spacing[0] * step[0], spacing[1] * step[1]) for step in steps]
    return tuple(Level(shape, value) for shape, value in zip(shapes, spacings, strict=True))
