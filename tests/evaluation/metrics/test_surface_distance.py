"""Distances between surfaces: masks counted by hand, another implementation, and the cost of a missed structure."""

from math import hypot, isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from random_masks import random_pairs
from surface_distance import (
    compute_average_surface_distance,
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from evaluation.metrics.surface_distance import StructurePair, assd, hd95, nsd
from imaging.errors import DataError

pairs = hnp.array_shapes(min_dims=2, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def block(shape: tuple[int, ...], *spans: tuple[int, int]) -> np.ndarray:
    filled = np.zeros(shape, bool)
    filled[tuple(slice(*span) for span in spans)] = True
    return filled


def test_a_square_that_is_moved() -> None:
    # a square of 10 x 10 pixels: 4 sides of 9 elements of length 1 and 4 cut corners of sqrt(.5); moved by 3 columns
    one, moved = block((20, 30), (5, 15), (5, 15)), block((20, 30), (5, 15), (8, 18))
    pair = StructurePair(one, moved, (2.0, 2.0), tolerance=0.0)
    assert (pair.unit, pair.is_one_sided, pair.remark) == ("um", False, "")
    assert hd95(pair) == 6.0  # the far side and more than a twentieth of the outline is 3 pixels off
    # in common: 7 elements of the upper side and 7 of the lower, and the cut corner that ends each of them
    assert nsd(pair) == pytest.approx(2 * (7 + sqrt(0.5)) / (36 + 4 * sqrt(0.5)))
    assert nsd(StructurePair(one, moved, (2.0, 2.0), tolerance=6.0)) == 1


def test_without_spacing_distances_are_in_pixels() -> None:
    pair = StructurePair(block((9, 9), (2, 4), (2, 7)), block((9, 9), (2, 6), (2, 7)), None, tolerance=1)
    assert (hd95(pair), pair.unit) == (2.0, "px")


def test_the_spacing_of_each_axis_counts() -> None:
    one, other = block((8, 8, 8), (2, 5), (2, 6), (2, 6)), block((8, 8, 8), (3, 6), (2, 6), (2, 6))
    assert hd95(StructurePair(one, other, (5.0, 1.0, 1.0))) == 5.0
    assert hd95(StructurePair(one, other, (0.5, 1.0, 1.0))) == 0.5


def test_the_larger_direction_counts_and_a_twentieth_is_forgiven() -> None:
    square = block((60, 60), (10, 50), (10, 50))
    speck = square.copy()
    speck[55, 55] = True  # an outline of 2.8 beside one of 159
    assert hd95(StructurePair(speck, square)) == 0
    block_away = square | block((60, 60), (10, 50), (54, 58))  # 85 of 244 are 4 to 8 off
    assert hd95(StructurePair(block_away, square)) == 8
    assert hd95(StructurePair(square, block_away)) == 8


def test_the_average_distance_of_two_pixels() -> None:
    # each outline has 4 corners of the same length: one pair of corners is 1 px from the other outline, one is on it
    one, other = block((4, 6), (1, 2), (1, 2)), block((4, 6), (1, 2), (2, 3))
    assert assd(StructurePair(one, other)) == 0.5
    assert assd(StructurePair(one, other, (1.0, 3.0))) == pytest.approx(1.5)


def test_the_average_distance_weighs_the_longer_outline_more() -> None:
    speck = block((60, 60), (30, 31), (30, 31))
    square = block((60, 60), (10, 50), (10, 50))
    longer, shorter = StructurePair(square, speck).surface_distances
    assert (longer.area, shorter.area) == pytest.approx((156 + 4 * sqrt(0.5), 4 * sqrt(0.5)))
    directed_means = longer.integral / longer.area, shorter.integral / shorter.area
    assert assd(StructurePair(square, speck)) == pytest.approx(directed_means[0], rel=0.01)
    assert directed_means[0] > 1.15 * directed_means[1]


def test_a_missed_and_an_invented_structure_cost_the_diagonal() -> None:
    something, nothing = block((30, 40), (3, 5), (3, 5)), np.zeros((30, 40), bool)
    for mask, reference in ((something, nothing), (nothing, something)):
        pair = StructurePair(mask, reference, (2.0, 2.0), tolerance=1)
        assert (hd95(pair), assd(pair), nsd(pair), pair.remark) == (hypot(60, 80), hypot(60, 80), 0.0, "one_sided")


def test_what_neither_side_has_gives_no_value() -> None:
    nothing = np.zeros((3, 4, 5), bool)
    pair = StructurePair(nothing, nothing, (1, 1, 1), tolerance=1)
    assert all(isnan(metric(pair)) for metric in (hd95, assd, nsd))
    assert pair.remark == ""


def test_shapes_and_axes_must_agree() -> None:
    with pytest.raises(DataError, match=r"mask has shape \(2, 3\), reference has shape \(3, 2\)"):
        StructurePair(np.zeros((2, 3), bool), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match=r"spacing \(1.0, 1.0, 1.0\) has 3 axes, the mask has 2"):
        StructurePair(np.zeros((2, 3), bool), np.zeros((2, 3), bool), (1.0, 1.0, 1.0))


@pytest.mark.filterwarnings("ignore:Please (use|import)")  # it calls scipy by names that scipy will drop
def test_they_are_deepminds() -> None:
    random = np.random.default_rng(1)
    compared = 0
    for mask, reference, spacing_um in random_pairs(300):
        pair = StructurePair(mask, reference, spacing_um, tolerance=random.uniform(0, 4))
        if not pair.is_empty and not pair.is_one_sided:
            expected = compute_surface_distances(reference, mask, pair.steps)
            assert nsd(pair) == pytest.approx(compute_surface_dice_at_tolerance(expected, pair.tolerance), abs=1e-6)
            ends = [compute_robust_hausdorff(expected, percent) for percent in (95 - 1e-5, 95 + 1e-5)]  # ties fall either way
            assert ends[0] - 1e-6 <= hd95(pair) <= ends[1] + 1e-6
            areas = [expected[f"surfel_areas_{side}"].sum() for side in ("gt", "pred")]
            directed_means = compute_average_surface_distance(expected)
            assert assd(pair) == pytest.approx(np.average(directed_means, weights=areas), abs=1e-6)
            compared += 1
    assert compared >= 200


def outline_by_definition(structure: np.ndarray, steps: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (N, 2) and lengths (N) of an outline, from the 2 x 2 pixels around every corner of a 2D structure."""
    padded = np.pad(structure, 1)
    diagonal = hypot(*steps) / 2  # a line that cuts off one of the four pixels
    lengths = {0: 0.0, 1: diagonal, 3: diagonal, 4: 0.0}
    places, elements = [], []
    for row, column in np.ndindex(structure.shape[0] + 1, structure.shape[1] + 1):
        around = padded[row : row + 2, column : column + 2]
        if around.sum() == 2:
            is_crossed = around[0, 0] == around[1, 1]
            length = 2 * diagonal if is_crossed else steps[1] if around[0, 0] == around[0, 1] else steps[0]
        else:
            length = lengths[int(around.sum())]
        if length:
            places.append((row * steps[0], column * steps[1]))
            elements.append(length)
    return np.array(places), np.array(elements)


def test_they_follow_from_the_definition() -> None:
    for mask, reference, spacing_um in random_pairs(600):
        pair = StructurePair(mask, reference, spacing_um, tolerance=1.01)
        if mask.ndim == 2 and not pair.is_empty and not pair.is_one_sided:
            (places, lengths), (other_places, other_lengths) = (
                outline_by_definition(each, pair.steps) for each in (mask, reference)
            )
            distances = np.hypot(*(places[:, None] - other_places).T)  # (N, N'), transposed: other, own
            nearest, other_nearest = distances.min(0), distances.min(1)
            whole = lengths.sum() + other_lengths.sum()
            assert assd(pair) == pytest.approx((nearest @ lengths + other_nearest @ other_lengths) / whole, abs=1e-6)
            near = lengths[nearest <= 1.01].sum() + other_lengths[other_nearest <= 1.01].sum()
            assert nsd(pair) == pytest.approx(near / whole, abs=1e-6)
            for share, sign in ((0.95 - 1e-6, 1), (0.95 + 1e-6, -1)):  # a tie may fall either way
                ends = [
                    min(distance for distance in each if size[each <= distance].sum() >= share * size.sum())
                    for each, size in ((nearest, lengths), (other_nearest, other_lengths))
                ]
                assert sign * (hd95(pair) - max(ends)) >= -1e-6


def test_one_pixel_each_in_a_volume_of_thick_slices() -> None:
    # the 8 corners of each voxel, 3 slices apart: the 4 near ones are 2 slices from the other voxel, the far ones 3
    mask, reference = np.zeros((2, 8, 4, 4), bool)
    mask[1, 2, 2] = reference[4, 2, 2] = True
    pair = StructurePair(mask, reference, (5.0, 1.0, 1.0), tolerance=10.0)
    assert (hd95(pair), nsd(pair), assd(pair)) == (15.0, 0.5, 12.5)


@settings(deadline=None)
@given(pairs)
def test_what_holds_for_any_structures(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    mask, reference = arrays
    pair, swapped = StructurePair(mask, reference, tolerance=1), StructurePair(reference, mask, tolerance=1)
    wider = StructurePair(np.pad(mask, 2), np.pad(reference, 2), tolerance=1)
    for metric, perfect in ((hd95, 0), (assd, 0), (nsd, 1)):
        value = metric(pair)
        assert metric(swapped) == pytest.approx(value, rel=1e-6, nan_ok=True)
        assert pair.is_one_sided or metric(wider) == pytest.approx(value, nan_ok=True)
        assert not mask.any() or metric(StructurePair(mask, mask)) == perfect
