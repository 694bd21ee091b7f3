"""The result of a check: a figure, its limit, and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLEAR = 0.05  # share of the higher loss; a smaller gap between two losses is not clear
ERRORS = 2.0  # standard errors of the paired differences; a smaller gap is not clear

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CheckPicture:
    """A picture with its caption: a PNG for light pages and, if that looks different, one for dark pages."""

    caption: str
    png: bytes
    dark: bytes | None = None


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Args:
        passed: whether the figure is within the limit.
        measured: the figure as text.
        limit: the limit as text.
        pictures: pictures for the page.
        remedy: what to do, if it is more specific than the check's own.
        advisory: a failure is worth a look, but isn't reliable enough to fail the run's checks.
    """

    passed: bool
    measured: str
    limit: str
    pictures: tuple[CheckPicture, ...] = ()
    remedy: str = ""
    advisory: bool = False


class NotApplicable(Exception):
    """The check doesn't apply to this config; the message says why."""


class OutOfTime(Exception):
    """A check didn't finish in its time."""


def clear_gap(lower: Sequence[float] | Floats, higher: Sequence[float] | Floats) -> float:
    """Return the gap between the means of two sets of paired losses (n,) above which it is clear."""
    gaps = np.asarray(higher, np.float64) - np.asarray(lower, np.float64)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    return max(CLEAR * abs(float(np.mean(higher))), ERRORS * error)
