"""Calibration: whether a probability of .8 is right in 80 % of the pixels, counted where it matters and band by band.

Only pixels in and near the reference's foreground count (`near_foreground`), since easy background swamps every score. The
confidence of a pixel is the probability of its likeliest class. A case whose reference has no foreground has no score (NaN).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.metrics.overlap import as_labels

BINS = 15  # of equal width (Guo et al. 2017)
NEAR_PX = 16  # distance from the foreground at which background still counts, along the axis with the finest spacing
LEAST_PROBABILITY = 1e-7  # keeps the logarithm of a probability of 0 finite; about the precision of 32 bits

Floats = NDArray[np.floating[Any]]


class CalibrationCounts:
    """Streaming counts of the probabilities of one case, or of several cases together.

    Attributes:
        pixels: pixels (15,) by confidence; bin m has the confidences above m / 15, up to (m + 1) / 15.
        right: pixels (15,) of them whose likeliest class is the reference's.
        confidence: sum (15,) of their confidences.
        squares: sum of the squared differences between all classes' probabilities and the reference.
        log_loss: sum of the negative logarithms of the probability of the reference's class.
    """

    def __init__(self) -> None:
        self.pixels, self.right = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self.confidence = np.zeros(BINS)
        self.squares = self.log_loss = 0.0

    def add(self, probabilities: Floats, reference: NDArray[Any], is_scored: NDArray[np.bool_]) -> None:
        """Count the pixels of a band, or of any part of the image.

        Args:
            probabilities: (K, rows, *rest).
            reference: labels (rows, *rest).
            is_scored: the pixels that count (rows, *rest): a band of `near_foreground`, without ignored pixels.

        Raises:
            DataError: `label_unknown`: a label that is no class.
        """
        chosen = probabilities[:, is_scored].astype(np.float64)  # (K, P)
        labels = as_labels(reference[is_scored], len(chosen), "reference")
        confidence = chosen.max(axis=0, initial=0)
        bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.right += np.bincount(bins[chosen.argmax(axis=0) == labels], minlength=BINS)
        self.confidence += np.bincount(bins, weights=confidence, minlength=BINS)
        of_reference = chosen[labels, np.arange(labels.size)]
        self.squares += float((chosen**2).sum() + (1 - 2 * of_reference).sum())
        self.log_loss -= float(np.log(np.clip(of_reference, LEAST_PROBABILITY, 1)).sum())


def pooled_calibration(cases: Iterable[CalibrationCounts]) -> CalibrationCounts:
    """Return the counts of all cases together, so that a case with many scored pixels weighs more."""
    pooled = CalibrationCounts()
    for case in cases:
        pooled.pixels += case.pixels
        pooled.right += case.right
        pooled.confidence += case.confidence
        pooled.squares += case.squares
        pooled.log_loss += case.log_loss
    return pooled


def near_foreground(reference: NDArray[Any], spacing_um: Sequence[float] | None = None) -> NDArray[np.bool_]:
    """Return the pixels (*S) of the reference's foreground and those within a box of 16 pixels to each side of it.

    Along an axis with a coarser spacing, the box has as many pixels as give the same length. To score a band alone, give its
    rows with 16 more on both sides.
    """
    near = reference > 0
    finest = min(spacing_um) if spacing_um else 1.0
    for axis, step in enumerate(spacing_um or (1.0,) * reference.ndim):
        side = 2 * round(NEAR_PX * finest / step) + 1
        near = ndimage.maximum_filter1d(near.view(np.uint8), side, axis=axis, mode="constant").astype(np.bool_)
    return near


def expected_calibration_error(counts: CalibrationCounts) -> float:
    """Return the mean distance of accuracy from confidence over the bins, weighted by pixels; NaN without pixels."""
    total = int(counts.pixels.sum())
    return float(np.abs(counts.right - counts.confidence).sum()) / total if total else math.nan


def brier_score(counts: CalibrationCounts) -> float:
    """Return the mean over pixels of the squared differences, summed over all classes, 0 to 2 (Brier 1950)."""
    total = int(counts.pixels.sum())
    return counts.squares / total if total else math.nan


def negative_log_likelihood(counts: CalibrationCounts) -> float:
    """Return the mean over pixels of the negative natural logarithm of the probability of the reference's class."""
    total = int(counts.pixels.sum())
    return counts.log_loss / total if total else math.nan
