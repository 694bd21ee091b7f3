"""How visible the borders of tiles are in a result: the jump across them by the jump elsewhere."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from inference.tiling.grid import Axis, Grid
from inference.tiling.stitch import Band


class Seams:
    """Of an image: a meter for each network that goes over it with tiles of its own."""

    def __init__(self) -> None:
        self.meters: list[SeamMeter] = []

    def meter(self, grid: Grid) -> "SeamMeter":
        """One more."""
        self.meters.append(SeamMeter(grid))
        return self.meters[-1]

    @property
    def seam(self) -> float | None:
        """The most visible ones; None where there are none."""
        return max((meter.seam for meter in self.meters if meter.seam is not None), default=None)


class SeamMeter:
    """Compares neighbouring logits on both sides of each border with those in the middle between two borders.

    As many lines are looked at in the middle as there are borders, so that it costs nothing beside the network.

    Args:
        grid: whose tiles they are.
    """

    def __init__(self, grid: Grid) -> None:
        self.lines = [(_borders(axis), _middles(axis)) for axis in grid.axes]
        self.sums, self.counts = [0.0, 0.0], [0, 0]  # across borders, in the middle
        self._last_row: NDArray[np.float32] | None = None  # of the band before, (K, 1, *rest)

    def add(self, band: Band) -> None:
        """Bands come in order."""
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
        """About 1 where borders can't be seen, more where they can; None where there are none, or nothing ever changes."""
        jumps = [total / count if count else 0.0 for total, count in zip(self.sums, self.counts, strict=True)]
        if not self.counts[0] or jumps == [0, 0]:
            return None
        return jumps[0] / jumps[1] if jumps[1] else math.inf

    def _add(self, kind: int, differences: NDArray[np.float32]) -> None:
        self.sums[kind] += float(np.abs(differences).sum(dtype=np.float64))
        self.counts[kind] += differences.size


def _borders(axis: Axis) -> list[int]:
    """Where an output begins or ends inside the image."""
    ends = {end for span in axis.spans for end in (span.output.start, span.output.stop)}
    return sorted(ends - {0, axis.size})


def _middles(axis: Axis) -> list[int]:
    """Between two borders, or a border and the image's; none where they lie next to each other."""
    ends: Sequence[int] = (0, *_borders(axis), axis.size)
    middles = [(first + second) // 2 for first, second in pairwise(ends) if second - first > 1]
    return middles if len(ends) > 2 else []


def _at(logits: NDArray[np.float32], places: Sequence[int], axis: int) -> NDArray[np.float32]:
    return np.take(logits, np.array(places, np.intp), axis)
