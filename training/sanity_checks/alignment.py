"""Alignment of references with their images, measured by the mutual information of grey value and label.

An image has the most information about its own reference at its own position. If it has as much about the reference of
another case, or more when the reference is shifted or mirrored, the pairs are misaligned. Mutual information (Viola and
Wells 1997) assumes no particular contrast.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 16  # of grey values, with equally many pixels
SHIFTS_PX = (2, 4, 8)  # in both directions along each axis
MOST_SWAPS = 6
BETTER = 1.02  # factor by which more information counts as more
ERRORS = 2.0  # standard errors of the differences between cases above which a gain is clear

Pixels = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """Mutual information in nats, one value per case.

    Args:
        own: of each image and its reference.
        moved: of each image and its moved reference, by a description of the move.
        swapped: of each image and the reference of another case, by the distance of that case in the list.
    """

    own: Floats
    moved: dict[str, Floats]
    swapped: dict[str, Floats]

    @property
    def better(self) -> str | None:
        """Return the move after which references fit clearly better than in their own position; None if there is none."""
        best = max(self.moved, key=lambda move: float(self.moved[move].mean()), default=None)
        if best is None or self.moved[best].mean() <= BETTER * self.own.mean():
            return None
        gaps = self.moved[best] - self.own
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
        return best if gaps.mean() > ERRORS * error else None

    @property
    def best_swap(self) -> float:
        """Return the highest mean information about the references of other cases; 0 if there is one case."""
        return max((float(values.mean()) for values in self.swapped.values()), default=0.0)


def measure_alignment(pairs: Sequence[tuple[Pixels, Pixels]]) -> Alignment:
    """Measure the alignment of (grey (*S), labels (*S)) of each case; pixels with label -1 don't count."""
    binned = []
    for grey, labels in pairs:
        limits = np.unique(np.quantile(grey, np.linspace(0, 1, BINS + 1)[1:-1]))
        binned.append((np.searchsorted(limits, grey, side="right"), labels.astype(np.int64)))
    own = np.array([_mutual_information(grey, labels) for grey, labels in binned])
    by_case = [dict(_gains_by_move(*pair)) for pair in binned]
    names = set.intersection(*(set(moves) for moves in by_case))
    moved = {name: own + np.array([moves[name] for moves in by_case]) for name in sorted(names)}
    swapped = {}
    for step in range(1, min(len(binned), MOST_SWAPS + 1)):
        values = []
        for place, (grey, _) in enumerate(binned):
            labels = binned[(place + step) % len(binned)][1]
            common = tuple(slice(0, min(sizes)) for sizes in zip(grey.shape, labels.shape, strict=True))
            values.append(_mutual_information(grey[common], labels[common]))
        swapped[f"{step} on"] = np.array(values)
    return Alignment(own, moved, swapped)


def _gains_by_move(grey: Pixels, labels: Pixels) -> Iterator[tuple[str, float]]:
    """Yield each move of the labels with the gain in information; shifts are compared over the pixels that stay inside."""
    here = _mutual_information(grey, labels)
    for axis in range(labels.ndim):
        yield f"mirrored along axis {axis}", _mutual_information(grey, np.flip(labels, axis)) - here
        size = labels.shape[axis]
        for shift in (shift for step in SHIFTS_PX if 4 * step <= size for shift in (-step, step)):
            reach = abs(shift)
            inside = _slices(axis, reach, size - reach)
            moved = labels[_slices(axis, reach - shift, size - reach - shift)]
            gain = _mutual_information(grey[inside], moved) - _mutual_information(grey[inside], labels[inside])
            yield f"shifted by {shift:+d} px along axis {axis}", gain


def _slices(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))


def _mutual_information(bins: Pixels, labels: Pixels) -> float:
    """Return the mutual information in nats of bins and labels; labels below 0 don't count."""
    valid = labels >= 0
    if not valid.any():
        return 0.0
    width = int(labels.max()) + 1
    joint = np.bincount(bins[valid] * width + labels[valid], minlength=BINS * width).reshape(BINS, width) / valid.sum()
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    occurs = joint > 0
    return float((joint[occurs] * np.log(joint[occurs] / independent[occurs])).sum())
