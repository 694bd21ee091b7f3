"""The contest's three scores of glands: by hand, against their definition written out, and properties of any objects."""

from math import hypot, isnan, sqrt

import numpy as np
import pytest
from object_samples import random_objects, renumbered
from scipy.spatial.distance import directed_hausdorff

from evaluation.metrics.glands import (
    count_glands,
    dice_sums,
    hausdorff_sums,
    object_dice,
    object_f1,
    object_hausdorff,
    pooled_f1,
    pooled_sums,
)
from evaluation.metrics.metric import BinaryCounts
from evaluation.metrics.object_pair import ObjectPair

SCORES = (object_f1, object_dice, object_hausdorff)
EMPTY, ONE = np.zeros((3, 4), int), np.array([[0, 0, 0, 0], [0, 5, 0, 0], [0, 0, 0, 0]])

# object 1 of the mask covers 3 of the 4 pixels of 1; 2 covers 1 of the 4 pixels of 2; 3 overlaps nothing
REFERENCE = np.array(
    [
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [2, 2, 2, 2, 0, 0, 0, 0],
    ]
)
MASK = np.array(
    [
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 2, 0, 0, 0, 3],
    ]
)


def test_right_objects_counted_by_hand() -> None:
    pair = ObjectPair(MASK, REFERENCE)
    assert count_glands(pair) == BinaryCounts(1, 2, 1)
    assert object_f1(pair) == 2 / (2 + 2 + 1)


def test_exactly_half_of_the_reference_is_enough() -> None:
    reference = np.array([[1, 1, 1, 1]])
    assert count_glands(ObjectPair(np.array([[0, 0, 3, 3]]), reference)) == BinaryCounts(1, 0, 0)
    assert count_glands(ObjectPair(np.array([[0, 0, 0, 3]]), reference)) == BinaryCounts(0, 1, 1)


def test_an_object_that_covers_two_is_right_once() -> None:
    assert count_glands(ObjectPair(np.ones((1, 4), int), np.array([[1, 1, 1, 2]]))) == BinaryCounts(1, 0, 1)


def test_two_halves_of_one_object_are_both_right_and_none_is_missed_twice() -> None:
    assert count_glands(ObjectPair(np.array([[1, 1, 2, 2]]), np.ones((1, 4), int))) == BinaryCounts(2, 0, 0)


def test_object_dice_counted_by_hand() -> None:
    of_mask = (4 * 6 / 8 + 1 * 2 / 5 + 1 * 0) / 6
    of_reference = (4 * 6 / 8 + 4 * 2 / 5) / 8
    assert object_dice(ObjectPair(MASK, REFERENCE)) == pytest.approx((of_mask + of_reference) / 2)


def test_object_hausdorff_counted_by_hand() -> None:
    # 1: a pixel to the side; 2: 3 pixels to the side; the nearest object of 3, whose ends are 7 pixels away, is 2
    of_mask, of_reference = (4 * 1 + 1 * 3 + 1 * 7) / 6, (4 * 1 + 4 * 3) / 8
    assert object_hausdorff(ObjectPair(MASK, REFERENCE)) == pytest.approx((of_mask + of_reference) / 2)


def test_the_distance_is_in_micrometres_where_the_spacing_is_known() -> None:
    mask = np.array([[1, 0, 0], [0, 0, 0]])
    reference = np.array([[0, 0, 0], [0, 0, 1]])
    assert object_hausdorff(ObjectPair(mask, reference)) == pytest.approx(sqrt(5))
    assert object_hausdorff(ObjectPair(mask, reference, (3.0, 2.0))) == 5


def test_what_lies_within_a_ring_is_as_far_as_its_middle() -> None:
    ring = np.zeros((7, 7), int)
    ring[1:6, 1:6] = 1
    disc = np.where(ring, 4, 0)
    ring[2:5, 2:5] = 0
    assert object_hausdorff(ObjectPair(disc, ring)) == 2  # no pixel of the disc's own rim is that far from the ring


