"""Writers of masks, probabilities and values in the image's geometry, band by band; a file appears when it is complete."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from disk.publish import publish
from imaging.errors import DataError, UnsuitableImage
from imaging.ome_zarr.image import is_zarr
from imaging.png_jpeg import MAX_PICTURE_PIXELS
from imaging.source import Geometry, MaskFormat
from imaging.writing.dicom_seg import write_dicom_seg
from imaging.writing.geojson import write_geojson
from imaging.writing.nifti import write_nifti
from imaging.writing.ome_tiff import write_ome_tiff
from imaging.writing.ome_zarr import write_ome_zarr
from imaging.writing.png import write_png
from imaging.writing.row_buffer import Kept, Spool

ProbabilityType = Literal["uint8", "float16"]

_ROUNDING = 1e-3  # how far beyond 0 and 1 averaged probabilities may lie


@dataclass(frozen=True)
class _Format:
    """`suits` says which images; `probabilities` says as what they can be stored, `values` whether maps of values can."""

    suffix: str
    suits: Callable[[Geometry], bool]
    encode: Callable[[Path, Spool, Geometry, Sequence[ClassSection]], None]
    probabilities: tuple[ProbabilityType, ...] = ()
    is_folder: bool = False
    values: bool = False


def _is_flat(geometry: Geometry) -> bool:
    return len(geometry.shape) == 2


def _is_volume(geometry: Geometry) -> bool:
    return len(geometry.shape) == 3


def _is_picture(geometry: Geometry) -> bool:
    return _is_flat(geometry) and prod(geometry.shape) <= MAX_PICTURE_PIXELS


def _is_image(geometry: Geometry) -> bool:
    return _is_flat(geometry) or _is_volume(geometry)


def _write_dicom_seg(path: Path, labels: Spool, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """DICOM's writer takes the whole volume."""
    write_dicom_seg(path, labels.read((slice(None),) * len(labels.shape)), geometry, classes)


_FORMATS: Mapping[MaskFormat, _Format] = {
    "png": _Format(".png", _is_picture, write_png),
    "tiff": _Format(".tiff", _is_image, write_ome_tiff, ("uint8",), values=True),  # OME knows no float16
    "nifti": _Format(".nii.gz", _is_volume, write_nifti, ("uint8",), values=True),  # nor does NIfTI
    "ome-zarr": _Format(".ome.zarr", _is_image, write_ome_zarr, ("uint8", "float16"), is_folder=True),
    "dicom-seg": _Format(".dcm", lambda lies: bool(lies.files), _write_dicom_seg),
    "geojson": _Format(".geojson", _is_flat, write_geojson),
}


def suffix_of(format: MaskFormat) -> str:
    """Return the suffix of a mask in that format: .png, .tiff, .nii.gz, .ome.zarr, .geojson or .dcm."""
    return _FORMATS[format].suffix


def is_folder(format: MaskFormat) -> bool:
    """Return True if a mask in that format is a folder rather than a file."""
    return _FORMATS[format].is_folder


@dataclass(frozen=True)
class _Target:
    """Target of a writer; `kept` holds the rows meanwhile, where the work may be resumed."""

    path: Path
    geometry: Geometry
    classes: tuple[ClassSection, ...]
    format: _Format
    kept: Kept | None = None

    def make(self, spool: Spool, path: Path) -> None:
        self.format.encode(path, spool, self.geometry, self.classes)


