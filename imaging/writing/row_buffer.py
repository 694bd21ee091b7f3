"""Buffer on disk for the rows of an output, until its file is written from them; read back region by region."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 8 * 2**20
_SMALLEST_LEVEL = 1024  # longest side of a pyramid's last level


@dataclass(frozen=True)
class BufferFile:
    """File of a row buffer that outlives its process; its first `rows` rows are valid."""

    path: Path
    rows: int = 0


class RowBuffer:
    """Array (*S) or (K, *S) on disk that grows along the first axis of S; a context manager.

    Its file has no name, so that a killed process leaves nothing behind, unless it is one to resume from.

    Args:
        place: folder for an unnamed file, best on the target's file system; or the file to resume from.
        shape: shape of the whole array.
        dtype: type of its elements.
        classes: the first axis of the shape is K.
    """

    def __init__(
        self, place: Path | BufferFile, shape: tuple[int, ...], dtype: np.dtype[Any], *, classes: bool = False
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._rows_axis = 1 if classes else 0
        self._file: IO[bytes] = _open_file(place, self._row_bytes)

    @property
    def size_bytes(self) -> int:
        """Size of the whole array, bytes."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def pyramid_steps(self) -> list[int]:
        """Steps of a pyramid's levels along the last two axes: 1, 2, 4 and so on."""
        steps = [1]
        while max(self.shape[-2:]) > _SMALLEST_LEVEL * steps[-1]:
            steps.append(2 * steps[-1])
        return steps

    def append(self, rows: NDArray[Any]) -> None:
        """Append the next rows: (rows, *rest) or (K, rows, *rest)."""
        stored = np.ascontiguousarray(np.moveaxis(rows, self._rows_axis, 0))  # (rows, K, *rest)
        self._file.write(stored.data)

    def sync(self) -> None:
        """Wait until all appended rows are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return a copy of a region of the whole; slices may have steps."""
        region = tuple(slice(*axis.indices(size)) for axis, size in zip(region, self.shape, strict=True))
        out = np.empty([len(range(axis.start, axis.stop, axis.step)) for axis in region], self.dtype)
        rows, others = region[self._rows_axis], self._without_rows(region)
        position = 0
        self._file.flush()
        count = max(1, BLOCK_BYTES // self._row_bytes // rows.step) * rows.step
        for start in range(rows.start, rows.stop, count):  # short mappings: pages count as the process's memory while mapped
            shape = (min(count, rows.stop - start), *self._without_rows(self.shape))
            mapped = np.memmap(self._file, self.dtype, "r", start * self._row_bytes, shape)
            block = np.moveaxis(mapped[(slice(None, None, rows.step), *others)], 0, self._rows_axis)
            place = slice(position, position + block.shape[self._rows_axis])
            out[(slice(None),) * self._rows_axis + (place,)] = block
            position = place.stop
        return out

    def bands(self, size_bytes: int = BLOCK_BYTES) -> Iterator[NDArray[Any]]:
        """Yield the whole in bands of rows of about that size."""
        rows = max(1, size_bytes // self._row_bytes)
        for start in range(0, self.shape[self._rows_axis], rows):
            band = [slice(None)] * len(self.shape)
            band[self._rows_axis] = slice(start, start + rows)
            yield self.read(tuple(band))

    @property
    def _row_bytes(self) -> int:
        return self.size_bytes // self.shape[self._rows_axis]

    def _without_rows(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return values[: self._rows_axis] + values[self._rows_axis + 1 :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


class VolumeOfPlane:
    """A plane's rows, (H, W) or (K, H, W), read as the volume of one slice that the plane is part of.

    Args:
        plane: the rows.
        volume_shape: (D, H, W) of the volume, 1 along one axis.
    """

    def __init__(self, plane: RowBuffer, volume_shape: tuple[int, ...]) -> None:
        self._plane = plane
        in_front = len(plane.shape) - 2
        self._axis = in_front + next(
            axis for axis in range(3) if volume_shape[:axis] + volume_shape[axis + 1 :] == plane.shape[in_front:]
        )
        self.dtype = plane.dtype
        self.shape = (*plane.shape[: self._axis], 1, *plane.shape[self._axis :])

    def read(self, region: tuple[slice, ...]) -> NDArray[Any]:
        """Return a copy of a region of the volume."""
        pixels = self._plane.read(region[: self._axis] + region[self._axis + 1 :])
        in_slice = (slice(None),) * self._axis + (region[self._axis],)
        return np.expand_dims(pixels, self._axis)[in_slice]


def _open_file(place: Path | BufferFile, row_bytes: int) -> IO[bytes]:
    """Open the file of a buffer, positioned at its next row."""
    if isinstance(place, Path):
        return tempfile.TemporaryFile(dir=place)
    file = place.path.open("r+b" if place.rows else "w+b")
    file.truncate(place.rows * row_bytes)
    file.seek(0, os.SEEK_END)
    return file
