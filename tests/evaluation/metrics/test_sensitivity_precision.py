"""Sensitivity, precision and difference of volumes: counted by hand, and equal to torchmetrics and MONAI."""

from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
from random_masks import random_pairs
from torchmetrics.functional.classification import binary_jaccard_index, binary_precision, binary_recall
from torchmetrics.functional.segmentation import dice_score

from evaluation.metrics.metric import BinaryCounts
from evaluation.metrics.overlap import binary_counts, confusion
from evaluation.metrics.registry import METRICS

counts_of_a_class = st.builds(BinaryCounts, *[st.integers(0, 20)] * 3)


def value(name: str, counts: BinaryCounts) -> float:
    return METRICS[name].function(counts)


def counts_of(mask: np.ndarray, reference: np.ndarray) -> BinaryCounts:
    return binary_counts(confusion(mask, reference, 2), 1)


def test_a_mask_that_was_counted_by_hand() -> None:
    mask = np.array([[0, 1, 1, 1], [0, 1, 0, 1]], np.uint8)
    reference = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], np.uint8)
    counts = counts_of(mask, reference)
    assert counts == (3, 2, 1)
    assert value("sensitivity", counts) == 3 / 4
    assert value("precision", counts) == 3 / 5
    assert value("volume_difference", counts) == 25  # 5 pixels against 4
    assert value("dice", counts) == 6 / 9
    assert value("iou", counts) == 3 / 6


@pytest.mark.parametrize(
    ("counts", "sensitivity", "precision", "volume_difference"),
    [
        (BinaryCounts(0, 0, 7), 0, 0, -100),  # missed
        (BinaryCounts(4, 0, 0), 1, 1, 0),  # perfect
        (BinaryCounts(0, 1, 1), 0, 0, 0),  # one pixel beside the one of the reference
        (BinaryCounts(2, 4, 0), 1, 1 / 3, 200),
    ],
)
def test_missed_perfect_and_touching(
    counts: BinaryCounts, sensitivity: float, precision: float, volume_difference: float
) -> None:
    assert value("sensitivity", counts) == sensitivity
    assert value("precision", counts) == precision
    assert value("volume_difference", counts) == volume_difference


def test_an_invented_class_has_no_relative_volume() -> None:
    invented = BinaryCounts(0, 5, 0)
    assert (value("sensitivity", invented), value("precision", invented)) == (0, 0)
    assert isnan(value("volume_difference", invented))


@pytest.mark.parametrize("name", [metric.name for metric in METRICS.values() if metric.kind == "overlap"])
def test_a_class_that_neither_side_has_gets_no_value(name: str) -> None:
    assert isnan(value(name, BinaryCounts(0, 0, 0)))


@given(counts_of_a_class)
def test_swapping_the_sides(counts: BinaryCounts) -> None:
    swapped = BinaryCounts(counts.true_positives, counts.false_negatives, counts.false_positives)
    np.testing.assert_equal(value("sensitivity", swapped), value("precision", counts))
    np.testing.assert_equal(value("dice", swapped), value("dice", counts))
    np.testing.assert_equal(value("iou", swapped), value("iou", counts))
    signs = np.sign([value("volume_difference", counts), value("volume_difference", swapped)])
    assert isnan(signs.sum()) or signs.sum() == 0


@given(st.integers(1, 100))
def test_a_mask_against_itself_is_perfect(pixels: int) -> None:
    same = BinaryCounts(pixels, 0, 0)
    assert [value(name, same) for name in ("dice", "iou", "sensitivity", "precision", "volume_difference")] == [1, 1, 1, 1, 0]


def test_they_are_torchmetrics_and_monais() -> None:
    for mask, reference, _ in random_pairs():
        counts = counts_of(mask, reference)
        if not any(counts):
            continue  # torchmetrics gives 0
        sides = torch.from_numpy(mask), torch.from_numpy(reference)
        assert value("sensitivity", counts) == pytest.approx(binary_recall(*sides).item(), abs=1e-6)
        assert value("precision", counts) == pytest.approx(binary_precision(*sides).item(), abs=1e-6)
        assert value("iou", counts) == pytest.approx(binary_jaccard_index(*sides).item(), abs=1e-6)
        batches = [side[None, None].long() for side in sides]
        dice = dice_score(*batches, num_classes=1, average="none", input_format="one-hot").item()
        assert value("dice", counts) == pytest.approx(dice, abs=1e-6)
        matrix = get_confusion_matrix(batches[0], batches[1])
        for name in ("sensitivity", "precision"):
            monais = compute_confusion_matrix_metric(name, matrix).item()
            assert isnan(monais) or value(name, counts) == pytest.approx(monais, abs=1e-6)
        if reference.any():
            volumes = np.count_nonzero(mask), np.count_nonzero(reference)
            assert value("volume_difference", counts) == pytest.approx(100 * (volumes[0] / volumes[1] - 1), abs=1e-6)
