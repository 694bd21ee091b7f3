"""Detections: peaks of the smoothed probability of a class, of which only the highest within a radius remains."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from inference.objects.arrays import Shares
from inference.objects.image_object import Readable
from inference.objects.runs import Canvas, Integers

TILE_PIXELS = 2**20
TILE_WIDTH = 1024
SIGMAS_PER_RADIUS = 3.0
_TRUNCATE = 3.0  # sigmas at which the Gaussian ends


@dataclass(frozen=True)
class Peaks:
    """Centres of n detections.

    Args:
        numbers: (n,) numbers of their pixels on the canvas.
        labels: (n,) indices of their classes.
        scores: (n,) smoothed probabilities.
    """

    numbers: Integers
    labels: Integers
    scores: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: "list[Peaks]") -> "Peaks":
        """Return all peaks of the parts."""
        columns = zip(*((part.numbers, part.labels, part.scores) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def take(self, index: NDArray[Any]) -> "Peaks":
        """Return the peaks of an index or a mask."""
        return Peaks(self.numbers[index], self.labels[index], self.scores[index])

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class PeakFinder:
    """Finder of the peaks of each class but the first.

    The probability is smoothed by a Gaussian whose sigma is a third of the radius. A pixel is a candidate if it is at least
    as high as its neighbours, diagonal ones included, higher than those before it, and not below the threshold. From the
    highest candidate to the lowest, each remains unless one of its class within the radius remained; the first pixel comes
    first among equals. Candidates that are linked by distances within the radius are decided on together, as soon as no
    later row can have another, so that the result does not depend on the bands.

    Args:
        canvas: canvas of S.
        spacing_um: distance between pixel centres in S order.
        radius_um: smallest distance between two detections of a class.
        threshold: lowest smoothed probability of a detection.
    """

    canvas: Canvas
    spacing_um: tuple[float, ...]
    radius_um: float
    threshold: float

    def find(self, probabilities: Readable, band_rows: int | None = None) -> Iterator[Peaks]:
        """Yield the peaks of probabilities (K, *S) in the order of the last row that they are linked to, then of their pixels.

        Args:
            probabilities: float from 0 to 1, or uint8 from 0 to 255.
            band_rows: number of rows that are searched at a time; None: as many as have a million pixels.
        """
        rows, *rest = self.canvas.shape
        band_rows = band_rows or max(1, TILE_PIXELS // int(np.prod(rest)))
        reach_rows = int(self.radius_um / self.spacing_um[0])
        pending = Peaks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        for start in range(0, rows, band_rows):
            stop = min(start + band_rows, rows)
            pending = Peaks.joined([pending, *self._candidates(Shares(probabilities), start, stop)])
            last_rows = self._last_rows(pending)
            is_open = (last_rows + reach_rows >= stop) & (stop < rows)
            yield self._highest(pending.take(~is_open), last_rows[~is_open])
            pending = pending.take(is_open)

    def _candidates(self, shares: Shares, start: int, stop: int) -> Iterator[Peaks]:
        """Yield the candidates of some rows, tile by tile; tiles without a probability above the threshold are skipped."""
        sigmas = [self.radius_um / SIGMAS_PER_RADIUS / spacing for spacing in self.spacing_um]
        halo = [int(_TRUNCATE * sigma + 0.5) + 1 for sigma in sigmas]
        rows, *between, width = self.canvas.shape
        top, bottom = max(start - halo[0], 0), min(stop + halo[0], rows)
        for left in range(0, width, TILE_WIDTH):
            right = min(left + TILE_WIDTH, width)
            outer = slice(max(left - halo[-1], 0), min(right + halo[-1], width))
            tile = shares.read((slice(top, bottom), *(slice(0, size) for size in between), outer))  # (K, *S')
            inner = (slice(start - top, stop - top), ..., slice(left - outer.start, right - outer.start))
            for label in range(1, len(tile)):
                if tile[label].max() < self.threshold:
                    continue
                smooth = ndimage.gaussian_filter(tile[label], sigmas, mode="nearest", truncate=_TRUNCATE)
                found = np.argwhere(_is_peak(smooth, self.threshold)[inner])
                scores = smooth[inner][tuple(found.T)]
                found[:, 0] += start
                found[:, -1] += left
                yield Peaks(self.canvas.numbers(found), np.full(len(found), label), scores)

    def _links(self, peaks: Peaks) -> coo_array:
        """Return the graph (n, n) of peaks of one class within the radius of each other."""
        places = self.canvas.positions(peaks.numbers) * self.spacing_um
        layers = 3 * self.radius_um * peaks.labels  # keep classes apart
        tree = cKDTree(np.column_stack([places, layers]))
        first, second = tree.query_pairs(self.radius_um * (1 + 1e-9), output_type="ndarray").T
        ends = (np.concatenate([first, second]), np.concatenate([second, first]))
        return coo_array((np.ones(2 * len(first), np.bool_), ends), shape=(len(peaks), len(peaks)))

    def _last_rows(self, peaks: Peaks) -> Integers:
        """Return the last row (n,) of all peaks that are linked with each."""
        count, cluster = connected_components(self._links(peaks), directed=False)
        last = np.zeros(count, np.int64)
        np.maximum.at(last, cluster, peaks.numbers // self.canvas.steps[0])
        last_rows: Integers = last[cluster]
        return last_rows

    def _highest(self, peaks: Peaks, last_rows: Integers) -> Peaks:
        """Return the peaks without a higher one that remains within the radius, in the order that `find` describes."""
        links = self._links(peaks).tocsr()
        is_kept = np.ones(len(peaks), np.bool_)
        for peak in np.lexsort((peaks.numbers, -peaks.scores)):
            if is_kept[peak]:
                is_kept[links.indices[links.indptr[peak] : links.indptr[peak + 1]]] = False
        order = np.lexsort((peaks.labels, peaks.numbers, last_rows))
        return peaks.take(order[is_kept[order]])


def _is_peak(smooth: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return whether each pixel (*S) reaches the threshold, exceeds its neighbours before it, and is not below the others."""
    padded = np.pad(smooth, 1, constant_values=-1)
    is_peak = smooth >= threshold
    for steps in product((-1, 0, 1), repeat=smooth.ndim):
        neighbours = padded[tuple(slice(1 + step, 1 + step + size) for step, size in zip(steps, smooth.shape, strict=True))]
        if steps < (0,) * smooth.ndim:
            is_peak &= smooth > neighbours
        elif any(steps):
            is_peak &= smooth >= neighbours
    return is_peak
