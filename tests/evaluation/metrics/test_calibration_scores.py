"""Calibration error, Brier score and likelihood: by hand, against torchmetrics and scikit-learn, and undefined ones."""

from math import isnan, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from evaluation.metrics.calibration import (
    CalibrationCounts,
    brier_score,
    expected_calibration_error,
    near_foreground,
    negative_log_likelihood,
    pooled_calibration,
)
from imaging.errors import DataError

SCORES = (expected_calibration_error, brier_score, negative_log_likelihood)


def count(probabilities: np.ndarray, reference: np.ndarray, is_scored: np.ndarray | None = None) -> CalibrationCounts:
    counts = CalibrationCounts()
    counts.add(probabilities, reference, np.ones(reference.shape, bool) if is_scored is None else is_scored)
    return counts


def random_case(seed: int, classes: int = 3, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return softmax(2 * random.normal(size=(classes, size)), axis=0), random.integers(0, classes, size)


def test_three_pixels_counted_by_hand() -> None:
    probabilities = np.array([[0.9, 0.2, 0.4], [0.1, 0.8, 0.6]])
    counts = count(probabilities, np.array([0, 1, 0]))
    # confidences .9 and right, .8 and right, .6 and wrong, each in a bin of its own
    assert expected_calibration_error(counts) == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert brier_score(counts) == pytest.approx((2 * 0.1**2 + 2 * 0.2**2 + 2 * 0.6**2) / 3)
    assert negative_log_likelihood(counts) == pytest.approx(-(log(0.9) + log(0.8) + log(0.4)) / 3)


def test_bins_include_their_upper_end() -> None:
    counts = count(np.array([[1.0, 0.0, 1 / 3], [0.0, 1.0, 1 / 3], [0.0, 0.0, 1 / 3]]), np.array([0, 1, 2]))
    assert counts.pixels.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counts.right.tolist() == [0] * 14 + [2]
    assert counts.confidence == pytest.approx([0] * 4 + [1 / 3] + [0] * 9 + [2])


def test_certain_and_right_is_best_and_certain_and_wrong_is_worst() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert [score(count(certain, np.array([0, 1]))) for score in SCORES] == [0, 0, 0]
    assert [score(count(certain, np.array([1, 0]))) for score in SCORES] == pytest.approx([1, 2, -log(1e-7)])


def test_without_scored_pixels_there_is_no_value() -> None:
    counts = count(np.full((2, 4), 0.5), np.zeros(4, int), np.zeros(4, bool))
    assert all(isnan(score(counts)) for score in SCORES)


def test_a_label_that_is_no_class_is_refused_where_it_counts() -> None:
    reference, is_scored = np.array([0, 255]), np.array([True, False])
    assert count(np.full((2, 2), 0.5), reference, is_scored).pixels.sum() == 1
    with pytest.raises(DataError, match="reference has the labels 255, the classes are 0 to 1"):
        count(np.full((2, 2), 0.5), reference)


def test_it_is_torchmetrics_and_scikit_learns() -> None:
    for seed in range(200):
        classes = 2 + seed % 3
        probabilities, reference = random_case(seed, classes)
        counts = count(probabilities, reference)
        tensors = torch.from_numpy(probabilities.T), torch.from_numpy(reference)
        expected = float(multiclass_calibration_error(*tensors, num_classes=classes, n_bins=15))
        assert expected_calibration_error(counts) == pytest.approx(expected, abs=1e-6)
        expected = log_loss(reference, probabilities.T, labels=list(range(classes)))
        assert negative_log_likelihood(counts) == pytest.approx(expected, abs=1e-6)
        differences = probabilities - np.eye(classes)[reference].T
        assert brier_score(counts) == pytest.approx((differences**2).sum(axis=0).mean(), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 59))
def test_bands_and_cases_add_up(seed: int, cut: int) -> None:
    probabilities, reference = random_case(seed)
    whole, bands = count(probabilities, reference), CalibrationCounts()
    for rows in (slice(None, cut), slice(cut, None)):
        bands.add(probabilities[:, rows], reference[rows], np.ones(reference[rows].shape, bool))
    parts = [(probabilities[:, :cut], reference[:cut]), (probabilities[:, cut:], reference[cut:])]
    for counts in (bands, pooled_calibration([count(*part) for part in parts])):
        assert [score(counts) for score in SCORES] == pytest.approx([score(whole) for score in SCORES])


def test_the_foreground_grows_by_the_same_length_along_each_axis() -> None:
    reference = np.zeros((9, 50), np.uint8)
    reference[4, 25] = 2
    near = near_foreground(reference, (8.0, 1.0))
    assert near.any(axis=1).tolist() == [False] * 2 + [True] * 5 + [False] * 2  # 16 um are 2 rows
    assert near.any(axis=0).tolist() == [False] * 9 + [True] * 33 + [False] * 8
    assert near.sum() == 5 * 33  # a box
    assert near_foreground(reference).sum() == 9 * 33  # 16 pixels reach beyond the image


def test_without_foreground_nothing_is_near_it() -> None:
    assert not near_foreground(np.zeros((4, 4), np.uint8)).any()


def test_a_band_with_sixteen_rows_more_is_that_of_the_whole() -> None:
    reference = (np.random.default_rng(0).random((80, 40)) > 0.999).astype(np.uint8)
    assert (near_foreground(reference[24:76])[16:-16] == near_foreground(reference)[40:60]).all()
