"""Visibility of tile borders: the jump of the logits across them, relative to their jump elsewhere."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.tiling.grid import Axis, Grid
from inference.tiling.stitch import Band


class Seams:
    """Seam meters of an image: one for each network, which has tiles of its own."""

    def __init__(self) -> None:
        self.meters: list[SeamMeter] = []

    def measure(self, bands: Iterable[Band], grid: Grid) -> Iterator[Band]:
        """Yield the bands of a network with this grid unchanged, each once its seams are measured."""
        meter = SeamMeter(grid)
        self.meters.append(meter)
        for band in bands:
            meter.add(band)
            yield band

    @property
    def seam(self) -> float | None:
        """Ratio of the network with the most visible seams; None if no network has any."""
        return max((meter.seam for meter in self.meters if meter.seam is not None), default=None)


class SeamMeter:
    """Meter that compares the jump of logits across tile borders with the jump in the middle between two borders.

    As many lines are compared in the middle as there are borders, so that the cost beside the network is small.

    Args:
        grid: tiles of the network.
    """

    def __init__(self, grid: Grid) -> None:
        self.lines = [(_borders(axis), _middles(axis)) for axis in grid.axes]
        self.sums, self.counts = [0.0, 0.0], [0, 0]  # across borders, in the middle between them
        self._last_row: NDArray[np.float32] | None = None  # of the previous band, (K, 1, *rest)

    def add(self, band: Band) -> None:
        """Add the next band."""
        for axis, lines in enumerate(self.lines[1:], start=2):
            for kind, places in enumerate(lines):
                self._add(kind, _at(band.logits, places, axis) - _at(band.logits, [place - 1 for place in places], axis))
        rows, first = band.logits, band.start
        if self._last_row is not None:
            rows, first = np.concatenate([self._last_row, rows], axis=1), first - 1
        for kind, places in enumerate(self.lines[0]):
            inside = [place - first for place in places if first < place < first + rows.shape[1]]
            self._add(kind, _at(rows, inside, 1) - _at(rows, [place - 1 for place in inside], 1))
        self._last_row = band.logits[:, -1:].copy()

    @property
    def seam(self) -> float | None:
        """Ratio of the jumps, about 1 if borders are invisible; None without borders, or if the logits are constant."""
        jumps = [total / count if count else 0.0 for total, count in zip(self.sums, self.counts, strict=True)]
        if not self.counts[0] or jumps == [0, 0]:
            return None
        return jumps[0] / jumps[1] if jumps[1] else math.inf

    def _add(self, kind: int, differences: NDArray[np.float32]) -> None:
        self.sums[kind] += float(np.abs(differences).sum(dtype=np.float64))
        self.counts[kind] += differences.size


def _borders(axis: Axis) -> list[int]:
    """Return the pixels at which a tile's output begins or ends inside the image."""
    ends = {end for span in axis.spans for end in (span.output.start, span.output.stop)}
    return sorted(ends - {0, axis.size})


def _middles(axis: Axis) -> list[int]:
    """Return the pixels midway between neighbouring borders, the image's own included; none between adjacent ones."""
    ends: Sequence[int] = (0, *_borders(axis), axis.size)
    middles = [(first + second) // 2 for first, second in pairwise(ends) if second - first > 1]
    return middles if len(ends) > 2 else []


def _at(logits: NDArray[np.float32], places: Sequence[int], axis: int) -> NDArray[np.float32]:
    return np.take(logits, np.array(places, np.intp), axis)
