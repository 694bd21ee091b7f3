"""Two methods' values on the same cases -> their mean difference and how sure it is."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST_CASES = 3  # below, an interval would say nothing
RESAMPLES = 9999
CONFIDENCE = 0.95
SEED = 0
MOST_DRAWS_AT_ONCE = 10**6  # bounds the bootstrap's memory at 10^4 cases


@dataclass(frozen=True)
class Difference:
    """The second method's value minus the first's, case by case.

    Args:
        second_minus_first: one a case, NaN where either method has no value.
        means: of the first and of the second method, over the cases where both have a value.
        mean: of the differences.
        interval: 95% bootstrap interval of that mean over cases; None where it is omitted.
        omitted: why there is no interval.
    """

    second_minus_first: tuple[float, ...]
    means: tuple[float, float]
    mean: float
    interval: tuple[float, float] | None
    omitted: str | None

    @property
    def pairs(self) -> int:
        """Cases where both methods have a value."""
        return sum(not math.isnan(value) for value in self.second_minus_first)


def difference_of(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The paired difference of two methods' values, one a case and in the same order; NaN means no value.

    The interval resamples whole cases: both values of a case stay together (Efron and Tibshirani 1993, chapter 8),
    bias-corrected and accelerated (Efron 1987), 9999 resamples, seed 0.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    paired = [index for index, value in enumerate(differences) if not math.isnan(value)]
    interval, omitted = _interval([differences[index] for index in paired])
    return Difference(
        second_minus_first=tuple(differences),
        means=(_mean([first[index] for index in paired]), _mean([second[index] for index in paired])),
        mean=_mean([differences[index] for index in paired]),
        interval=interval,
        omitted=omitted,
    )


def _interval(values: list[float]) -> tuple[tuple[float, float] | None, str | None]:
    if len(values) < FEWEST_CASES:
        return None, f"{len(values)} of the needed {FEWEST_CASES} cases have a value for both"
    if max(values) - min(values) < 1e-12:
        return None, "all cases differ by the same amount, so resampling them shows no spread"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's word on degenerate data; it then gives NaN, which is said below
        result = stats.bootstrap(
            (np.array(values),), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
            method="BCa", rng=np.random.default_rng(SEED), batch=max(1, MOST_DRAWS_AT_ONCE // len(values)),
        )  # fmt: skip
    low, high = (float(end) for end in result.confidence_interval)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, "too few cases differ for the bootstrap"
    return (low, high), None


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
