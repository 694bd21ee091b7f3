"""Paired difference of two methods' scores on the same cases: mean, bootstrap interval, permutation test, and effect sizes.

Cases of one group, such as the images of a patient, are alike. Where groups are known, resampling and test take whole groups,
and otherwise cases.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from evaluation.comparison.permutation_test import sign_flip_p_value
from evaluation.metrics.metric import Better

FEWEST_UNITS = 3  # with fewer, an interval would mean nothing
FEW_UNITS = 10  # with fewer, an interval is no evidence
RESAMPLES = 9999
CONFIDENCE = 0.95
SEED = 0
MAX_BATCH_VALUES = 10**6  # resampled at once: bounds the bootstrap's memory
EQUAL = 1e-12  # differences up to here are ties


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Difference of two methods' scores, case by case and on average.

    All differences are second minus first in the metric's unit, whichever direction is better. Where the best value is zero,
    such as for a difference of volumes, they are differences of the absolute values.

    Args:
        better: direction of better values, see `Metric`.
        second_minus_first: one value for each case, NaN where either method has no score.
        means: mean score of the first and of the second method, over the cases where both have one.
        mean: mean of the differences.
        interval: 95% bootstrap interval of that mean; None where it is omitted.
        omitted: why there is no interval; None where there is one.
        unit: what is resampled and whose sign is flipped: cases, or groups of cases where these are known.
        units: number of cases or groups where both methods have a score.
        p_value: p-value of the paired permutation test, not corrected for several comparisons; None without units.
        cohens_dz: mean of the units' mean differences divided by their standard deviation (Cohen 1988); NaN where that is 0 or
            unknown.
        rank_biserial: matched-pairs rank-biserial correlation of the units' mean differences (Kerby 2014), from -1 (all are
            negative) to 1 (all are positive); NaN where no unit differs.
        wins: number of cases where the second method is better.
        ties: number of cases where both have the same score.
        losses: number of cases where the second method is worse.
    """

    better: Better
    second_minus_first: tuple[float, ...]
    means: tuple[float, float]
    mean: float
    interval: tuple[float, float] | None
    omitted: str | None
    unit: Literal["case", "group"]
    units: int
    p_value: float | None
    cohens_dz: float
    rank_biserial: float
    wins: int
    ties: int
    losses: int

    @property
    def pairs(self) -> int:
        """Number of cases where both methods have a score."""
        return sum(not math.isnan(value) for value in self.second_minus_first)

    @property
    def is_evidence(self) -> bool:
        """Whether there are enough units for the interval to be evidence for other cases than these."""
        return self.interval is not None and self.units >= FEW_UNITS


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    groups: Sequence[str | None] | None = None,
    better: Better = "higher",
) -> PairedDifference:
    """Compare two methods' scores, one for each case and in the same order; NaN means no score.

    The interval resamples whole units, so that both scores of a case stay together (Efron and Tibshirani 1993, chapter 8):
    bias-corrected and accelerated bootstrap (Efron 1987), 9999 resamples, seed 0.

    Args:
        first: scores of the first method.
        second: scores of the second method.
        groups: group of each case; a case whose group is None is a group of its own. None: no group is known.
        better: direction of better values.
    """
    if better == "zero":
        first, second = list(map(abs, first)), list(map(abs, second))
    differences = [after - before for before, after in zip(first, second, strict=True)]
    pairs = [index for index, value in enumerate(differences) if not math.isnan(value)]
    units = _units([differences[index] for index in pairs], groups and [groups[index] for index in pairs])
    unit_means = [math.fsum(unit) / len(unit) for unit in units]
    interval, omitted = bootstrap_interval(unit_means)
    sign = 1 if better == "higher" else -1
    ties = sum(abs(differences[index]) < EQUAL for index in pairs)
    wins = sum(sign * differences[index] >= EQUAL for index in pairs)
    return PairedDifference(
        better=better,
        second_minus_first=tuple(differences),
        means=(_mean([first[index] for index in pairs]), _mean([second[index] for index in pairs])),
        mean=_mean([differences[index] for index in pairs]),
        interval=interval,
        omitted=omitted,
        unit="group" if groups is not None and any(group is not None for group in groups) else "case",
        units=len(units),
        p_value=sign_flip_p_value([math.fsum(unit) for unit in units]) if units else None,
        cohens_dz=_cohens_dz(unit_means),
        rank_biserial=_rank_biserial(unit_means),
        wins=wins,
        ties=ties,
        losses=len(pairs) - wins - ties,
    )


def bootstrap_interval(values: list[float]) -> tuple[tuple[float, float] | None, str | None]:
    """Return the 95% interval of the mean of the values, or None and why there is none."""
    if len(values) < FEWEST_UNITS:
        return None, f"{len(values)} of the needed {FEWEST_UNITS} cases have a value for both"
    if max(values) - min(values) < EQUAL:
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


def _units(differences: Sequence[float], groups: Sequence[str | None] | None) -> list[list[float]]:
    """Return the differences of each group; a case without a group is a group of its own."""
    if groups is None:
        return [[value] for value in differences]
    units: dict[str | int, list[float]] = {}
    for index, (value, group) in enumerate(zip(differences, groups, strict=True)):
        units.setdefault(index if group is None else group, []).append(value)
    return list(units.values())


def _cohens_dz(values: Sequence[float]) -> float:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return _mean(values) / deviation if deviation > EQUAL else math.nan


def _rank_biserial(values: Sequence[float]) -> float:
    """Return the sum of the ranks of positive values minus that of negative ones, divided by the sum of all."""
    differing = np.array([value for value in values if abs(value) >= EQUAL])
    if not len(differing):
        return math.nan
    ranks = stats.rankdata(np.abs(differing))
    return float(ranks[differing > 0].sum() - ranks[differing < 0].sum()) / float(ranks.sum())


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
