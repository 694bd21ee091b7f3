"""Writers of masks, probabilities and values in the image's geometry, band by band; a file appears when it is complete."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from disk.publish import publish
from imaging.errors import DataError
from imaging.ome_zarr.image import is_zarr
from imaging.source import Geometry, MaskFormat
from imaging.writing.formats import (
    FORMATS,
    Format,
    ProbabilityType,
    check_suits,
    mask_formats,
    probability_formats,
    value_formats,
)
from imaging.writing.row_buffer import BufferFile, RowBuffer

_ROUNDING = 1e-3  # by which averaged probabilities may exceed 0 and 1


@dataclass(frozen=True)
class _Target:
    """Target of a writer; `rows_file` holds the rows until the end, where the work may be resumed."""

    path: Path
    geometry: Geometry
    classes: tuple[ClassSection, ...]
    format: Format
    rows_file: BufferFile | None = None


class BandWriter(ABC):
    """Writer that takes rows in order, and creates the complete file on exit, or none after an error.

    While it is open, the rows are in an unnamed file beside the target, so that memory stays bounded and a killed process
    leaves nothing behind; or in the target's `rows_file`, which may already hold the first rows.
    """

    _row_type: ClassVar[type[np.generic]]

    def __init__(self, target: _Target, leading: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._target = target
        self._leading = leading
        self._next_row = target.rows_file.rows if target.rows_file else 0
        place = target.rows_file or target.path.parent
        self._buffer = RowBuffer(place, (*leading, *target.geometry.shape), dtype, classes=bool(leading))

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Write the next rows.

        Args:
            start: index of the first of them on the first axis of S.
            rows: of a mask (rows, *rest), uint8 labels; of probabilities (K, rows, *rest), float32 from 0 to 1; of values
                (rows, *rest), float32.

        Raises:
            ValueError: the rows don't follow the last ones, have a wrong shape or type, or contain values that aren't allowed.
        """
        if start != self._next_row:
            raise ValueError(
                f"rows from {start} came, but rows from {self._next_row} are next; write them in order without gaps"
            )
        size, *rest = self._target.geometry.shape
        axis = len(self._leading)
        shape = (*self._leading, *rows.shape[axis : axis + 1], *rest)
        if rows.dtype != self._row_type or rows.shape != shape:
            allowed = ", ".join(f"{each}" for each in (*self._leading, "rows", *rest))
            raise ValueError(
                f"rows {rows.shape} of {rows.dtype} came, but ({allowed}) of {np.dtype(self._row_type)} are allowed"
            )
        end = start + rows.shape[axis]
        if end > size:
            raise ValueError(f"rows {start} to {end} came, but the image ends at {size}; cut them")
        self._buffer.append(self._encode(rows))
        self._next_row = end

    @property
    def rows(self) -> RowBuffer:
        """The rows as they are stored, to read while the writer is open."""
        return self._buffer

    def sync(self) -> None:
        """Wait until all written rows are on the disk."""
        self._buffer.sync()

    @abstractmethod
    def _encode(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows, checked, as the file stores them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._buffer:
            if kind is not None:
                return
            target = self._target
            if self._next_row != target.geometry.shape[0]:
                raise ValueError(
                    f"the writer was closed after {self._next_row} of {target.geometry.shape[0]} rows; write all of them"
                )
            publish(
                target.path,
                lambda path: target.format.write(path, self._buffer, target.geometry, target.classes),
                target.rows_file.path.parent if target.rows_file else None,
            )


class MaskWriter(BandWriter):
    """Writer of a mask; `open_writer` creates it."""

    _row_type = np.uint8

    def _encode(self, rows: NDArray[Any]) -> NDArray[Any]:
        last = len(self._target.classes) - 1
        if rows.max(initial=0) > last:
            raise ValueError(f"label {rows.max()} came, but only labels 0 to {last} have a class")
        return rows


class ProbabilityWriter(BandWriter):
    """Writer of an image's probabilities; `open_probability_writer` creates it."""

    _row_type = np.float32

    def _encode(self, rows: NDArray[Any]) -> NDArray[Any]:
        if not (rows.min(initial=0) >= -_ROUNDING and rows.max(initial=0) <= 1 + _ROUNDING):  # neither holds for NaN
            raise ValueError(f"probabilities from {rows.min()} to {rows.max()} came, but 0 to 1 are allowed")
        within = rows.clip(0, 1)
        return np.rint(within * 255).astype(np.uint8) if self._buffer.dtype == np.uint8 else within.astype(self._buffer.dtype)


class ValueWriter(BandWriter):
    """Writer of a map of values; `open_value_writer` creates it."""

    _row_type = np.float32

    def _encode(self, rows: NDArray[Any]) -> NDArray[Any]:
        if not np.isfinite(rows).all():
            raise ValueError("some values are NaN or infinite: the network's weights are broken; train the network again")
        return rows


def open_writer(
    path: Path, geometry: Geometry, *, format: MaskFormat, classes: Sequence[ClassSection], rows_file: BufferFile | None = None
) -> MaskWriter:
    """Return a writer of one mask, a context manager.

    Args:
        path: file or folder to create; an existing one is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: geometry of the image; the file holds its shape, spacing, affine and origin as far as the format can.
        format: "png" (a palette), "tiff" (pyramidal OME-TIFF), "nifti", "ome-zarr", "geojson" (for QuPath) or "dicom-seg".
        classes: classes in the order of their labels.
        rows_file: file for the rows, where the work may be resumed; None: an unnamed file.

    Raises:
        UnsuitableImage: `format_not_suitable` if the format can't hold a mask of such an image; names those that can.
        DataError: `out_not_replaceable` if the path is a folder that isn't an OME-Zarr.
    """
    check_suits(geometry, format, mask_formats(geometry), "a mask")
    check_target(path)
    return MaskWriter(_Target(path, geometry, tuple(classes), FORMATS[format], rows_file), (), np.dtype(np.uint8))


def open_probability_writer(
    path: Path,
    geometry: Geometry,
    *,
    format: MaskFormat,
    classes: Sequence[ClassSection],
    dtype: ProbabilityType,
    rows_file: BufferFile | None = None,
) -> ProbabilityWriter:
    """Return a writer of every class's probability at each pixel, a context manager.

    Args:
        path: file or folder to create; an existing one is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: geometry of the image; the file holds its shape, spacing, affine and origin as far as the format can.
        format: "tiff" (OME-TIFF, a channel a class), "ome-zarr" (the same) or "nifti" (classes are the fourth axis).
        classes: K, in the order of the probabilities.
        dtype: "uint8" stores 255 times the probability, rounded; "float16" the probability.
        rows_file: file for the rows, where the work may be resumed; None: an unnamed file.

    Raises:
        UnsuitableImage: `format_not_suitable` if the format can't hold this image's probabilities, or not of that type;
            the message names those that can.
        DataError: `out_not_replaceable` if the path is a folder that isn't an OME-Zarr.
    """
    check_suits(geometry, format, probability_formats(geometry, dtype), f"{dtype} probabilities")
    check_target(path)
    target = _Target(path, geometry, tuple(classes), FORMATS[format], rows_file)
    return ProbabilityWriter(target, (len(classes),), np.dtype(dtype))


def open_value_writer(
    path: Path, geometry: Geometry, *, format: MaskFormat, quantity: ClassSection, rows_file: BufferFile | None = None
) -> ValueWriter:
    """Return a writer of one float32 value at each pixel, a context manager.

    Args:
        path: file to create; an existing one is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: geometry of the image; the file holds its shape, spacing, affine and origin as far as the format can.
        format: "tiff" (OME-TIFF) or, of volumes, "nifti".
        quantity: name and colour of the measured quantity.
        rows_file: file for the rows, where the work may be resumed; None: an unnamed file.

    Raises:
        UnsuitableImage: `format_not_suitable` if the format can't hold this image's values; the message names those that can.
        DataError: `out_not_replaceable` if the path is a folder.
    """
    check_suits(geometry, format, value_formats(geometry), "a map of values")
    check_target(path)
    return ValueWriter(_Target(path, geometry, (quantity,), FORMATS[format], rows_file), (), np.dtype(np.float32))


def check_target(path: Path) -> None:
    """Check that the target may be replaced: a file or an OME-Zarr folder, but no other folder.

    Raises:
        DataError: `out_not_replaceable`.
    """
    if path.is_dir() and not is_zarr(path):
        raise DataError(
            "out_not_replaceable",
            "the path of an output is a folder that isn't an OME-Zarr; choose another name, or move the folder away",
        )
