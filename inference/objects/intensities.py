"""Means and deviations of an image's channels in objects, from blocks of rows that are read once for neighbouring objects."""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region
from inference.objects.image_object import Readable
from inference.objects.runs import Canvas, Groups, Integers, Runs

Floats = NDArray[np.float64]

BLOCK_VALUES = 2**24
_BLOCKS = 2  # that are held: objects lie on the border of two


class Intensities:
    """Reader that sums up the pixels of runs.

    Args:
        source: image (C, *S), or probabilities (K, *S).
        channels: C or K.
        canvas: canvas of S.
    """

    def __init__(self, source: Readable, channels: int, canvas: Canvas) -> None:
        self._source, self._canvas = source, canvas
        self._block_rows = max(1, BLOCK_VALUES // (channels * prod(canvas.shape[1:])))
        self._blocks: dict[int, NDArray[np.number]] = {}

    def means_and_deviations(self, groups: Groups, channels: Sequence[int] | None = None) -> tuple[Floats, Floats]:
        """Return each channel's mean and standard deviation in objects, (n, channels) both; channels None: all."""
        totals = self.run_sums(groups.runs, channels)
        sums, squares = groups.sums(totals[:, 0]), groups.sums(totals[:, 1])
        areas = groups.areas_px[:, None]
        means = sums / areas
        # The squares of integers are exact, but may be so much larger than the variance that a float has no digit of it.
        near = np.rint(means).astype(sums.dtype)
        squares, sums = squares - 2 * near * sums + areas * near * near, sums - areas * near
        return means, np.sqrt(np.maximum(squares - sums * (sums / areas), 0) / areas)

    def run_sums(self, runs: Runs, channels: Sequence[int] | None = None) -> NDArray[np.number]:
        """Return the sum and the sum of squares of each run's pixels, (n, 2, channels); exact if they are small integers."""
        order = np.argsort(runs.starts)
        positions = self._canvas.positions(runs.starts[order])
        lengths = runs.lengths[order]
        blocks = positions[:, 0] // self._block_rows
        totals: NDArray[np.number] | None = None
        for part in np.split(np.arange(len(runs)), np.flatnonzero(np.diff(blocks)) + 1):
            pixels, first = self._read(positions[part], lengths[part], int(blocks[part[0]]))
            pixels = pixels if channels is None else pixels[list(channels)]
            starts = np.ravel_multi_index(tuple((positions[part] - first).T), pixels.shape[1:])
            sums = _run_sums(pixels, starts, starts + lengths[part])
            if totals is None:
                totals = np.empty((len(runs), *sums.shape[1:]), sums.dtype)
            totals[order[part]] = sums
        return np.empty((0, 2, 0), np.float64) if totals is None else totals

    def _read(self, positions: Integers, lengths: Integers, block: int) -> tuple[NDArray[np.number], Integers]:
        """Return pixels (C, *S') that contain runs of a block of rows, and the position of the first of them.

        Whole blocks are held for the next objects. If the runs lie in a small part of a block, as those of an object that is
        high and narrow, only that part is read. Of a held block only the rows from the first run to the last are returned.
        """
        shape = np.array(self._canvas.shape)
        first, stop = np.zeros_like(shape), shape.copy()
        first[0], stop[0] = block * self._block_rows, min((block + 1) * self._block_rows, shape[0])
        lower, upper = positions.min(axis=0), positions.max(axis=0) + 1
        upper[-1] = (positions[:, -1] + lengths).max()
        if block not in self._blocks:
            if prod((upper - lower).tolist()) < prod((stop - first).tolist()) // 4:
                return self._source.read(_region(lower, upper)), lower
            while len(self._blocks) >= _BLOCKS:
                self._blocks.pop(min(self._blocks))
            self._blocks[block] = self._source.read(_region(first, stop))
        rows = slice(int(lower[0] - first[0]), int(upper[0] - first[0]))
        return self._blocks[block][:, rows], first + np.eye(len(first), dtype=np.int64)[0] * rows.start


def _region(first: Integers, stop: Integers) -> Region:
    return tuple(slice(lower, upper) for lower, upper in zip(first.tolist(), stop.tolist(), strict=True))


def _run_sums(pixels: NDArray[np.number], starts: Integers, stops: Integers) -> NDArray[np.number]:
    """Return the sum and the sum of squares of the pixels (C, *S') from each start to its stop, (runs, 2, C).

    Small integers are summed up without rounding: in 32 bits, twice as fast as in 64, if the longest run can't exceed them.
    """
    is_exact = pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2
    fits_32_bits = pixels.dtype.itemsize == 1 and (stops - starts).max() < 2**15
    edges = np.stack([starts, stops], axis=1).reshape(-1)
    edges = edges[: len(edges) - (edges[-1] == pixels[0].size)]
    sums = np.empty((len(starts), 2, len(pixels)), np.int64 if is_exact else np.float64)
    for channel, values in enumerate(pixels):
        wide = values.reshape(-1).astype(np.int32 if is_exact and fits_32_bits else sums.dtype)
        sums[:, 0, channel] = np.add.reduceat(wide, edges, dtype=wide.dtype)[::2]
        np.multiply(wide, wide, out=wide)
        sums[:, 1, channel] = np.add.reduceat(wide, edges, dtype=wide.dtype)[::2]
    return sums