class BandWriter(ABC):
    """Takes rows in order and makes the file when it is left, all of it or none.

    While it is open, the rows lie in a file without a name beside the target, so that memory stays bounded and a killed
    process leaves nothing behind; or in a file that is kept, which already holds the first rows.
    """

    _takes: ClassVar[type[np.generic]]

    def __init__(self, target: _Target, leading: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._target = target
        self._leading = leading
        self._next_row = target.kept.rows if target.kept else 0
        place = target.kept or target.path.parent
        self._spool = Spool(place, (*leading, *target.geometry.shape), dtype, classes=bool(leading))

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write the next rows.

        Args:
            start: their place on the first axis of S.
            rows: of a mask (rows, *rest), uint8 labels; of probabilities (K, rows, *rest), float32 from 0 to 1; of values
                (rows, *rest), float32.

        Raises:
            ValueError: rows that don't follow the last ones, or of a wrong shape or type, or what they hold isn't allowed.
        """
        if start != self._next_row:
            raise ValueError(f"rows from {start} came, rows from {self._next_row} are next; write them in order without gaps")
        size, *rest = self._target.geometry.shape
        axis = len(self._leading)
        wanted = (*self._leading, *rows.shape[axis : axis + 1], *rest)
        if rows.dtype != self._takes or rows.shape != wanted:
            allowed = ", ".join(f"{each}" for each in (*self._leading, "rows", *rest))
            came = f"rows {rows.shape} of {rows.dtype} came"
            raise ValueError(f"{came}, ({allowed}) of {np.dtype(self._takes)} are allowed")
        end = start + rows.shape[axis]
        if end > size:
            raise ValueError(f"rows {start} to {end} came, the image ends at {size}; cut them")
        self._spool.append(self._stored(rows))
        self._next_row = end

    def sync(self) -> None:
        """Wait until all written rows are on the disk."""
        self._spool.sync()

    @abstractmethod
    def _stored(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows as the file holds them, checked."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._spool:
            if kind is None:
                self._publish()

    def _publish(self) -> None:
        rows = self._target.geometry.shape[0]
        if self._next_row != rows:
            raise ValueError(f"the writer was left after {self._next_row} of {rows} rows; write all of them")
        workshop = self._target.kept.path.parent if self._target.kept else None
        publish(self._target.path, partial(self._target.make, self._spool), workshop)


class MaskWriter(BandWriter):
    """Writes one mask; made by `open_writer`."""

    _takes = np.uint8

    def _stored(self, rows: NDArray[Any]) -> NDArray[Any]:
        last = len(self._target.classes) - 1
        if rows.max(initial=0) > last:
            raise ValueError(f"label {rows.max()} came, labels 0 to {last} have a class")
        return rows


class ProbabilityWriter(BandWriter):
    """Writes one image's probabilities; made by `open_probability_writer`."""

    _takes = np.float32

    def _stored(self, rows: NDArray[Any]) -> NDArray[Any]:
        if not (rows.min(initial=0) >= -_ROUNDING and rows.max(initial=0) <= 1 + _ROUNDING):  # neither holds for NaN
            raise ValueError(f"probabilities from {rows.min()} to {rows.max()} came, 0 to 1 are allowed")
        within = rows.clip(0, 1)
        return np.rint(within * 255).astype(np.uint8) if self._spool.dtype == np.uint8 else within.astype(self._spool.dtype)


class ValueWriter(BandWriter):
    """Writes one map of values; made by `open_value_writer`."""

    _takes = np.float32

    def _stored(self, rows: NDArray[Any]) -> NDArray[Any]:
        if not np.isfinite(rows).all():
            raise ValueError("values that aren't finite numbers came; the network's weights are broken, train it anew")
        return rows


def value_formats(geometry: Geometry) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold a map of values of such an image."""
    return tuple(name for name, each in _FORMATS.items() if each.values and each.suits(geometry))


def probability_formats(geometry: Geometry, dtype: ProbabilityType) -> tuple[MaskFormat, ...]:
    """Return the formats that can hold such an image's probabilities as that type."""
    return tuple(name for name, each in _FORMATS.items() if dtype in each.probabilities and each.suits(geometry))


def open_writer(
    path: Path, geometry: Geometry, *, format: MaskFormat, classes: Sequence[ClassSection], kept: Kept | None = None
) -> MaskWriter:
    """Return a writer of one mask, a context manager.

    Args:
        path: the file or folder to make; one that is there is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: the image's own; shape, spacing, affine and origin go into the file as far as the format holds them.
        format: "png" (a palette), "tiff" (pyramidal OME-TIFF), "nifti", "ome-zarr", "geojson" (for QuPath) or "dicom-seg".
        classes: a label's class is the one at its place.
        kept: a file for the rows, where they are to be gone on with; None: one without a name.

    Raises:
        UnsuitableImage: `format_not_suitable` if such an image can't have a mask of that format; names those that suit.
        DataError: `out_not_replaceable` if a folder stands there that is no OME-Zarr.
    """
    _check_suits(geometry, format, {name for name, each in _FORMATS.items() if each.suits(geometry)}, "a mask")
    _check_target(path)
    return MaskWriter(_Target(path, geometry, tuple(classes), _FORMATS[format], kept), (), np.dtype(np.uint8))


def open_probability_writer(
    path: Path,
    geometry: Geometry,
    *,
    format: MaskFormat,
    classes: Sequence[ClassSection],
    dtype: ProbabilityType,
    kept: Kept | None = None,
) -> ProbabilityWriter:
    """Return a writer of every class's probability at each pixel, a context manager.

    Args:
        path: the file or folder to make; one that is there is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: the image's own; shape, spacing, affine and origin go into the file as far as the format holds them.
        format: "tiff" (OME-TIFF, a channel a class), "ome-zarr" (the same) or "nifti" (classes are the fourth axis).
        classes: K, in the order of the probabilities.
        dtype: "uint8" holds 255 times the probability, rounded; "float16" holds itself.
        kept: a file for the rows, where they are to be gone on with; None: one without a name.

    Raises:
        UnsuitableImage: `format_not_suitable` if the format can't hold this image's probabilities, or not of that type;
            names those that can.
        DataError: `out_not_replaceable` if a folder stands there that is no OME-Zarr.
    """
    _check_suits(geometry, format, set(probability_formats(geometry, dtype)), f"{dtype} probabilities")
    _check_target(path)
    target = _Target(path, geometry, tuple(classes), _FORMATS[format], kept)
    return ProbabilityWriter(target, (len(classes),), np.dtype(dtype))


def open_value_writer(
    path: Path, geometry: Geometry, *, format: MaskFormat, quantity: ClassSection, kept: Kept | None = None
) -> ValueWriter:
    """Return a writer of one float32 value at each pixel, a context manager.

    Args:
        path: the file to make; one that is there is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: the image's own; shape, spacing, affine and origin go into the file as far as the format holds them.
        format: "tiff" (OME-TIFF) or, of volumes, "nifti".
        quantity: what is measured.
        kept: a file for the rows, where they are to be gone on with; None: one without a name.

    Raises:
        UnsuitableImage: `format_not_suitable` if the format can't hold this image's values; names those that can.
        DataError: `out_not_replaceable` if a folder stands there.
    """
    _check_suits(geometry, format, set(value_formats(geometry)), "a map of values")
    _check_target(path)
    return ValueWriter(_Target(path, geometry, (quantity,), _FORMATS[format], kept), (), np.dtype(np.float32))


def _check_suits(geometry: Geometry, format: MaskFormat, suiting: set[MaskFormat], what: str) -> None:
    if format not in suiting:
        named = " or ".join(name for name in _FORMATS if name in suiting) or "a 2D or 3D image"
        raise UnsuitableImage(
            "format_not_suitable",
            f"{what} of the size {geometry.shape} can't be written as {format}; choose {named}",
        )


def _check_target(path: Path) -> None:
    """Check that the target may be replaced: a file or an OME-Zarr folder, but no other folder.

    Raises:
        DataError: `out_not_replaceable`.
    """
    if path.is_dir() and not is_zarr(path):
        raise DataError(
            "out_not_replaceable",
            "a folder that is no OME-Zarr stands where the mask would go; choose another name, or move the folder away",
        )
