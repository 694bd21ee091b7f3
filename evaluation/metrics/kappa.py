"""Counts of ordered classes -> agreement beyond chance, where a grade two off is worse than a grade one off."""

import math

import numpy as np

from evaluation.metrics.overlap import Counts


def quadratic_weighted_kappa(counts: Counts) -> float:
    """1 - sum(w O) / sum(w E) with w_ij = (i - j)^2 / (K - 1)^2 (Cohen 1968), from a `confusion` (K, K).

    O are the counts, E what the two sides' own shares would give by chance. All K classes shape the weights, whether they
    occur or not. NaN where it is undefined: nothing was counted, or both sides hold one and the same class only.
    """
    observed = counts.astype(np.float64)
    total, grades = observed.sum(), np.arange(len(counts))
    if total == 0:
        return math.nan
    distances = (grades[:, None] - grades).astype(np.float64) ** 2  # (K, K); (K - 1)^2 cancels out
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / total
    by_chance = float((distances * expected).sum())
    return 1 - float((distances * observed).sum()) / by_chance if by_chance else math.nan
