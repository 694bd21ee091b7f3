"""Temperature of a network's probabilities, fitted on pixels with a reference (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_softmax

from evaluation.metrics.calibration import (
    CalibrationCounts,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from models.calibration import Reliability
from models.head import Head
from models.heads import CumulativeHead, MultiLabelHead, SoftmaxHead

LIMITS = (0.25, 20.0)  # of a temperature; pixels that are all right would be fitted best by 0

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def fit_temperature(head: Head, logits: Floats, labels: Labels) -> float:
    """Return the temperature with the lowest negative log-likelihood of the labels, within LIMITS.

    The likelihood is that of the class for a softmax, and that of independent binary outputs for all other heads.

    Args:
        head: head with a temperature.
        logits: outputs of the network, (R, N).
        labels: class of each pixel, (1, N); 0 or 1 for each foreground class where classes overlap, (K - 1, N).
    """
    outputs = logits.astype(np.float64)
    signs = None if isinstance(head, SoftmaxHead) else np.where(output_targets(head, labels), 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        tempered = outputs / np.exp(log_temperature)
        if signs is None:
            return -float(np.take_along_axis(log_softmax(tempered, axis=0), labels, axis=0).mean())
        return -float(log_expit(signs * tempered).sum(axis=0).mean())

    fitted = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(fitted.x))


def output_targets(head: Head, labels: Labels) -> NDArray[np.bool_]:
    """Return what each binary output should be, (R, N), for labels as `fit_temperature` takes them."""
    if isinstance(head, CumulativeHead):
        return labels >= np.arange(1, head.classes)[:, None]
    return labels > 0


def reliability(head: Head, logits: Floats, labels: Labels) -> Reliability:
    """Return the reliability of the head's probabilities on pixels, given as for `fit_temperature`."""
    counts = CalibrationCounts()
    count_reliability(counts, head, logits, labels)
    return reliability_of(counts)


def count_reliability(counts: CalibrationCounts, head: Head, logits: Floats, labels: Labels) -> None:
    """Add pixels, given as for `fit_temperature`, to counts.

    Where classes overlap, each class at each pixel is a decision between two classes.
    """
    if isinstance(head, MultiLabelHead):
        foreground = expit(head.tempered(logits)).ravel()
        probabilities, of_pixels = np.stack([1 - foreground, foreground]), labels.ravel()
    else:
        probabilities, of_pixels = head.probabilities(logits), labels[0]
    counts.add(probabilities, of_pixels, np.full(of_pixels.shape, True))


def reliability_of(counts: CalibrationCounts) -> Reliability:
    """Return the reliability that counts of at least one pixel have."""
    pixels = np.maximum(counts.pixels, 1)
    return Reliability(
        ece=expected_calibration_error(counts),
        nll=negative_log_likelihood(counts),
        brier=brier_score(counts),
        pixels=tuple(counts.pixels.tolist()),
        confidence=tuple((counts.confidence / pixels).clip(0, 1).tolist()),
        accuracy=tuple((counts.right / pixels).tolist()),
    )
