"""Labels of whole images -> how many are right, and the F1 of each, weighted by how often it is true."""

import math

import numpy as np

from evaluation.metrics.overlap import Counts


def accuracy(counts: Counts) -> float:
    """The share of images whose label is right, of a `confusion` (L, L); NaN of none."""
    total = int(counts.sum())
    return int(counts.trace()) / total if total else math.nan


def weighted_f1(counts: Counts) -> float:
    """The mean of each label's 2TP / (2TP + FP + FN), weighted by the images that have it, of a `confusion` (L, L).

    A label that no image has weighs nothing. NaN of no images.
    """
    true, said, total = counts.sum(axis=1), counts.sum(axis=0), int(counts.sum())
    if not total:
        return math.nan
    each = 2 * counts.diagonal() / np.maximum(true + said, 1)
    return float((each * true).sum() / total)
