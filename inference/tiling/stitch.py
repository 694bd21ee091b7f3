"""Stitching of tiles, side by side or blended, into bands that are yielded as soon as no later tile touches them."""

import math
import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.tiling.grid import Grid, Tile

GROUP_BYTES = 4 * 2**20  # size of the logits that are processed at a time; at least one row


@dataclass(frozen=True)
class Band:
    """Finished rows: logits (K, rows, *rest) that begin at row `start` of the image's first axis.

    `disagreement` (rows, *rest) is that of an ensemble's members; None if it is not requested.
    """

    start: int
    logits: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None = None


class Stitcher:
    """Streaming stitcher that holds one row of tiles, however long the image.

    It takes the logits of the tiles in the grid's order and gives back finished bands. Its buffers are rings: row r of the
    image lies in row r % `rows`.

    Args:
        grid: the tiles of the image.
        background: (K,), logits where no tile is added.
        weights: weight of each pixel of a tile, (*tile), where tiles are blended; None where they lie side by side.
        first_row: first row that is returned.
        scratch_folder: folder for the logits where they don't fit into memory; None keeps them in memory.
    """

    def __init__(
        self,
        grid: Grid,
        background: NDArray[np.float32],
        weights: NDArray[np.float32] | None,
        *,
        first_row: int = 0,
        scratch_folder: Path | None = None,
    ) -> None:
        self.grid = grid
        self.weights = weights
        self.first_row = first_row  # of the rows that were not yielded yet
        self.finished_row = first_row  # no later tile writes above it
        self.rows = grid.most_rows
        self.background = background
        shape = (len(background), self.rows, *grid.shape[1:])
        self.logits = LogitsOnDisk(shape, scratch_folder) if scratch_folder else LogitsInMemory(shape)
        self.weight_sum = np.zeros(shape[1:], np.float32) if weights is not None else None
        self._clear(slice(0, self.rows))

    def add(self, tile: Tile, logits: NDArray[np.float32]) -> None:
        """Add one tile's logits (K, *S') to the buffers. Outputs beyond K, such as those of an image label, are ignored.

        Where tiles overlap, the buffers hold the weighted mean so far rather than a sum that is divided in the end, so that
        the mean of equal values is exactly that value, however many tiles overlap (West 1979, updating a weighted mean).
        """
        first = max(tile.output[0].start, self.first_row)
        for rows, ring_rows in self._ring_pieces(first, tile.output[0].stop):
            first_cropped = tile.crop[0].start + rows.start - tile.output[0].start
            crop = (slice(first_cropped, first_cropped + rows.stop - rows.start), *tile.crop[1:])
            self._write((ring_rows, *tile.output[1:]), crop, logits)
        self.finished_row = tile.finished_row

    def _write(self, place: tuple[slice, ...], crop: tuple[slice, ...], logits: NDArray[np.float32]) -> None:
        """Write a tile's cropped logits to a place in the buffers, class by class, so that many classes take no more memory."""
        share: NDArray[np.float32] | None = None
        if self.weights is not None and self.weight_sum is not None:
            self.weight_sum[place] += self.weights[crop]
            share = self.weights[crop] / self.weight_sum[place]
        rows, columns, *rest = place
        for number in range(len(self.background)):
            block = self.logits.read(number, rows, columns)  # (rows, columns, *rest)
            mean = block[(slice(None), slice(None), *rest)]
            if share is None:
                mean[...] = logits[number][crop]
            else:
                mean += (logits[number][crop] - mean) * share
            self.logits.write(number, rows, columns, block)

    def finished(self) -> Iterator[Band]:
        """Yield the rows that no later tile touches, in bands of about GROUP_BYTES that don't cross rows of tiles."""
        if self.first_row >= self.finished_row:
            return
        most_rows = rows_per_group((len(self.background), *self.grid.shape))
        columns = slice(0, self.grid.shape[1])
        inner_ends = [start for start in self.grid.row_starts if self.first_row < start < self.finished_row]
        for end in (*inner_ends, self.finished_row):
            while self.first_row < end:
                rows, ring_rows = next(self._ring_pieces(self.first_row, min(end, self.first_row + most_rows)))
                logits = np.stack([self.logits.read(number, ring_rows, columns) for number in range(len(self.background))])
                self._clear(ring_rows)
                self.first_row = rows.stop
                yield Band(rows.start, logits)

    def _clear(self, ring_rows: slice) -> None:
        """Reset rows of the buffers to the background."""
        for number, value in enumerate(self.background):
            line = np.full((1, *self.grid.shape[1:]), value, np.float32)
            for row in range(ring_rows.start, ring_rows.stop):
                self.logits.write(number, slice(row, row + 1), slice(0, self.grid.shape[1]), line)
        if self.weight_sum is not None:
            self.weight_sum[ring_rows] = 0

    def _ring_pieces(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Yield rows of the image with their rows in the buffers, in pieces that don't wrap around the ring."""
        while start < stop:
            place = start % self.rows
            count = min(stop - start, self.rows - place)
            yield slice(start, start + count), slice(place, place + count)
            start += count


class LogitsInMemory:
    """Logits (K, rows, columns, *rest) in memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.empty(shape, np.float32)

    def read(self, number: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the logits of one class, (rows, columns, *rest), as a view."""
        return self.array[number, rows, columns]

    def write(self, number: int, rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        """Write a block of one class; a view from `read` is in place already."""
        if block.base is not self.array:
            self.array[number, rows, columns] = block


class LogitsOnDisk:
    """Logits (K, rows, columns, *rest) in an unnamed file, read and written row by row.

    A memory mapping would be less code, but its pages count as the process's memory, and the system maps more than is used.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        self.shape = shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed with this object)
        self._closing = weakref.finalize(self, self._file.close)
        self._column_bytes = 4 * math.prod(shape[3:])
        self._file.truncate(4 * math.prod(shape))

    def read(self, number: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the logits of one class, (rows, columns, *rest)."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, *self.shape[3:]), np.float32)
        for row, line in enumerate(block, start=rows.start):
            os.preadv(self._file.fileno(), [line], self._offset(number, row, columns.start))
        return block

    def write(self, number: int, rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        """Write a block of one class."""
        for row, line in enumerate(block, start=rows.start):
            os.pwrite(self._file.fileno(), line, self._offset(number, row, columns.start))

    def _offset(self, number: int, row: int, column: int) -> int:
        """Return the position of a value in the file, in bytes."""
        return ((number * self.shape[1] + row) * self.shape[2] + column) * self._column_bytes


def rows_per_group(shape: tuple[int, ...]) -> int:
    """Return the number of rows of logits (K, *S) that are processed at a time."""
    return max(1, GROUP_BYTES // (4 * shape[0] * math.prod(shape[2:])))


def gaussian_weights(tile_size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return Gaussian weights (*tile): 1 in the middle, with a deviation of an eighth of the tile, never below 1e-3.

    Source: Isensee et al. 2021 (nnU-Net), sigma = patch size / 8.
    """
    weights = np.ones(tile_size, np.float64)
    for axis, size in enumerate(tile_size):
        distance = (np.arange(size) - (size - 1) / 2) / (size / 8)
        line = np.exp(-(distance**2) / 2)
        weights *= line.reshape([-1 if other == axis else 1 for other in range(len(tile_size))])
    result: NDArray[np.float32] = np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
    return result
