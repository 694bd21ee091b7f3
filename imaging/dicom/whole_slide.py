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
    Header,
    compression_not_supported,
    dicom_broken,
    dicom_errors,
    number_of_frames,
    pixel_format_not_supported,
    whole,
)
from imaging.dicom.pixels import is_as_declared
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, MAX_SLIDE_PIXELS, Guards
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region

_MAX_TILE_PIXELS = 8192**2
_CACHE_BYTES = 32 * 2**20  # each of wsidicom's two: tiles as stored, tiles decoded
_SETTINGS = Settings(
    strict_tile_size_check=False,  # else levels with other tiles would be left out without a word
    decoded_frame_cache_size=_CACHE_BYTES,
    encoded_frame_cache_size=_CACHE_BYTES,
)
_COLOURS = ("RGB", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # what the standard has for slides in colour

_SYNTAXES = (  # whose decoders stand malformed tiles
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless, JPEG2000,
)  # fmt: skip
_WSIDICOM_ERRORS = (
    WsiDicomError, WsiDicomFileError, WsiDicomMatchError, WsiDicomNoResolutionError, WsiDicomNotFoundError,
    WsiDicomNotSupportedError, WsiDicomOutOfBoundsError, WsiDicomUidDuplicateError,
    ValidationError,  # of marshmallow, by which wsidicom parses headers
)  # fmt: skip

logging.getLogger("wsidicom").setLevel(logging.CRITICAL + 1)  # it logs paths and values; what fails is raised here


@dataclass(frozen=True)
class _Tiles:
    """Tiles of one level and their compression; `shape` is (rows, columns) of a tile."""

    shape: tuple[int, int]
    transfer_syntax: UID

    @classmethod
    def of(cls, header: Header) -> Self:
        shape = whole(header.dataset, "Rows", 1, 65535), whole(header.dataset, "Columns", 1, 65535)
        return cls(shape, header.transfer_syntax)


class DicomSlideSource(ImageSource):
    """A slide of one series as uint8 RGB; its levels are the files given, finest first. Tiles left out are white.

    Args:
        headers: of the series' files; a single file is a slide of one level.
        guards: how far the files are trusted; at most 10**11 pixels at level 0 where it doesn't say.

    Raises:
        BrokenImage: `dicom_broken`; at a read `tile_unreadable`, after which other regions can still be read.
        ImageTooLarge: `image_too_large`, before any pixel is decoded.
        UnsuitableImage: `pixel_format_not_supported`, `dimension_not_supported`.
        UnsupportedFormat: `dicom_kind_not_supported` if there is no level among the files; `dicom_compression_not_supported`.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, headers: Sequence[Header], guards: Guards = LOCAL) -> None:
        limit = MAX_SLIDE_PIXELS if guards.max_pixels is None else guards.max_pixels
        with _slide_errors():
            volumes = _volumes(headers, limit)
            self._slide = WsiDicom.open([header.path for header in volumes], settings=_SETTINGS)
        try:
            with _slide_errors():
                self._levels = _levels(self._slide, volumes)
                levels = tuple(Level((level.size.height, level.size.width), _spacing_um(level)) for level in self._levels)
                tiles = {_size(header.dataset): _Tiles.of(header) for header in volumes}  # files of one size are one level
                self._tiles = [tiles[level.size.height, level.size.width] for level in self._levels]
        except DataError:
            self._slide.close()
            raise
        super().__init__(Geometry(levels[0].shape, levels[0].spacing_um), 3, np.dtype(np.uint8), levels)

    @property
    def held_bytes(self) -> int:
        """Two caches of tiles."""
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
        """Before they are decoded: wsidicom unpacks, and takes, a tile of any size."""
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
    """Wsidicom's own errors, too, become ours."""
    with dicom_errors(error):
        try:
            yield
        except _WSIDICOM_ERRORS:
            raise error() from None


def _flavour(dataset: Dataset) -> str:
    """VOLUME, LABEL, OVERVIEW or THUMBNAIL (PS3.3, C.8.12.4.1.1)."""
    element = dataset["ImageType"]
    if element.VM < 3:
        raise dicom_broken()
    return str(element.value[2])


def _volumes(headers: Sequence[Header], limit: int) -> list[Header]:
    """Return the checked headers of the files that hold levels."""
    volumes = [header for header in headers if _flavour(header.dataset) == "VOLUME"]
    if not volumes:
        raise UnsupportedFormat(
            "dicom_kind_not_supported", "the DICOM files hold no level of a slide, only its label or an overview"
        )
    for header in volumes:
        _check(header, limit)
    return volumes


def _check(header: Header, limit: int) -> None:
    """Check one file before wsidicom opens it."""
    if header.transfer_syntax not in _SYNTAXES:
        raise compression_not_supported()
    dataset = header.dataset
    interpretation = str(dataset["PhotometricInterpretation"].value)
    is_raw = header.transfer_syntax in UNCOMPRESSED
    grey_or_deep = whole(dataset, "SamplesPerPixel", 1, 4) != 3 or whole(dataset, "BitsAllocated", 1, 64) != 8
    if grey_or_deep or interpretation not in (_COLOURS[:1] if is_raw else _COLOURS):
        raise pixel_format_not_supported()
    tile = whole(dataset, "Rows", 1, 65535) * whole(dataset, "Columns", 1, 65535)
    height, width = _size(dataset)
    frames = number_of_frames(dataset)
    if tile > _MAX_TILE_PIXELS or (is_raw and header.path.stat().st_size < header.pixels_at + 3 * tile * frames):
        raise dicom_broken()
    if height * width > limit:
        raise ImageTooLarge(
            "image_too_large",
            f"the slide has {height * width} pixels, at most {limit} are allowed; cut out the part that matters",
            limit,
        )


def _size(dataset: Dataset) -> tuple[int, int]:
    return _long(dataset, "TotalPixelMatrixRows"), _long(dataset, "TotalPixelMatrixColumns")


def _long(dataset: Dataset, keyword: str) -> int:
    element = dataset[keyword]
    if element.VR != "UL" or type(element.value) is not int or element.value < 1:
        raise dicom_broken()
    return element.value


def _levels(slide: WsiDicom, volumes: Sequence[Header]) -> list[WsiLevel]:
    """Finest first; all of those that the files hold, of one pyramid, in one plane and of one optical path."""
    levels = sorted(slide.pyramids[0], key=lambda level: -level.size.width)
    plain = all(len(level.optical_paths) == 1 and len(level.focal_planes) == 1 for level in levels)
    if len(slide.pyramids) != 1 or not plain:
        raise UnsuitableImage(
            "dimension_not_supported",
            "the DICOM slide has several pyramids, focal planes or optical paths; send one of each",
        )
    if {(level.size.height, level.size.width) for level in levels} != {_size(header.dataset) for header in volumes}:
        raise dicom_broken()  # wsidicom leaves out what it can't read
    return levels


def _spacing_um(level: WsiLevel) -> tuple[float, float]:
    return 1000.0 * float(level.pixel_spacing.height), 1000.0 * float(level.pixel_spacing.width)


def _tile_unreadable() -> BrokenImage:
    return BrokenImage("tile_unreadable", "a part of the slide can't be decoded; scan or export it again")
