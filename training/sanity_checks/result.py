"""What a check of a recipe gives back: a figure, the limit it is held to, and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR = 0.05  # of the worse loss; by less one loss is not clearly lower than another
ERRORS = 2.0  # standard errors of the paired differences that a clear one exceeds

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CheckPicture:
    """A picture: what it shows in words, and its PNG for a light page and, where that differs, for a dark one."""

    words: str
    png: bytes
    dark: bytes | None = None


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Args:
        passed: whether the figure keeps to the limit.
        measured: the figure in words.
        limit: what it is held to, in words.
        pictures: to look at.
        remedy: what to do about it, where that says more than the check's own.
        advisory: a failure is worth a look, but says too little to stop anybody.
    """

    passed: bool
    measured: str
    limit: str
    pictures: tuple[CheckPicture, ...] = ()
    remedy: str = ""
    advisory: bool = False


class NotApplicable(Exception):
    """The question makes no sense for this config; the message says why."""


class OutOfTime(Exception):
    """A check came to no verdict within its time."""


def needed_gap(lower: Sequence[float] | Floats, higher: Sequence[float] | Floats) -> float:
    """By how much the mean of `higher` has to exceed that of `lower`, paired losses (n,), so that the gap is clear."""
    gaps = np.asarray(higher, np.float64) - np.asarray(lower, np.float64)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    return max(CLEAR * abs(float(np.mean(higher))), ERRORS * error)
