"""How tiles are put together: side by side or blended, in bands that leave as soon as no later tile touches them."""

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

GROUP_BYTES = 4 * 2**20  # of logits that are worked on at a time, or one row of them


@dataclass(frozen=True)
class Band:
    """Finished rows: logits (K, rows, *rest) that begin at row `start` of the image's first axis.

    `disagreement` (rows, *rest) is how far the networks of an ensemble are apart, where that is asked for.
    """

    start: int
    logits: NDArray[np.float32]
    disagreement: NDArray[np.float32] | None = None


class Stitcher:
    """Takes the logits of the grid's tiles in the grid's order and gives back finished bands, asked for after each tile.

    Holds one row of tiles, however long the image: row r of the image lies in row r % `rows` of the buffers.

    Args:
        grid: where the tiles lie.
        nothing: (K,), the logits where no tile is added.
        weights: of a tile's pixels, (*tile), where tiles are blended; None where they lie side by side.
        first_row: what lies above isn't wanted; the first tile is the first one that writes below.
        scratch: a folder for the logits where memory is too small for them; None: they are in memory.
    """

    def __init__(
        self,
        grid: Grid,
        nothing: NDArray[np.float32],
        weights: NDArray[np.float32] | None,
        *,
        first_row: int = 0,
        scratch: Path | None = None,
    ) -> None:
        self.grid = grid
        self.weights = weights
        self.tiles_per_row = len(grid) // len(grid.row_starts)
        self.added = grid.tiles_above(first_row)
        self.first_row = first_row  # that hasn't left yet
        self.rows = grid.most_rows
        self.nothing = nothing
        shape = (len(nothing), self.rows, *grid.shape[1:])
        self.logits = OnDisk(shape, scratch) if scratch else InMemory(shape)
        self.weight_sum = np.zeros(shape[1:], np.float32) if weights is not None else None
        self._empty(slice(0, self.rows))

    def add(self, tile: Tile, logits: NDArray[np.float32]) -> None:
        """Puts one tile's logits (K, *S') where they belong.

        Where tiles overlap, the buffer holds their weighted mean so far rather than a sum to be divided in the end: what the
        tiles agree on stays as it is, however many overlap (West 1979, updating a weighted mean).
        """
        first = max(tile.output[0].start, self.first_row)
        for rows, held in self._held(first, tile.output[0].stop):
            kept_from = tile.kept[0].start + rows.start - tile.output[0].start
            kept = (slice(kept_from, kept_from + rows.stop - rows.start), *tile.kept[1:])
            self._put((held, *tile.output[1:]), kept, logits)
        self.added += 1

    def skip(self) -> None:
        """Passes over the tile that is next: nothing is known of its pixels."""
        self.added += 1

    def _put(self, place: tuple[slice, ...], kept: tuple[slice, ...], logits: NDArray[np.float32]) -> None:
        """Class by class: what it takes doesn't grow with them."""
        share: NDArray[np.float32] | None = None
        if self.weights is not None and self.weight_sum is not None:
            self.weight_sum[place] += self.weights[kept]
            share = self.weights[kept] / self.weight_sum[place]
        rows, columns, *rest = place
        for number, tile in enumerate(logits):
            block = self.logits.read(number, rows, columns)  # (rows, columns, *rest)
            mean = block[(slice(None), slice(None), *rest)]
            if share is None:
                mean[...] = tile[kept]
            else:
                mean += (tile[kept] - mean) * share
            self.logits.write(number, rows, columns, block)

    def finished(self) -> Iterator[Band]:
        """The rows that no later tile touches and that haven't been given yet, in bands of about GROUP_BYTES or a row."""
        starts = self.grid.row_starts
        rows_done = self.added // self.tiles_per_row
        end = starts[rows_done] if rows_done < len(starts) else self.grid.shape[0]
        while self.first_row < end:
            most = rows_in_group((len(self.nothing), *self.grid.shape))
            rows, held = next(self._held(self.first_row, min(end, self.first_row + most)))
            columns = slice(0, self.grid.shape[1])
            band = np.stack([self.logits.read(number, held, columns) for number in range(len(self.nothing))])
            self._empty(held)
            self.first_row = rows.stop
            yield Band(rows.start, band)

    def _empty(self, held: slice) -> None:
        for number, value in enumerate(self.nothing):
            line = np.full((1, *self.grid.shape[1:]), value, np.float32)
            for row in range(held.start, held.stop):
                self.logits.write(number, slice(row, row + 1), slice(0, self.grid.shape[1]), line)
        if self.weight_sum is not None:
            self.weight_sum[held] = 0

    def _held(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Rows of the image and where the buffers hold them; two pieces where they go on at the buffers' beginning."""
        while start < stop:
            place = start % self.rows
            count = min(stop - start, self.rows - place)
            yield slice(start, start + count), slice(place, place + count)
            start += count


class InMemory:
    """Logits (K, rows, columns, *rest)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.array = np.empty(shape, np.float32)

    def read(self, number: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        """One class, (rows, columns, *rest)."""
        return self.array[number, rows, columns]

    def write(self, number: int, rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        """Puts it there; nothing, where it is what was read."""
        if block.base is not self.array:
            self.array[number, rows, columns] = block


class OnDisk:
    """The same in a file without a name, read and written row by row.

    A mapping would be shorter, but its pages count as the process's memory, and the system maps far more than is touched.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        self.shape = shape
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed when nobody stitches any more)
        self._closing = weakref.finalize(self, self._file.close)
        self._column_bytes = 4 * math.prod(shape[3:])
        self._file.truncate(4 * math.prod(shape))

    def read(self, number: int, rows: slice, columns: slice) -> NDArray[np.float32]:
        """One class, (rows, columns, *rest)."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, *self.shape[3:]), np.float32)
        for row, line in enumerate(block, start=rows.start):
            os.preadv(self._file.fileno(), [line], self._place(number, row, columns.start))
        return block

    def write(self, number: int, rows: slice, columns: slice, block: NDArray[np.float32]) -> None:
        """Puts it there."""
        for row, line in enumerate(block, start=rows.start):
            os.pwrite(self._file.fileno(), line, self._place(number, row, columns.start))

    def _place(self, number: int, row: int, column: int) -> int:
        return ((number * self.shape[1] + row) * self.shape[2] + column) * self._column_bytes


def rows_in_group(shape: tuple[int, ...]) -> int:
    """How many rows of logits (K, *S) are worked on at a time."""
    return max(1, GROUP_BYTES // (4 * shape[0] * math.prod(shape[2:])))


def gaussian_weights(tile_size: tuple[int, ...]) -> NDArray[np.float32]:
    """Weights (*tile) that are 1 in the middle and fall off with a deviation of an eighth of the tile, never below 1e-3.

    Source: Isensee et al. 2021 (nnU-Net), sigma = patch size / 8.
    """
    weights = np.ones(tile_size, np.float64)
    for axis, size in enumerate(tile_size):
        distance = (np.arange(size) - (size - 1) / 2) / (size / 8)
        line = np.exp(-(distance**2) / 2)
        weights *= line.reshape([-1 if other == axis else 1 for other in range(len(tile_size))])
    floored: NDArray[np.float32] = np.maximum(weights / weights.max(), 1e-3).astype(np.float32)
    return floored
