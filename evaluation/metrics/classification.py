"""Classification scores from a confusion matrix: accuracy, weighted F1, and kappa for ordered classes (grades)."""

import math

import numpy as np

from evaluation.metrics.overlap import Counts


def accuracy(counts: Counts) -> float:
    """Return the share of images with the right label, from a confusion matrix (L, L); NaN without images."""
    total = int(counts.sum())
    return int(counts.trace()) / total if total else math.nan


def weighted_f1(counts: Counts) -> float:
    """Return the mean F1 of the labels, weighted by how many images have each, from a confusion matrix (L, L).

    F1 is 2TP / (2TP + FP + FN). A label that no image has gets no weight. NaN without images.
    """
    true, predicted, total = counts.sum(axis=1), counts.sum(axis=0), int(counts.sum())
    if not total:
        return math.nan
    f1 = 2 * counts.diagonal() / np.maximum(true + predicted, 1)  # (L,)
    return float((f1 * true).sum() / total)


def quadratic_weighted_kappa(counts: Counts) -> float:
    """Return Cohen's kappa with quadratic weights (Cohen 1968), from a confusion matrix (K, K).

    1 - sum(w O) / sum(w E) with w_ij = (i - j)^2 / (K - 1)^2, where O are the counts and E the counts expected by chance
    from the row and column sums. All K classes shape the weights, whether they occur or not. NaN where it is undefined:
    the matrix is empty, or both sides have one and the same class only.
    """
    observed = counts.astype(np.float64)
    total, grades = observed.sum(), np.arange(len(counts))
    if total == 0:
        return math.nan
    distances = (grades[:, None] - grades).astype(np.float64) ** 2  # (K, K); (K - 1)^2 cancels out
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / total
    by_chance = float((distances * expected).sum())
    return 1 - float((distances * observed).sum()) / by_chance if by_chance else math.nan
