"""How tiles are put together: side by side or blended, in bands that leave as soon as no later tile touches them."""

import math
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.grid import Grid, Tile

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
        self.nothing = nothing.reshape(-1, *(1,) * len(grid.shape))
        shape = (len(nothing), self.rows, *grid.shape[1:])
        self._file = OnDisk(shape, scratch) if scratch else None
        self.logits = self._file.array if self._file else np.empty(shape, np.float32)
        self.weight_sum = np.zeros(shape[1:], np.float32) if weights is not None else None
        for row in range(self.rows):
            self._empty(slice(row, row + 1))

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
        for number, (mean, tile) in enumerate(zip(self.logits, logits, strict=True)):
            if share is None:
                mean[place] = tile[kept]
            else:
                mean[place] += (tile[kept] - mean[place]) * share
            if self._file:
                self._file.let_go(number)

    def finished(self) -> Iterator[Band]:
        """The rows that no later tile touches and that haven't been given yet, in bands of about GROUP_BYTES or a row."""
        starts = self.grid.row_starts
        rows_done = self.added // self.tiles_per_row
        end = starts[rows_done] if rows_done < len(starts) else self.grid.shape[0]
        while self.first_row < end:
            most = rows_in_group(self.logits.shape)
            rows, held = next(self._held(self.first_row, min(end, self.first_row + most)))
            band = self.logits[:, held].copy()
            self._empty(held)
            self.first_row = rows.stop
            yield Band(rows.start, band)

    def _empty(self, held: slice) -> None:
        self.logits[:, held] = self.nothing
        if self.weight_sum is not None:
            self.weight_sum[held] = 0
        if self._file:
            self._file.let_go()

    def _held(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """Rows of the image and where the buffers hold them; two pieces where they go on at the buffers' beginning."""
        while start < stop:
            place = start % self.rows
            count = min(stop - start, self.rows - place)
            yield slice(start, start + count), slice(place, place + count)
            start += count


class OnDisk:
    """An array (K, *S), float32, in a file without a name, whose pages count as the process's memory only while in use.

    The system maps far more of a file than is touched: class by class what was worked on has to be let go of.
    """

    def __init__(self, shape: tuple[int, ...], folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(4 * math.prod(shape))
            self._mapped = mmap.mmap(file.fileno(), 0)
        self.array: NDArray[np.float32] = np.frombuffer(self._mapped, np.float32).reshape(shape)

    def let_go(self, number: int | None = None) -> None:
        """Leaves what was written to the system, which brings it to the disk where it needs the memory.

        Args:
            number: of the class that was worked on; None: all of them were.
        """
        if number is None:
            self._mapped.madvise(mmap.MADV_DONTNEED)
            return
        size = self.array[0].nbytes
        first = number * size // mmap.PAGESIZE * mmap.PAGESIZE
        self._mapped.madvise(mmap.MADV_DONTNEED, first, (number + 1) * size - first)


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
