"""DICOM whole slides, (3, H, W), read region by region through wsidicom; labels and overviews are never opened."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from marshmallow import ValidationError
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)
from wsidicom import WsiDicom
from wsidicom.config import Settings
from wsidicom.errors import (
    WsiDicomError,
    WsiDicomFileError,
    WsiDicomMatchError,
    WsiDicomNoResolutionError,
    WsiDicomNotFoundError,
    WsiDicomNotSupportedError,
    WsiDicomOutOfBoundsError,
    WsiDicomUidDuplicateError,
)
from wsidicom.geometry import Point
from wsidicom.group import Level as WsiLevel

from imaging.dicom.header import (
    UNCOMPRESSED,
    DicomHeader,
    compression_not_supported,
    dicom_broken,
    dicom_errors,
    number_of_frames,
    pixel_format_not_supported,
    whole_number,
)
from imaging.dicom.pixels import is_as_declared
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, MAX_SLIDE_PIXELS, Guards
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region

_MAX_TILE_PIXELS = 8192**2
_CACHE_BYTES = 32 * 2**20  # each of wsidicom's two: tiles as stored, tiles decoded
_SETTINGS = Settings(
    strict_tile_size_check=False,  # True would silently drop levels with other tile sizes
    decoded_frame_cache_size=_CACHE_BYTES,
    encoded_frame_cache_size=_CACHE_BYTES,
)
_COLOURS = ("RGB", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # the standard's values for slides in colour

_SYNTAXES = (  # their decoders are safe with malformed tiles
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless, JPEG2000,
)  # fmt: skip
_WSIDICOM_ERRORS = (
    WsiDicomError, WsiDicomFileError, WsiDicomMatchError, WsiDicomNoResolutionError, WsiDicomNotFoundError,
    WsiDicomNotSupportedError, WsiDicomOutOfBoundsError, WsiDicomUidDuplicateError,
    ValidationError,  # marshmallow's, with which wsidicom parses headers
)  # fmt: skip

logging.getLogger("wsidicom").setLevel(logging.CRITICAL + 1)  # it logs paths and values; failures are raised as errors here


@dataclass(frozen=True)
class _Tiles:
    """Tiles of one level and their compression; `shape` is (rows, columns) of a tile."""

    shape: tuple[int, int]
    transfer_syntax: UID

    @classmethod
    def of(cls, header: DicomHeader) -> Self:
        shape = whole_number(header.dataset, "Rows", 1, 65535), whole_number(header.dataset, "Columns", 1, 65535)
        return cls(shape, header.transfer_syntax)


class DicomSlideSource(ImageSource):
    """A slide of one series as uint8 RGB; each file is a level, the finest comes first. Missing tiles are white.

    Args:
        headers: headers of the series' files; a single file is a slide of one level.
        guards: how far the files are trusted; at most 10**11 pixels at level 0 where `max_pixels` is None.

    Raises:
        BrokenImage: `dicom_broken`; at a read `tile_unreadable`, after which other regions can still be read.
        ImageTooLarge: `image_too_large`, before any pixel is decoded.
        UnsuitableImage: `pixel_format_not_supported`, `dimension_not_supported`.
        UnsupportedFormat: `dicom_kind_not_supported` if no file is a level; `dicom_compression_not_supported`.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, headers: Sequence[DicomHeader], guards: Guards = LOCAL) -> None:
        limit = MAX_SLIDE_PIXELS if guards.max_pixels is None else guards.max_pixels
        with _slide_errors():
            volumes = [header for header in headers if _flavour(header.dataset) == "VOLUME"]
            if not volumes:
                raise UnsupportedFormat(
                    "dicom_kind_not_supported",
                    "the DICOM files hold only a slide's label or overview; give the files of its levels",
                )
            for header in volumes:
                _check_level(header, limit)
            self._slide = WsiDicom.open([header.path for header in volumes], settings=_SETTINGS)
        try:
            with _slide_errors():
                self._levels = _levels(self._slide, volumes)
                spacings = [level.pixel_spacing for level in self._levels]  # mm
                levels = tuple(
                    Level((level.size.height, level.size.width), (1000.0 * float(size.height), 1000.0 * float(size.width)))
                    for level, size in zip(self._levels, spacings, strict=True)
                )
                tiles = {_size(header.dataset): _Tiles.of(header) for header in volumes}  # files of one size are one level
                self._tiles = [tiles[level.size.height, level.size.width] for level in self._levels]
        except DataError:
            self._slide.close()
            raise
        super().__init__(Geometry(levels[0].shape, levels[0].spacing_um), 3, np.dtype(np.uint8), levels)

    @property
    def held_bytes(self) -> int:
        """Size of wsidicom's two caches of tiles."""
        return 2 * _CACHE_BYTES

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        rows, columns = region
        with _slide_errors(_tile_unreadable):
            self._check_tiles(rows, columns, level)
            pixels = self._slide.read_region(
                (columns.start, rows.start),  # in the level's own pixels
                self._levels[level].level,
                (columns.stop - columns.start, rows.stop - rows.start),
                as_array=True,
            )
        return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))  # (3, H, W)

    def _check_tiles(self, rows: slice, columns: slice, level: int) -> None:
        """Check the compressed tiles of a region, since wsidicom decodes a tile of any size.

        Raises:
            BrokenImage: `tile_unreadable`.
        """
        tiles = self._tiles[level]
        if tiles.transfer_syntax in UNCOMPRESSED:
            return
        height, width = tiles.shape
        for row in range(rows.start // height, -(-rows.stop // height)):
            for column in range(columns.start // width, -(-columns.stop // width)):
                packed = self._levels[level].get_encoded_tile(Point(column, row), crop_to_image_boundary=False)
                if not is_as_declared(packed, tiles.transfer_syntax, tiles.shape, 3):
                    raise _tile_unreadable()

    def close(self) -> None:
        """Close the files."""
        self._slide.close()


@contextmanager
def _slide_errors(error: Callable[[], DataError] = dicom_broken) -> Iterator[None]:
    """Convert the errors of pydicom and wsidicom to ours."""
    with dicom_errors(error):
        try:
            yield
        except _WSIDICOM_ERRORS:
            raise error() from None


def _flavour(dataset: Dataset) -> str:
    """Return what an image shows: VOLUME (a level), LABEL, OVERVIEW or THUMBNAIL (PS3.3, C.8.12.4.1.1)."""
    element = dataset["ImageType"]
    if element.VM < 3:
        raise dicom_broken()
    return str(element.value[2])


def _check_level(header: DicomHeader, limit: int) -> None:
    """Check the file of one level before wsidicom opens it.

    Raises:
        BrokenImage: `dicom_broken`.
        ImageTooLarge: `image_too_large`.
        UnsuitableImage: `pixel_format_not_supported`.
        UnsupportedFormat: `dicom_compression_not_supported`.
    """
    if header.transfer_syntax not in _SYNTAXES:
        raise compression_not_supported()
    dataset = header.dataset
    interpretation = str(dataset["PhotometricInterpretation"].value)
    is_raw = header.transfer_syntax in UNCOMPRESSED
    is_rgb8 = whole_number(dataset, "SamplesPerPixel", 1, 4) == 3 and whole_number(dataset, "BitsAllocated", 1, 64) == 8
    if not is_rgb8 or interpretation not in (_COLOURS[:1] if is_raw else _COLOURS):
        raise pixel_format_not_supported()
    tile_pixels = whole_number(dataset, "Rows", 1, 65535) * whole_number(dataset, "Columns", 1, 65535)
    height, width = _size(dataset)
    end_of_pixels = header.pixels_at + 3 * tile_pixels * number_of_frames(dataset)
    if tile_pixels > _MAX_TILE_PIXELS or (is_raw and header.path.stat().st_size < end_of_pixels):
        raise dicom_broken()
    if height * width > limit:
        raise ImageTooLarge(
            "image_too_large",
            f"the slide has {height * width} pixels, at most {limit} are allowed; cut out the part that matters",
            limit,
        )


def _size(dataset: Dataset) -> tuple[int, int]:
    """Return (rows, columns) of the level that a file holds."""
    rows, columns = (dataset[keyword] for keyword in ("TotalPixelMatrixRows", "TotalPixelMatrixColumns"))
    for element in (rows, columns):
        if element.VR != "UL" or type(element.value) is not int or element.value < 1:
            raise dicom_broken()
    return rows.value, columns.value


def _levels(slide: WsiDicom, volumes: Sequence[DicomHeader]) -> list[WsiLevel]:
    """Return the slide's levels, finest first, checked to be one for each file.

    Raises:
        BrokenImage: `dicom_broken`.
        UnsuitableImage: `dimension_not_supported`.
    """
    levels = sorted(slide.pyramids[0], key=lambda level: -level.size.width)
    is_flat = all(len(level.optical_paths) == 1 and len(level.focal_planes) == 1 for level in levels)
    if len(slide.pyramids) != 1 or not is_flat:
        raise UnsuitableImage(
            "dimension_not_supported",
            "the DICOM slide has several pyramids, focal planes or optical paths; send one of each",
        )
    if {(level.size.height, level.size.width) for level in levels} != {_size(header.dataset) for header in volumes}:
        raise dicom_broken()  # wsidicom leaves out levels that it can't read
    return levels


def _tile_unreadable() -> BrokenImage:
    return BrokenImage("tile_unreadable", "a part of the slide can't be decoded; scan or export it again")
