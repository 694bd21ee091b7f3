"""Cells between membranes: arrays counted by hand, scikit-image's two scores, and properties that hold for any membranes."""

from math import isnan, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage, sparse
from skimage.measure import shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information
from sklearn.metrics import zero_one_loss

from evaluation.metrics.membranes import (
    MembranePair,
    cell_scores,
    grow_cells,
    label_cells,
    membrane_scores,
    pixel_error,
    v_info,
    v_rand,
)
from imaging.errors import DataError

cells = st.integers(1, 8).flatmap(
    lambda side: st.tuples(*[hnp.arrays(np.uint8, (side, 6), elements=st.integers(0, 4)) for _ in range(2)])
)
membranes = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=8))


def parse(*rows: str) -> np.ndarray:
    """Return membranes where there is an x."""
    return np.array([[letter == "x" for letter in row] for row in rows])


def pair_of(mask: np.ndarray, reference: np.ndarray) -> MembranePair:
    return MembranePair(mask, reference, np.ones_like(mask))


def test_counts_of_a_cell_that_was_divided_and_two_that_were_joined() -> None:
    reference = np.array([1, 1, 1, 1, 0, 2, 2, 3, 3])
    mask_cells = np.array([7, 7, 7, 8, 9, 4, 4, 4, 4])  # 8 pixels count; cell 1 was divided 3 + 1, cells 2 and 3 joined
    scores = cell_scores(mask_cells, reference)
    joint, of_mask, of_reference = 9 + 1 + 4 + 4, 9 + 1 + 16, 16 + 4 + 4
    assert scores.rand == pytest.approx(joint / (0.5 * of_mask + 0.5 * of_reference))
    assert (scores.rand_split, scores.rand_merge) == pytest.approx((18 / 24, 18 / 26))
    entropy_mask = -(3 / 8 * log(3 / 8) + 1 / 8 * log(1 / 8) + 1 / 2 * log(1 / 2))
    entropy_reference = -(1 / 2 * log(1 / 2) + 2 * 1 / 4 * log(1 / 4))
    shared = log(2)  # the mutual information is half
    assert scores.info == pytest.approx(shared / (0.5 * entropy_mask + 0.5 * entropy_reference))
    assert (scores.info_split, scores.info_merge) == pytest.approx((shared / entropy_mask, shared / entropy_reference))


def test_a_membrane_of_the_mask_within_a_cell_counts_pixel_by_pixel() -> None:
    scores = cell_scores(np.array([5, 5, 0, 0]), np.array([1, 1, 1, 1]))
    assert (scores.rand_split, scores.rand_merge) == ((4 + 1 + 1) / 16, 1)


def test_the_references_membranes_are_not_scored_however_wide() -> None:
    reference = parse("..xxxx..", "..xxxx..")
    for mask in (
        parse("...x....", "...x...."),
        parse("..xxxx..", "..xxxx.."),
        parse(".....x..", "....x..."),
    ):
        scores = membrane_scores(mask, reference)
        assert (scores.rand, scores.info) == pytest.approx((1, 1))


def test_how_wide_the_masks_membranes_are_does_not_matter() -> None:
    reference = parse("....x....", "....x....")
    assert membrane_scores(parse("..xxxxx..", "..xxxxx.."), reference).rand == 1


def test_a_gap_joins_two_cells() -> None:
    reference, gap = parse("..x..", "..x.."), parse("..x..", ".....")
    scores = membrane_scores(gap, reference)
    assert scores.rand_split == 1
    assert scores.rand_merge == (16 + 16) / 64  # thinning takes the loose end away: 8 pixels, one cell


def test_without_cells_in_the_reference_there_is_no_value() -> None:
    mask_cells = cell_scores(np.ones((3, 3), int), np.zeros((3, 3), int))
    assert isnan(mask_cells.rand)
    assert isnan(mask_cells.info)


def test_one_cell_on_both_sides_has_no_information() -> None:
    nothing = np.zeros((4, 4), bool)
    mask_cells = membrane_scores(nothing, nothing)
    assert mask_cells.rand == 1
    assert isnan(mask_cells.info)


def test_membranes_everywhere_divide_a_cell_into_pixels() -> None:
    mask_cells = membrane_scores(np.ones((4, 4), bool), np.zeros((4, 4), bool))
    assert (mask_cells.rand_split, mask_cells.rand_merge) == (16 / 256, 1)


def test_cells_meet_at_sides_only() -> None:
    assert label_cells(parse(".x", "x.")).tolist() == [[1, 0], [0, 2]]


