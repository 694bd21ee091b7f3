"""Whether references lie on their images: how much a pixel's intensity tells of its label, here and where it is moved away.

An image tells the most about its own reference at its own place. If it tells as much about that of another case, or more
where the reference is shifted or mirrored, then the pairs are misaligned. Measured is the mutual information of grey value
and label (Viola and Wells 1997), which asks for no particular contrast.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 16  # of grey values, equally many pixels in each
SHIFTS_PX = (2, 4, 8)  # either way along each axis
MOST_SWAPS = 6
BETTER = 1.02  # times as much information is more
ERRORS = 2.0  # standard errors of the cases' differences that count as more

Pixels = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """Mutual information in nats, a value a case.

    Args:
        own: of each image and its reference.
        moved: of each image and its reference elsewhere, by words on where.
        swapped: of each image and the reference of another case, by which.
    """

    own: Floats
    moved: dict[str, Floats]
    swapped: dict[str, Floats]

    @property
    def better(self) -> str | None:
        """Where references fit clearly better than at their own place."""
        worst = max(self.moved, key=lambda where: float(self.moved[where].mean()), default=None)
        if worst is None or self.moved[worst].mean() <= BETTER * self.own.mean():
            return None
        gaps = self.moved[worst] - self.own
        error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
        return worst if gaps.mean() > ERRORS * error else None

    @property
    def best_swap(self) -> float:
        """The most that images tell of others' references, a mean over the cases; 0 where there is one case."""
        return max((float(values.mean()) for values in self.swapped.values()), default=0.0)


def alignment_of(pairs: Sequence[tuple[Pixels, Pixels]]) -> Alignment:
    """Looks at (grey (*S), labels (*S)) of each case, with -1 for pixels that count nowhere."""
    binned = [(_bins(grey), labels.astype(np.int64)) for grey, labels in pairs]
    own = np.array([_information(grey, labels) for grey, labels in binned])
    by_case = [dict(_moves(*pair)) for pair in binned]
    names = set.intersection(*(set(moves) for moves in by_case))
    moved = {name: own + np.array([moves[name] for moves in by_case]) for name in sorted(names)}
    swapped = {}
    for step in range(1, min(len(binned), MOST_SWAPS + 1)):
        others = [binned[(place + step) % len(binned)][1] for place in range(len(binned))]
        swapped[f"{step} on"] = np.array([_together(grey, other) for (grey, _), other in zip(binned, others, strict=True)])
    return Alignment(own, moved, swapped)


def _moves(grey: Pixels, labels: Pixels) -> Iterator[tuple[str, float]]:
    """By how much more the image tells of its reference if that is moved; shifts are compared over what stays inside."""
    here = _information(grey, labels)
    for axis in range(labels.ndim):
        yield f"mirrored along axis {axis}", _information(grey, np.flip(labels, axis)) - here
        size = labels.shape[axis]
        for shift in (shift for step in SHIFTS_PX if 4 * step <= size for shift in (-step, step)):
            reach = abs(shift)
            middle = _part(axis, reach, size - reach)
            moved = labels[_part(axis, reach - shift, size - reach - shift)]
            gain = _information(grey[middle], moved) - _information(grey[middle], labels[middle])
            yield f"shifted by {shift:+d} px along axis {axis}", gain


def _part(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))


def _together(grey: Pixels, labels: Pixels) -> float:
    """Over the part that both have."""
    common = tuple(slice(0, min(sizes)) for sizes in zip(grey.shape, labels.shape, strict=True))
    return _information(grey[common], labels[common])


def _bins(grey: Pixels) -> Pixels:
    """Numbers of bins, 0 .. BINS - 1."""
    return np.searchsorted(np.unique(np.quantile(grey, np.linspace(0, 1, BINS + 1)[1:-1])), grey, side="right")


def _information(bins: Pixels, labels: Pixels) -> float:
    """In nats."""
    counted = labels >= 0
    if not counted.any():
        return 0.0
    width = int(labels.max()) + 1
    joint = np.bincount(bins[counted] * width + labels[counted], minlength=BINS * width).reshape(BINS, width) / counted.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    told = joint > 0
    return float((joint[told] * np.log(joint[told] / apart[told])).sum())
