"""Classification scores: of the labels of whole images, and kappa for ordered classes (grades) of pixels or images.

Scores of labels are of all images together, since one image is only right or wrong. Without images they are NaN.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from evaluation.metrics.overlap import Counts, confusion, nan_mean


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Labels of N images, and what was predicted.

    Args:
        reference: number (N,) of each image's label, below `classes`.
        predicted: number (N,) of each image's predicted label.
        classes: L, the number of labels.
        probabilities: probability (N, L) of each label; None where only labels are known.
    """

    reference: NDArray[np.int64]
    predicted: NDArray[np.int64]
    classes: int
    probabilities: NDArray[np.floating[Any]] | None = None

    @cached_property
    def counts(self) -> Counts:
        """Confusion matrix (L, L): images by the reference's label (rows) and the predicted label (columns)."""
        return confusion(self.predicted, self.reference, self.classes)


def accuracy(images: LabelledImages) -> float:
    """Return the share of images with the right label."""
    total = len(images.reference)
    return int(images.counts.trace()) / total if total else math.nan


def balanced_accuracy(images: LabelledImages) -> float:
    """Return the mean, over the labels that occur, of the share of a label's images that were given it."""
    of_label, right = images.counts.sum(axis=1), images.counts.diagonal()
    return nan_mean(right[of_label > 0] / of_label[of_label > 0])


def weighted_f1(images: LabelledImages) -> float:
    """Return the mean F1 of the labels, weighted by how many images have each.

    F1 is 2TP / (2TP + FP + FN). A label that no image has gets no weight.
    """
    true, predicted, total = images.counts.sum(axis=1), images.counts.sum(axis=0), len(images.reference)
    if not total:
        return math.nan
    f1 = 2 * images.counts.diagonal() / np.maximum(true + predicted, 1)  # (L,)
    return float((f1 * true).sum() / total)


def area_under_curve(images: LabelledImages) -> float:
    """Return the area under the receiver operating characteristic: the mean over the labels, each against all others.

    It is the chance that an image with the label has a higher probability of it than one without; equal probabilities count
    half (Mann and Whitney 1947). Labels that no image or every image has are left out. NaN without probabilities.
    """
    if images.probabilities is None:
        return math.nan
    areas = []
    for label, probabilities in enumerate(images.probabilities.T):
        has_label = images.reference == label
        positive, negative = int(has_label.sum()), int((~has_label).sum())
        if positive and negative:
            rank_sum = float(rankdata(probabilities)[has_label].sum())
            areas.append((rank_sum - positive * (positive + 1) / 2) / (positive * negative))
    return nan_mean(areas)


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
