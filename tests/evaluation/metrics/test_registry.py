"""Every registered metric: it computes what its name says, is best for a perfect result, and has no value for nothing."""

from math import isnan, log

import numpy as np
import pytest

from evaluation.metrics.calibration import CalibrationCounts
from evaluation.metrics.classification import LabelledImages
from evaluation.metrics.membranes import MembranePair
from evaluation.metrics.metric import BinaryCounts, Metric
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.registry import METRICS
from evaluation.metrics.surface_distance import StructurePair

LINE = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]])  # a structure, an object, and a membrane between two cells
EMPTY = np.zeros_like(LINE)
PERFECT = {
    "overlap": BinaryCounts(4, 0, 0),
    "structure": StructurePair(LINE > 0, LINE > 0),
    "objects": ObjectPair(LINE, LINE),
    "membranes": MembranePair(*[np.tile([False, True, False], (3, 1))] * 2, np.ones((3, 3), bool)),
    "ordinal": np.diag([3, 1, 2]),
    "image_labels": LabelledImages(np.array([0, 1]), np.array([0, 1]), 2, np.eye(2)),
}
WRONG = {
    "overlap": BinaryCounts(1, 1, 3),
    "structure": StructurePair(LINE > 0, LINE[:, ::-1].T.repeat(3, axis=1)[:3, :5] > 0),
    "objects": ObjectPair(*np.repeat([[[1, 1, 1, 0, 0, 2, 0, 0, 0]], [[1, 1, 0, 0, 0, 0, 0, 0, 2]]], 10, axis=2)),
    "membranes": MembranePair(
        np.tile([False, True, False], (3, 1)), np.tile([True, False, False], (3, 1)), np.ones((3, 3), bool)
    ),
    "ordinal": np.array([[0, 0, 3], [0, 0, 0], [3, 0, 0]]),
    "image_labels": LabelledImages(np.array([0, 1]), np.array([1, 0]), 2, np.eye(2)[::-1]),
}
NOTHING = {
    "overlap": BinaryCounts(0, 0, 0),
    "structure": StructurePair(EMPTY > 0, EMPTY > 0),
    "objects": ObjectPair(EMPTY, EMPTY),
    "membranes": MembranePair(*[np.zeros((0, 3), bool)] * 3),
    "ordinal": np.zeros((3, 3), np.int64),
    "calibration": CalibrationCounts(),
    "image_labels": LabelledImages(np.zeros(0, np.int64), np.zeros(0, np.int64), 2, np.zeros((0, 2))),
}

# an object of 10 pixels of which 6 remain (IoU .6), and one of 10 of which 8 remain (IoU .8); centres are 1 and 2 pixels away
REFERENCE = np.repeat([[1], [0], [2]], 10, axis=1)
MASK = np.zeros_like(REFERENCE)
MASK[0, :6], MASK[2, :8] = 3, 4


def certain_and_right() -> CalibrationCounts:
    counts = CalibrationCounts()
    counts.add(np.eye(2), np.array([0, 1]), np.ones(2, bool))
    return counts


def certain_and_wrong() -> CalibrationCounts:
    counts = CalibrationCounts()
    counts.add(np.array([[0.9, 0.2], [0.1, 0.8]]), np.array([1, 0]), np.ones(2, bool))
    return counts


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_perfect_result_is_best_and_nothing_has_no_value(metric: Metric) -> None:
    perfect = certain_and_right() if metric.kind == "calibration" else PERFECT[metric.kind]
    assert metric.function(perfect) == pytest.approx(1 if metric.better == "higher" else 0)
    assert isnan(metric.function(NOTHING[metric.kind]))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_wrong_result_is_within_the_limits_and_worse(metric: Metric) -> None:
    low, high = metric.limits
    wrong = certain_and_wrong() if metric.kind == "calibration" else WRONG[metric.kind]
    value = metric.function(wrong)
    assert low <= value <= high
    assert value < 1 if metric.better == "higher" else abs(value) > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pq", (0.6 + 0.8) / 2),
        ("sq", (0.6 + 0.8) / 2),
        ("rq", 1),
        ("f1_iou50", 1),
        ("f1_iou60", 1 / 2),
        ("f1_iou70", 1 / 2),
        ("f1_iou80", 0),
        ("f1_iou90", 0),
        ("ap_dsb2018", (2 * 1 + 4 * 1 / 3) / 10),  # both at .5 and .55; the second alone at .6 .. .75
        ("object_f1", 1),
        ("object_dice", ((6 * 12 / 16 + 8 * 16 / 18) / 14 + (12 / 16 + 16 / 18) / 2) / 2),
        ("object_hausdorff", ((6 * 4 + 8 * 2) / 14 + (4 + 2) / 2) / 2),
        ("detection_f1", 1),
        ("detection_precision", 1),
        ("detection_recall", 1),
    ],
)
def test_two_objects_counted_by_hand(name: str, value: float) -> None:
    assert METRICS[name].function(ObjectPair(MASK, REFERENCE)) == pytest.approx(value)


def test_calibration_counted_by_hand() -> None:
    counts = CalibrationCounts()
    counts.add(np.array([[0.9, 0.4], [0.1, 0.6]]), np.array([0, 0]), np.ones(2, bool))
    values = {name: METRICS[name].function(counts) for name in ("ece", "brier", "nll")}
    expected = {"ece": (0.1 + 0.6) / 2, "brier": (2 * 0.01 + 2 * 0.36) / 2, "nll": -(log(0.9) + log(0.4)) / 2}
    assert values == pytest.approx(expected)


def test_labels_of_images_counted_by_hand() -> None:
    probabilities = np.array([0.1, 0.2, 0.6, 0.7])  # of the second label; the third image's is wrong
    images = LabelledImages(
        np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2, np.stack([1 - probabilities, probabilities], axis=1)
    )
    names = ("label_accuracy", "label_balanced_accuracy", "label_f1", "label_auc")
    expected = (3 / 4, (2 / 3 + 1) / 2, (3 * 4 / 5 + 2 / 3) / 4, 1)
    assert [METRICS[name].function(images) for name in names] == pytest.approx(expected)