def test_without_objects_there_is_no_value_and_on_one_side_the_worst() -> None:
    assert all(isnan(score(ObjectPair(EMPTY, EMPTY))) for score in SCORES)
    for pair in (ObjectPair(ONE, EMPTY), ObjectPair(EMPTY, ONE)):
        assert [score(pair) for score in SCORES] == [0, 0, 5]
    assert object_hausdorff(ObjectPair(ONE, EMPTY, (1.0, 3.0))) == hypot(3, 12)


def test_the_same_objects_are_best() -> None:
    assert [score(ObjectPair(ONE, ONE)) for score in SCORES] == [1, 1, 0]
    assert [score(ObjectPair(REFERENCE, REFERENCE)) for score in SCORES] == [1, 1, 0]


def test_pooled_scores_weigh_objects_and_not_cases() -> None:
    pairs = [ObjectPair(MASK, REFERENCE), ObjectPair(ONE, ONE), ObjectPair(EMPTY, EMPTY)]
    pooled = pooled_sums(dice_sums(pair) for pair in pairs)
    of_mask = (4 * 6 / 8 + 1 * 2 / 5 + 1 * 0 + 1 * 1) / 7
    of_reference = (4 * 6 / 8 + 4 * 2 / 5 + 1 * 1) / 9
    assert pooled.mean == pytest.approx((of_mask + of_reference) / 2)
    assert pooled_sums(hausdorff_sums(pair) for pair in pairs).mean == pytest.approx((14 / 7 + 16 / 9) / 2)
    assert pooled_f1(count_glands(pair) for pair in pairs) == 2 * 2 / (2 * 2 + 2 + 1)
    assert isnan(pooled_sums([]).mean)
    assert isnan(pooled_f1([]))


def test_it_is_the_definition_written_out() -> None:
    for mask, reference, spacing_um in random_objects():
        pair = ObjectPair(mask, reference, spacing_um)
        assert [score(pair) for score in SCORES] == pytest.approx(
            written_out(mask, reference, spacing_um), abs=1e-6, nan_ok=True
        )


def test_how_objects_are_numbered_does_not_matter() -> None:
    for mask, reference, spacing_um in random_objects(50):
        pair = ObjectPair(mask, reference, spacing_um)
        other = ObjectPair(renumbered(mask, 1), renumbered(reference, 2), spacing_um)
        assert [score(other) for score in SCORES] == pytest.approx([score(pair) for score in SCORES], nan_ok=True)


def written_out(mask: np.ndarray, reference: np.ndarray, spacing_um: tuple[float, ...]) -> list[float]:
    """Return the three scores with a mask of its own for each object."""
    segmented = [mask == number for number in np.unique(mask[mask > 0])]
    annotated = [reference == number for number in np.unique(reference[reference > 0])]
    if not segmented and not annotated:
        return [np.nan] * 3
    if not segmented or not annotated:
        return [0, 0, float(np.linalg.norm(np.multiply(mask.shape, spacing_um)))]
    right = sum(any(2 * (s & g).sum() >= g.sum() for g in overlapping_most(s, annotated)) for s in segmented)
    missed = max(0, len(annotated) - right)
    dice = sides(segmented, annotated, lambda own, other: 2 * (own & other).sum() / (own.sum() + other.sum()), max, [0.0])
    distance = sides(segmented, annotated, lambda own, other: hausdorff(own, other, spacing_um), min, [])
    return [2 * right / (right + len(segmented) + missed), dice, distance]


def overlapping_most(own: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
    most = max((own & other).sum() for other in others)
    return [other for other in others if most and (own & other).sum() == most]


def sides(segmented, annotated, value, best, alone) -> float:  # type: ignore[no-untyped-def]
    """Return the mean over both sides of the mean weighted by area; `alone`: the values where no object overlaps."""
    means = []
    for owns, others in ((segmented, annotated), (annotated, segmented)):
        values = []
        for own in owns:
            partners = overlapping_most(own, others)
            values.append(best([value(own, other) for other in partners or others] if partners or not alone else alone))
        means.append(np.average(values, weights=[own.sum() for own in owns]))
    return float(np.mean(means))


def hausdorff(own: np.ndarray, other: np.ndarray, spacing_um: tuple[float, ...]) -> float:
    points = [np.argwhere(side) * spacing_um for side in (own, other)]
    return float(max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0]))
