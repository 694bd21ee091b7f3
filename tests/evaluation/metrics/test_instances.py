"""Matched objects against arrays counted by hand, another library, and properties that hold for any arrays."""

from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from object_samples import random_objects
from torchmetrics.functional import detection as torchmetrics

from evaluation.metrics import overlap
from evaluation.metrics.instances import (
    Matches,
    average_precision,
    f1_at_iou,
    match_objects,
    panoptic_quality,
    pooled_matches,
    segmentation_quality,
)
from evaluation.metrics.object_pair import ObjectPair

REFERENCE = np.array(
    [
        [1, 1, 1, 0, 2, 2],
        [1, 1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0, 0],
        [7, 7, 7, 7, 0, 9],
    ]
)
MASK = np.array(
    [
        [5, 5, 5, 0, 0, 3],
        [5, 5, 0, 0, 0, 3],
        [0, 0, 0, 4, 0, 0],
        [6, 6, 6, 6, 6, 0],
    ]
)
# 1 and 5: 5 of 6 pixels; 7 and 6: 4 of 5; 2 and 3: 2 of 4, which is no match; 3 and 4 are invented, 2 and 9 missed

numbers = st.integers(1, 8).flatmap(
    lambda side: st.tuples(*[hnp.arrays(np.uint16, (side, 6), elements=st.integers(0, 4)) for _ in range(2)])
)


def match(mask: np.ndarray, reference: np.ndarray) -> Matches:
    return match_objects(ObjectPair(mask, reference))


def test_counts_of_the_small_arrays() -> None:
    matches = match(MASK, REFERENCE)
    assert matches == Matches((5 / 6, 4 / 5), in_mask=4, in_reference=4)
    assert matches.sq == pytest.approx((5 / 6 + 4 / 5) / 2)
    assert matches.rq == matches.f1 == 2 / 4
    assert matches.pq == pytest.approx((5 / 6 + 4 / 5) / 4)


def test_an_iou_of_one_half_is_no_match_and_a_little_more_is() -> None:
    reference = np.array([1, 1, 1, 0])
    assert match(np.array([0, 0, 1, 1]), reference).ious == ()
    assert match(np.array([0, 1, 0, 0]), np.array([0, 1, 1, 0])).ious == ()
    assert match(np.array([0, 1, 1, 0]), reference).ious == (2 / 3,)


def test_without_any_object_there_is_no_value() -> None:
    empty = np.zeros((3, 3), np.uint8)
    matches = match(empty, empty)
    assert all(isnan(value) for value in (matches.pq, matches.sq, matches.rq, matches.f1))


def test_objects_on_one_side_only_and_objects_without_a_match_are_zero() -> None:
    empty, one, other = np.zeros(4, np.uint8), np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1])
    for matches in (match(empty, one), match(one, empty), match(one, other)):
        assert (matches.pq, matches.sq, matches.rq, matches.f1) == (0, 0, 0, 0)


def test_pooling_counts_objects_and_not_cases() -> None:
    pooled = pooled_matches([Matches((1.0,), 1, 1), Matches((0.6, 0.8), 4, 4), Matches((), 0, 0)])
    assert pooled == Matches((1.0, 0.6, 0.8), 5, 5)
    assert pooled.pq == pytest.approx(2.4 / 5)


def test_pooling_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no cases to pool"):
        pooled_matches([])


def test_counting_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = match(MASK, REFERENCE)
    monkeypatch.setattr(overlap, "CHUNK_PX", 5)
    assert match(MASK, REFERENCE) == whole


