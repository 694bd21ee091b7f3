"""Overlaps against masks that were counted by hand, and properties that hold for any masks."""

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.metrics import overlap
from evaluation.metrics.overlap import confusion, dice, iou, nan_mean, overlaps, overlaps_from_counts, pooled_overlaps
from imaging.errors import DataError

REFERENCE = np.array([[0, 1, 1], [0, 1, 2], [2, 2, 2]], np.uint8)
MASK = np.array([[0, 1, 0], [1, 1, 2], [2, 2, 0]], np.uint8)

labels = st.integers(1, 4).flatmap(
    lambda side: st.tuples(*[hnp.arrays(np.uint8, (side, 3), elements=st.integers(0, 2)) for _ in range(2)])
)


def test_counts_of_the_small_masks() -> None:
    # label 1: TP 2, FP 1, FN 1; label 2: TP 3, FP 0, FN 1
    assert confusion(MASK, REFERENCE, 3).tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 3]]
    assert dice(MASK, REFERENCE, 1) == 4 / 6
    assert iou(MASK, REFERENCE, 1) == 2 / 4
    assert dice(MASK, REFERENCE, 2) == 6 / 7
    assert iou(MASK, REFERENCE, 2) == 3 / 4


def test_one_pass_gives_every_class_and_the_macro_mean() -> None:
    result = overlaps(MASK, REFERENCE, 3)
    assert result.dice == (4 / 6, 6 / 7)
    assert result.iou == (2 / 4, 3 / 4)
    assert result.macro_dice == pytest.approx((4 / 6 + 6 / 7) / 2)
    assert result.macro_iou == 0.625


def test_pixels_to_be_ignored_are_not_counted_whatever_the_mask_says_there() -> None:
    reference = REFERENCE.copy()
    reference[0] = 255
    assert confusion(MASK, reference, 3, ignore_label=255).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 3]]
    with pytest.raises(DataError, match="reference has the labels 255"):
        confusion(MASK, reference, 3)


def test_a_class_in_neither_has_no_value_and_stays_out_of_the_mean() -> None:
    result = overlaps(MASK, REFERENCE, 4)
    assert isnan(result.dice[2])
    assert isnan(result.iou[2])
    assert result.macro_dice == overlaps(MASK, REFERENCE, 3).macro_dice
    assert isnan(dice(MASK, REFERENCE, 3))


def test_empty_masks_have_no_value_at_all() -> None:
    empty = np.zeros((2, 2), np.uint8)
    assert isnan(overlaps(empty, empty, 3).macro_dice)


def test_invented_and_missed_foreground_is_zero() -> None:
    empty, full = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    assert dice(full, empty, 1) == 0
    assert dice(empty, full, 1) == 0


def test_pooling_sums_pixels_before_dividing() -> None:
    small = confusion(np.array([1, 0]), np.array([1, 1]), 2)  # Dice 2/3
    large = confusion(np.array([1] * 8 + [0] * 2), np.array([1] * 8 + [0] * 2), 2)  # Dice 1
    assert pooled_overlaps([small, large]).dice == (18 / 19,)
    assert pooled_overlaps([small, large]).iou == (9 / 10,)


def test_pooling_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no cases to pool"):
        pooled_overlaps([])


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"mask has shape \(2, 3\), reference has shape \(3, 2\)") as caught:
        dice(np.zeros((2, 3)), np.zeros((3, 2)), 1)
    assert caught.value.code == "shape_mismatch"


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (-1, "-1"), (0.5, "0.5"), (nan, "nan")])
def test_unknown_labels_are_named(value: float, shown: str) -> None:
    with pytest.raises(DataError, match=f"reference has the labels {shown}, the classes are 0 to 2") as caught:
        overlaps(np.zeros(4), np.array([0, 1, 2, value]), 3)
    assert caught.value.code == "label_unknown"


def test_unknown_labels_of_the_mask_are_named() -> None:
    with pytest.raises(DataError, match="mask has the labels 7, 9"):
        overlaps(np.array([7, 9]), np.array([0, 1]), 3)


def test_mean_leaves_out_nan() -> None:
    assert nan_mean([1.0, nan, 0.5]) == 0.75
    assert isnan(nan_mean([nan]))
    assert isnan(nan_mean([]))


def test_counting_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = confusion(MASK, REFERENCE, 3)
    monkeypatch.setattr(overlap, "CHUNK_PX", 2)
    assert (confusion(MASK, REFERENCE, 3) == whole).all()


@given(labels)
def test_overlap_is_symmetric(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    mask, reference = arrays
    np.testing.assert_equal(overlaps(mask, reference, 3), overlaps(reference, mask, 3))


@given(labels, st.randoms())
def test_the_order_of_pixels_does_not_matter(arrays: tuple[np.ndarray, np.ndarray], random: object) -> None:
    mask, reference = (array.ravel() for array in arrays)
    order = np.arange(mask.size)
    random.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_equal(overlaps(mask[order], reference[order], 3), overlaps(mask, reference, 3))


@given(labels, st.integers(1, 4))
def test_pooling_is_the_same_for_every_batch_size(arrays: tuple[np.ndarray, np.ndarray], size: int) -> None:
    mask, reference = arrays
    parts = range(0, len(mask), size)
    batches = [confusion(mask[start : start + size], reference[start : start + size], 3) for start in parts]
    np.testing.assert_equal(pooled_overlaps(batches), overlaps_from_counts(confusion(mask, reference, 3)))


@given(labels)
def test_dice_and_iou_say_the_same(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    result = overlaps(*arrays, classes=3)
    for one, other in zip(result.dice, result.iou, strict=True):
        assert isnan(one) == isnan(other)
        assert isnan(one) or one == pytest.approx(2 * other / (1 + other))
        assert isnan(one) or 0 <= other <= one <= 1


@given(labels, st.integers(1, 2))
def test_one_label_alone_gives_what_the_pass_over_all_gives(arrays: tuple[np.ndarray, np.ndarray], label: int) -> None:
    mask, reference = arrays
    result = overlaps(mask, reference, 3)
    np.testing.assert_equal(
        (dice(mask, reference, label), iou(mask, reference, label)), (result.dice[label - 1], result.iou[label - 1])
    )
