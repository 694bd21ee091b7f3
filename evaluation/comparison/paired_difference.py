"""Paired difference of two methods' scores on the same cases: its mean and a bootstrap confidence interval."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST_CASES = 3  # with fewer, an interval would mean nothing
RESAMPLES = 9999
CONFIDENCE = 0.95
SEED = 0
MAX_BATCH_VALUES = 10**6  # resampled at once: bounds the bootstrap's memory


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two methods' scores, case by case and on average.

    Args:
        second_minus_first: one value for each case, NaN where either method has no score.
        means: mean score of the first and of the second method, over the cases where both have one.
        mean: mean of the differences.
        interval: 95% bootstrap interval of that mean over cases; None where it is omitted.
        omitted: why there is no interval; None where there is one.
    """

    second_minus_first: tuple[float, ...]
    means: tuple[float, float]
    mean: float
    interval: tuple[float, float] | None
    omitted: str | None

    @property
    def pairs(self) -> int:
        """Number of cases where both methods have a score."""
        return sum(not math.isnan(value) for value in self.second_minus_first)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> PairedDifference:
    """Compare two methods' scores, one for each case and in the same order; NaN means no score.

    The interval resamples whole cases, so that both scores of a case stay together (Efron and Tibshirani 1993, chapter 8):
    bias-corrected and accelerated bootstrap (Efron 1987), 9999 resamples, seed 0.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    pairs = [index for index, value in enumerate(differences) if not math.isnan(value)]
    interval, omitted = bootstrap_interval([differences[index] for index in pairs])
    return PairedDifference(
        second_minus_first=tuple(differences),
        means=(_mean([first[index] for index in pairs]), _mean([second[index] for index in pairs])),
        mean=_mean([differences[index] for index in pairs]),
        interval=interval,
        omitted=omitted,
    )


def bootstrap_interval(values: list[float]) -> tuple[tuple[float, float] | None, str | None]:
    """Return the 95% interval of the mean of the values, or None and why there is none."""
    if len(values) < FEWEST_CASES:
        return None, f"{len(values)} of the needed {FEWEST_CASES} cases have a value for both"
    if max(values) - min(values) < 1e-12:
        return None, "all cases differ by the same amount, so resampling them shows no spread"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on degenerate data scipy warns and returns NaN, which is handled below
        result = stats.bootstrap(
            (np.array(values),), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
            method="BCa", rng=np.random.default_rng(SEED), batch=max(1, MAX_BATCH_VALUES // len(values)),
        )  # fmt: skip
    low, high = (float(end) for end in result.confidence_interval)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None, "too few cases differ for the bootstrap"
    return (low, high), None


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