def test_cells_grow_until_a_pixel_is_between_them() -> None:
    assert grow_cells(parse(".xxx..", ".xxx..")).tolist() == [[1, 1, 0, 2, 2, 2]] * 2
    assert grow_cells(parse("..x..", "..x..")).tolist() == [[1, 1, 0, 2, 2]] * 2
    assert grow_cells(parse(".....", "..xx.")).tolist() == [[1] * 5] * 2


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"mask has shape \(2, 3\), reference has shape \(3, 2\)"):
        membrane_scores(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@settings(deadline=None)
@given(cells)
def test_it_is_scikit_images_on_the_same_pixels(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    mask_cells, reference = (array.ravel().astype(np.int64) for array in arrays)
    scores = cell_scores(mask_cells, reference)
    if isnan(scores.rand):
        return
    # scikit-image knows no membranes on the mask's side, so that each such pixel becomes an object. It leaves a pixel's pair
    # with itself out, which vanishes where all is counted many times over. What it calls precision is over the reference.
    kept = reference > 0
    mask_cells, reference = np.where(mask_cells, mask_cells, 100 + np.arange(mask_cells.size))[kept], reference[kept]
    table = sparse.csr_array((np.full(mask_cells.size, 10**8), (reference, mask_cells)))
    table.sum_duplicates()
    error, first, second = adapted_rand_error(table=table.astype(np.float64))
    assert scores.rand == pytest.approx(1 - error, abs=1e-6)
    assert (scores.rand_split, scores.rand_merge) == pytest.approx((first, second), abs=1e-6)
    if not isnan(scores.info):
        divided, joined = variation_of_information(reference, mask_cells)  # H(mask | reference), H(reference | mask), in bits
        of_mask, of_reference = shannon_entropy(mask_cells), shannon_entropy(reference)
        assert scores.info == pytest.approx(1 - (divided + joined) / (of_mask + of_reference), abs=1e-9)
        assert isnan(scores.info_split) or scores.info_split * of_mask == pytest.approx(of_mask - divided, abs=1e-9)
        assert isnan(scores.info_merge) or scores.info_merge * of_reference == pytest.approx(of_reference - joined, abs=1e-9)


@settings(deadline=None)
@given(cells)
def test_what_holds_for_any_cells(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    scores, itself = cell_scores(*arrays), cell_scores(arrays[1], arrays[1])
    assert isnan(scores.rand) or 0 < min(scores.rand_split, scores.rand_merge) <= scores.rand <= 1
    assert isnan(scores.info) or 0 <= scores.info <= 1 + 1e-9
    assert isnan(itself.rand) or itself.rand == 1
    assert isnan(itself.info) or itself.info == pytest.approx(1)


@settings(deadline=None)
@given(membranes)
def test_growing_changes_no_cell_and_joins_none(drawing: np.ndarray) -> None:
    before, after = label_cells(drawing), grow_cells(drawing)
    assert (after[~drawing] == before[~drawing]).all()
    for number in range(1, before.max() + 1):  # no pixel of it has a side in common with one of another cell
        beside = ndimage.binary_dilation(after == number)
        assert set(np.unique(after[beside])) <= {0, number}


def test_pixel_error_is_the_share_of_wrong_pixels() -> None:
    pair = pair_of(parse("..x..", "..x.."), parse("..x..", ".x..."))
    assert pixel_error(pair) == 2 / 10
    for seed in range(200):
        drawings = np.random.default_rng(seed).random((2, 6, 7)) < 0.3
        expected = zero_one_loss(drawings[1].ravel(), drawings[0].ravel())
        assert pixel_error(pair_of(*drawings)) == pytest.approx(expected, abs=1e-6)


def test_the_scores_of_a_pair_are_those_of_its_cells() -> None:
    mask, reference = parse("..x..", "....."), parse("..x..", "..x..")
    scores = membrane_scores(mask, reference)
    assert v_rand(pair_of(mask, reference)) == scores.rand == pytest.approx(16 / 24)
    assert isnan(v_info(pair_of(mask, np.zeros_like(mask))))
    assert v_info(pair_of(mask, reference)) == scores.info == 0  # one cell knows nothing of two
    same = pair_of(reference, reference)
    assert (v_rand(same), v_info(same), pixel_error(same)) == pytest.approx((1, 1, 0))


def test_pixels_that_are_not_scored_count_nowhere() -> None:
    reference, is_scored = parse("..x....", "..x...."), ~parse(".....xx", ".....xx")
    for rest in ("..", "x.", "xx"):
        mask = parse(f"..x..{rest}", f"..x..{rest}")
        pair = MembranePair(mask, reference, is_scored)
        assert (v_rand(pair), v_info(pair), pixel_error(pair)) == pytest.approx((1, 1, 0))
    pair = MembranePair(parse(".......", "......."), reference, is_scored)
    assert pixel_error(pair) == 2 / 10
    assert isnan(pixel_error(MembranePair(reference, reference, np.zeros_like(reference))))
