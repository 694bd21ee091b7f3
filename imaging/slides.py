"""Whole slides of scanner makers, (3, H, W), read region by region through OpenSlide."""

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from openslide import (
    PROPERTY_NAME_BOUNDS_X,
    PROPERTY_NAME_BOUNDS_Y,
    PROPERTY_NAME_MPP_X,
    PROPERTY_NAME_MPP_Y,
    OpenSlide,
    OpenSlideCache,
    OpenSlideError,
)

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import MAX_SLIDE_PIXELS
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region, over_white
from imaging.tiff.check import CheckedTiff
from imaging.tiff.series import check_pyramid

VENDORS = ("aperio", "hamamatsu", "leica", "philips", "ventana")  # each slide is one TIFF
MIRAX, MIRAX_SUFFIX = "mirax", ".mrxs"  # a folder of files beside a JPEG, which only its name distinguishes from a picture
GENERIC = "generic-tiff"  # a tiled TIFF of no maker, which tifffile reads without loss, and faster

_CACHE_BYTES = 32 * 2**20
_Number = TypeVar("_Number", int, float)


class SlideSource(ImageSource):
    """A slide as uint8 RGB with its pyramid's levels; parts that were not scanned are white. Labels and overviews aren't read.

    Where a level isn't level 0 divided by a whole number, OpenSlide interpolates within its pixels, so that two regions may
    differ slightly where they overlap; level 0 is exact.

    Args:
        tiff: the checked file; OpenSlide ends the process on some files that aren't valid.
        max_pixels: upper limit of pixels at level 0; None means 10**11.

    Raises:
        BrokenImage: `slide_broken`; at a read `tile_unreadable`, after which other regions can still be read.
        ImageTooLarge: `slide_too_large`, before any pixel is decoded.
        UnsupportedFormat: `slide_vendor_not_supported`.
        UnsuitableImage: `pixel_format_not_supported` for pixels that OpenSlide would reduce to 8 bits, `pyramid_not_supported`.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, tiff: CheckedTiff, max_pixels: int | None = None) -> None:
        if not tiff.largest.is_rgb8:
            raise UnsuitableImage(
                "pixel_format_not_supported",
                "the slide's pixels aren't RGB of 8 bits, the only type that is supported for slides of its maker; save it as "
                "OME-TIFF",
            )
        self._path = tiff.path
        self._slide = _open_slide(tiff.path)
        limit = MAX_SLIDE_PIXELS if max_pixels is None else max_pixels
        width, height = self._slide.dimensions
        try:
            if width * height > limit:
                raise ImageTooLarge(
                    "slide_too_large",
                    f"the slide has {width * height} pixels, at most {limit} are allowed; cut out the part that matters",
                    limit,
                )
            check_pyramid([(rows, columns) for columns, rows in self._slide.level_dimensions])
        except DataError:
            self._slide.close()
            raise
        spacing = _pair(self._slide, PROPERTY_NAME_MPP_Y, PROPERTY_NAME_MPP_X, float)  # um
        if spacing and not all(isfinite(value) and value > 0 for value in spacing):
            spacing = None
        first_pixel = _pair(self._slide, PROPERTY_NAME_BOUNDS_Y, PROPERTY_NAME_BOUNDS_X, int)  # from which QuPath counts
        levels = tuple(
            Level((rows, columns), spacing and (spacing[0] * height / rows, spacing[1] * width / columns))
            for columns, rows in self._slide.level_dimensions
        )
        geometry = Geometry(levels[0].shape, levels[0].spacing_um, origin_px=first_pixel)
        super().__init__(geometry, 3, np.dtype(np.uint8), levels)

    @property
    def held_bytes(self) -> int:
        """Size of OpenSlide's cache of decoded tiles."""
        return _CACHE_BYTES

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        rows, columns = region
        step = self._slide.level_downsamples[level]
        location = (round(columns.start * step), round(rows.start * step))  # (x, y) at level 0
        try:
            image = self._slide.read_region(location, level, (columns.stop - columns.start, rows.stop - rows.start))
        except OpenSlideError as error:
            self._slide.close()
            self._slide = _open_slide(self._path)  # a handle that failed once fails at every later read
            raise BrokenImage("tile_unreadable", "a part of the slide can't be decoded; scan or export it again") from error
        pixels = np.moveaxis(np.asarray(image), -1, 0)  # (4, H, W)
        return np.ascontiguousarray(over_white(pixels[:3], pixels[3]))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def vendor_of(path: Path) -> str | None:
    """Return OpenSlide's name for the maker of the file's format; None if the file isn't a slide."""
    vendor: str | None = OpenSlide.detect_format(path)
    return vendor


def _open_slide(path: Path) -> OpenSlide:
    if vendor_of(path) not in VENDORS:
        raise UnsupportedFormat(
            "slide_vendor_not_supported",
            f"the slide's format isn't supported; allowed are {', '.join(VENDORS)}: export it as a pyramidal TIFF",
        )
    try:
        slide = OpenSlide(path)
    except (OpenSlideError, OSError) as error:
        raise BrokenImage("slide_broken", "the slide's structure can't be read; scan or export it again") from error
    slide.set_cache(OpenSlideCache(_CACHE_BYTES))
    return slide


def _pair(slide: OpenSlide, y: str, x: str, convert: Callable[[str], _Number]) -> tuple[_Number, _Number] | None:
    """Return two properties of the slide as numbers (y, x); None where one is missing or not a number."""
    try:
        return convert(slide.properties[y]), convert(slide.properties[x])
    except (KeyError, ValueError):
        return None