@settings(deadline=None)
@given(numbers)
def test_it_is_torchmetrics_where_there_are_objects(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    mask, reference = arrays
    matches = match(mask, reference)
    if isnan(matches.pq):
        return
    # pairs (category, number): objects are category 1, background is category 0, "stuff"
    pixels = [torch.from_numpy(np.stack([array > 0, array], -1).astype(np.int64))[None] for array in arrays]
    of_classes = torchmetrics.panoptic_quality(*pixels, things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    expected = of_classes[0, :].tolist()  # of the things, which come first
    assert (matches.pq, matches.sq, matches.rq) == pytest.approx(tuple(expected), abs=1e-6)


@settings(deadline=None)
@given(numbers, st.permutations(range(1, 5)))
def test_how_objects_are_numbered_does_not_matter(arrays: tuple[np.ndarray, np.ndarray], order: list[int]) -> None:
    mask, reference = arrays
    renumbered = np.array([0, *(100 * number for number in order)])[mask]
    matches, expected = match(renumbered, reference), match(mask, reference)
    assert (sorted(matches.ious), matches.in_mask, matches.in_reference) == (
        sorted(expected.ious), expected.in_mask, expected.in_reference
    )  # fmt: skip


@settings(deadline=None)
@given(numbers)
def test_what_holds_for_any_objects(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    matches, turned, itself = match(*arrays), match(*arrays[::-1]), match(arrays[0], arrays[0])
    np.testing.assert_allclose(turned.pq, matches.pq)  # no side is preferred
    assert len(matches.ious) <= min(matches.in_mask, matches.in_reference)
    assert isnan(matches.pq) or matches.pq == pytest.approx(matches.sq * matches.rq)
    assert isnan(itself.pq) or itself.pq == 1


def test_scores_at_several_ious_counted_by_hand() -> None:
    pair = ObjectPair(MASK, REFERENCE)  # IoUs of 5/6, 4/5 and 2/4, with 4 objects on both sides
    f1 = [f1_at_iou(pair, percent) for percent in (50, 60, 70, 80, 90)]
    assert f1 == [2 / 4, 2 / 4, 2 / 4, 1 / 4, 0]  # 4/5 is not above .8
    # two match at .5 .. .75, one at .8, and none above 5/6
    assert average_precision(pair) == pytest.approx((6 * 2 / 6 + 1 * 1 / 7) / 10)
    assert (panoptic_quality(pair), segmentation_quality(pair)) == pytest.approx(((5 / 6 + 4 / 5) / 4, (5 / 6 + 4 / 5) / 2))


def test_a_threshold_below_one_half_is_refused() -> None:
    with pytest.raises(ValueError, match="an IoU threshold of 40 % lets an object match two; give 50 % or more"):
        f1_at_iou(ObjectPair(MASK, REFERENCE), 40)


def test_without_objects_there_is_no_precision_and_on_one_side_the_worst() -> None:
    empty, one = np.zeros(4, np.uint8), np.array([1, 0, 0, 0])
    for score in (average_precision, f1_at_iou, panoptic_quality, segmentation_quality):
        assert isnan(score(ObjectPair(empty, empty)))
        assert score(ObjectPair(one, empty)) == score(ObjectPair(empty, one)) == 0
        assert score(ObjectPair(one, one)) == 1


def test_touching_objects_are_two_and_joined_ones_are_one() -> None:
    touching = np.array([1, 1, 1, 2, 2])
    assert f1_at_iou(ObjectPair(touching, touching)) == 1
    assert match(touching > 0, touching) == Matches((3 / 5,), in_mask=1, in_reference=2)


def test_f1_and_precision_are_their_definitions_written_out() -> None:
    for mask, reference, _ in random_objects():
        of_mask, of_reference = ([side == number for number in np.unique(side[side > 0])] for side in (mask, reference))
        if not of_mask and not of_reference:
            continue
        ious = [(own & other).sum() / (own | other).sum() for own in of_mask for other in of_reference]
        pair = ObjectPair(mask, reference)
        precisions = []
        for percent in range(50, 100, 5):
            hits = sum(iou > percent / 100 for iou in ious)
            assert f1_at_iou(pair, percent) == pytest.approx(2 * hits / (len(of_mask) + len(of_reference)), abs=1e-6)
            precisions.append(hits / (len(of_mask) + len(of_reference) - hits))
        assert average_precision(pair) == pytest.approx(np.mean(precisions), abs=1e-6)
