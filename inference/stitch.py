"""How tiles are put together: side by side or blended, in bands that leave as soon as no later tile touches them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.grid import Grid, Tile


@dataclass(frozen=True)
class Band:
    """Finished rows: logits (K, rows, *rest) that begin at row `start` of the image's first axis."""

    start: int
    logits: NDArray[np.float32]


class Stitcher:
    """Takes the logits of the grid's tiles in the grid's order and gives back finished bands, asked for after each tile.

    Holds one row of tiles, however long the image.

    Args:
        grid: where the tiles lie.
        classes: K.
        weights: of a tile's pixels, (*tile), where tiles are blended; None where they lie side by side.
    """

    def __init__(self, grid: Grid, classes: int, weights: NDArray[np.float32] | None) -> None:
        self.grid = grid
        self.weights = weights
        self.tiles_per_row = len(grid) // len(grid.row_starts)
        self.added = 0
        self.first_row = 0  # what the buffers begin with
        rows = (max(span.output.stop - span.output.start for span in grid.axes[0].spans), *grid.shape[1:])
        self.logits = np.zeros((classes, *rows), np.float32)
        self.weight_sum = np.zeros(rows, np.float32) if weights is not None else None

    def add(self, tile: Tile, logits: NDArray[np.float32]) -> None:
        """Puts one tile's logits (K, *S') where they belong.

        Where tiles overlap, the buffer holds their weighted mean so far rather than a sum to be divided in the end: what the
        tiles agree on stays as it is, however many overlap (West 1979, updating a weighted mean).
        """
        rows = slice(tile.output[0].start - self.first_row, tile.output[0].stop - self.first_row)
        place = (rows, *tile.output[1:])
        kept, mean = logits[(slice(None), *tile.kept)], self.logits[(slice(None), *place)]
        if self.weights is None or self.weight_sum is None:
            mean[:] = kept
        else:
            weights = self.weights[tile.kept]
            self.weight_sum[place] += weights
            mean += (kept - mean) * (weights / self.weight_sum[place])
        self.added += 1

    def finished(self) -> Iterator[Band]:
        """The rows that no later tile touches and that haven't been given yet: one band or none."""
        starts = self.grid.row_starts
        rows_done = self.added // self.tiles_per_row
        end = starts[rows_done] if rows_done < len(starts) else self.grid.shape[0]
        count = end - self.first_row
        if count == 0:
            return
        yield Band(self.first_row, self.logits[:, :count].copy())
        self._drop(count)

    def _drop(self, count: int) -> None:
        """Moves what isn't finished to the buffers' beginning."""
        self.first_row += count
        for buffer in (self.logits, self.weight_sum[None] if self.weight_sum is not None else None):
            if buffer is not None:
                left = buffer.shape[1] - count
                buffer[:, :left] = buffer[:, count:].copy()
                buffer[:, left:] = 0


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
