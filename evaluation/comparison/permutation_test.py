"""Paired permutation test of a mean difference by sign flips, and Holm's correction of several p-values."""

from collections.abc import Sequence

import numpy as np

MOST_EXACT_UNITS = 13  # 2^13 sign patterns are fewer than the random flips
RANDOM_FLIPS = 9999
SEED = 0
BATCH_FLIPS = 512
TOLERANCE = 1e-9  # relative; totals that differ by rounding only count as equal


def sign_flip_p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of a paired permutation test (Fisher 1935; Good 2005, chapter 3).

    Where both methods are equally good, each unit's differences could as well have the other sign. The p-value is the share
    of sign patterns whose total is at least as far from 0 as the observed one: over all patterns where at most 13 units
    differ from 0, and otherwise over 9,999 random patterns and the observed one (Phipson and Smyth 2010), seed 0.

    Args:
        differences: difference of each unit: of a case, or the mean difference of a group, whose cases flip together.
    """
    values = np.array([value for value in differences if value != 0], np.float64)
    if not len(values):
        return 1.0
    limit = abs(values.sum()) - TOLERANCE * np.abs(values).sum()
    if len(values) <= MOST_EXACT_UNITS:
        bits = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float(np.mean(np.abs(np.where(bits == 1, 1.0, -1.0) @ values) >= limit))
    random = np.random.default_rng(SEED)
    extreme = 0
    for start in range(0, RANDOM_FLIPS, BATCH_FLIPS):
        flips = random.integers(0, 2, (min(BATCH_FLIPS, RANDOM_FLIPS - start), len(values)), np.int8) * 2.0 - 1
        extreme += int(np.sum(np.abs(flips @ values) >= limit))
    return (extreme + 1) / (RANDOM_FLIPS + 1)


def holm_corrected(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of tests with Holm's correction (Holm 1979), in the same order.

    Corrected, the chance of any false finding in the family stays at the level of a single test.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(scaled, 1.0)
    return corrected.tolist()
