"""Formats of masks, probabilities and values: which images each suits, and the function that writes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from configs.sections import ClassSection
from imaging.errors import UnsuitableImage
from imaging.png_jpeg import MAX_PICTURE_PIXELS
from imaging.source import Geometry, MaskFormat
from imaging.writing.dicom_seg import write_dicom_seg
from imaging.writing.geojson import write_geojson
from imaging.writing.nifti import write_nifti
from imaging.writing.ome_tiff import write_ome_tiff
from imaging.writing.ome_zarr import write_ome_zarr
from imaging.writing.png import write_png
from imaging.writing.row_buffer import RowBuffer, VolumeOfPlane

ProbabilityType = Literal["uint8", "float16"]


@dataclass(frozen=True)
class Format:
    """Format of an output.

    Args:
        suffix: of its files.
        suits: returns True for the geometry of an image that can have a mask in this format.
        encode: writes the file from its rows.
        probabilities: types as which it can hold probabilities.
        is_folder: an output is a folder rather than a file.
        values: it can hold a map of float32 values.
        numbers: it can hold an image of uint32 numbers.
        of_volumes: a plane of a volume is written as that volume, with the image's own header.
    """

    suffix: str
    suits: Callable[[Geometry], bool]
    encode: Callable[[Path, Any, Geometry, Sequence[ClassSection]], None]
    probabilities: tuple[ProbabilityType, ...] = ()
    is_folder: bool = False
    values: bool = False
    numbers: bool = False
    of_volumes: bool = False

    def write(self, path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
        """Write the file from its rows."""
        if self.of_volumes and geometry.volume is not None:
            self.encode(path, VolumeOfPlane(rows, geometry.volume.shape), geometry.volume, classes)
        else:
            self.encode(path, rows, geometry, classes)


def _is_flat(geometry: Geometry) -> bool:
    return len(geometry.shape) == 2


def _is_volume(geometry: Geometry) -> bool:
    return len(geometry.shape) == 3 or geometry.volume is not None


def _is_image(geometry: Geometry) -> bool:
    return _is_flat(geometry) or _is_volume(geometry)


FORMATS: Mapping[MaskFormat, Format] = {
    "png": Format(".png", lambda geometry: _is_flat(geometry) and prod(geometry.shape) <= MAX_PICTURE_PIXELS, write_png),
    # neither OME nor NIfTI has float16
    "tiff": Format(".tiff", _is_image, write_ome_tiff, ("uint8",), values=True, numbers=True),
    "nifti": Format(".nii.gz", _is_volume, write_nifti, ("uint8",), values=True, numbers=True, of_volumes=True),
    "ome-zarr": Format(".ome.zarr", _is_image, write_ome_zarr, ("uint8", "float16"), is_folder=True, numbers=True),
    "dicom-seg": Format(".dcm", lambda geometry: bool(geometry.files), write_dicom_seg, of_volumes=True),
    "geojson": Format(".geojson", _is_flat, write_geojson),
}


def suffix_of(format: MaskFormat) -> str:
    """Return the suffix of a mask in that format: .png, .tiff, .nii.gz, .ome.zarr, .geojson or .dcm."""
    return FORMATS[format].suffix


def is_folder(format: MaskFormat) -> bool:
    """Return True if a mask in that format is a folder rather than a file."""
    return FORMATS[format].is_folder


def mask_formats(geometry: Geometry) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold a mask of such an image."""
    return tuple(name for name, each in FORMATS.items() if each.suits(geometry))


def probability_formats(geometry: Geometry, dtype: ProbabilityType) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold such an image's probabilities as that type."""
    return tuple(name for name, each in FORMATS.items() if dtype in each.probabilities and each.suits(geometry))


def value_formats(geometry: Geometry) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold a map of values of such an image."""
    return tuple(name for name, each in FORMATS.items() if each.values and each.suits(geometry))


def number_formats(geometry: Geometry) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold an image of the numbers of objects, TIFF first."""
    return tuple(name for name, each in FORMATS.items() if each.numbers and each.suits(geometry))


def check_suits(geometry: Geometry, format: MaskFormat, suitable: tuple[MaskFormat, ...], what: str) -> None:
    """Check that a format is one of the suitable ones.

    Args:
        geometry: geometry of the image.
        format: the requested format.
        suitable: formats that can hold the output.
        what: the output, as the message names it.

    Raises:
        UnsuitableImage: `format_not_suitable`.
    """
    if format not in suitable:
        choices = " or ".join(suitable) or "a 2D or 3D image"
        raise UnsuitableImage(
            "format_not_suitable",
            f"{what} of the size {geometry.shape} can't be written as {format}; choose {choices}",
        )
