"""Paired difference of two methods' scores on the same cases: mean, bootstrap interval, permutation test, and effect sizes.

Cases of one group, such as the images of a patient, are alike. Where groups are known, the unit of all statistics is the group:
the mean of its cases is one value, so that each patient counts once. Otherwise the unit is the case.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from evaluation.comparison.bootstrap_interval import EQUAL, bootstrap_interval
from evaluation.comparison.permutation_test import sign_flip_p_value
from evaluation.metrics.metric import Better

FEW_UNITS = 10  # with fewer, an interval is no evidence


Unit = Literal["case", "group"]


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Difference of two methods' scores, case by case and on average.

    All differences are second minus first in the metric's unit, whichever direction is better. Where the best value is zero,
    such as for a difference of volumes, they are differences of the absolute values.

    Args:
        better: direction of better values, see `Metric`.
        second_minus_first: one value for each case, NaN where either method has no score.
        means: mean score of the first and of the second method over the units, from the cases where both have one.
        mean: mean of the units' mean differences.
        interval: 95% bootstrap interval of that mean; None where it is omitted.
        omitted: why there is no interval; None where there is one.
        unit: what counts once in the means, is resampled, and has its sign flipped: a case, or a group where groups are known.
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
    unit: Unit
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
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> PairedDifference:
    """Compare two methods' scores, one for each case and in the same order; NaN means no score.

    The interval resamples whole units, so that both scores of a case stay together, and the cases of a group
    (`bootstrap_interval`); the p-value flips the signs of whole units (`sign_flip_p_value`).

    Args:
        first: scores of the first method.
        second: scores of the second method.
        groups: group of each case; a case whose group is None is a group of its own. None: no group is known.
        better: direction of better values.
        limits: smallest and largest possible score; the interval is cut to the differences of such scores.
    """
    if better == "zero":
        first, second = list(map(abs, first)), list(map(abs, second))
    differences = [after - before for before, after in zip(first, second, strict=True)]
    pairs = [index for index, value in enumerate(differences) if not math.isnan(value)]
    units = _units(pairs, groups)
    unit: Unit = "case" if groups is None or all(group is None for group in groups) else "group"
    unit_means = _means_of_units(differences, units)
    interval, omitted = bootstrap_interval(unit_means, unit)
    widest = limits[1] - limits[0]
    interval = interval and (max(interval[0], -widest), min(interval[1], widest))
    deviation = float(np.std(unit_means, ddof=1)) if len(units) > 1 else 0.0
    ties = sum(abs(differences[index]) < EQUAL for index in pairs)
    rises = sum(differences[index] >= EQUAL for index in pairs)
    wins = rises if better == "higher" else len(pairs) - ties - rises
    return PairedDifference(
        better=better,
        second_minus_first=tuple(differences),
        means=(_mean(_means_of_units(first, units)), _mean(_means_of_units(second, units))),
        mean=_mean(unit_means),
        interval=interval,
        omitted=omitted,
        unit=unit,
        units=len(units),
        p_value=sign_flip_p_value(unit_means) if units else None,
        cohens_dz=_mean(unit_means) / deviation if deviation > EQUAL else math.nan,
        rank_biserial=_rank_biserial(unit_means),
        wins=wins,
        ties=ties,
        losses=len(pairs) - wins - ties,
    )


def _units(cases: Sequence[int], groups: Sequence[str | None] | None) -> list[list[int]]:
    """Return the cases of each group; a case without a group is a group of its own."""
    units: dict[str | int, list[int]] = {}
    for case in cases:
        group = groups[case] if groups is not None else None
        units.setdefault(case if group is None else group, []).append(case)
    return list(units.values())


def _means_of_units(values: Sequence[float], units: Sequence[Sequence[int]]) -> list[float]:
    return [_mean([values[case] for case in unit]) for unit in units]


def _rank_biserial(values: Sequence[float]) -> float:
    """Return the sum of the ranks of positive values minus that of negative ones, divided by the sum of all."""
    differing = np.array([value for value in values if abs(value) >= EQUAL])
    if not len(differing):
        return math.nan
    ranks = stats.rankdata(np.abs(differing))
    return float(ranks[differing > 0].sum() - ranks[differing < 0].sum()) / float(ranks.sum())


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
