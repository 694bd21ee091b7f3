"""Distances between surfaces: masks counted by hand, another implementation, and the cost of a missed structure."""

from math import hypot, isnan, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from surface_distance import compute_robust_hausdorff, compute_surface_dice_at_tolerance, compute_surface_distances

from evaluation.metrics.surface_distance import surface_scores
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
    scores = surface_scores(one, moved, (2.0, 2.0), tolerance=0.0)
    assert (scores.unit, scores.one_sided) == ("um", False)
    assert scores.hd95 == 6.0  # the far side and more than a twentieth of the outline is 3 pixels off
    # in common: 7 elements of the upper side and 7 of the lower, and the cut corner that ends each of them
    assert scores.nsd == pytest.approx(2 * (7 + sqrt(0.5)) / (36 + 4 * sqrt(0.5)))
    assert surface_scores(one, moved, (2.0, 2.0), tolerance=6.0).nsd == 1


def test_without_spacing_distances_are_in_pixels() -> None:
    scores = surface_scores(block((9, 9), (2, 4), (2, 7)), block((9, 9), (2, 6), (2, 7)), None, tolerance=1)
    assert (scores.hd95, scores.unit) == (2.0, "px")


def test_the_spacing_of_each_axis_counts() -> None:
    one, other = block((8, 8, 8), (2, 5), (2, 6), (2, 6)), block((8, 8, 8), (3, 6), (2, 6), (2, 6))
    assert surface_scores(one, other, (5.0, 1.0, 1.0), tolerance=4).hd95 == 5.0
    assert surface_scores(one, other, (0.5, 1.0, 1.0), tolerance=4).hd95 == 0.5


def test_the_larger_direction_counts_and_a_twentieth_is_forgiven() -> None:
    square = block((60, 60), (10, 50), (10, 50))
    speck = square.copy()
    speck[55, 55] = True  # an outline of 2.8 beside one of 159
    assert surface_scores(speck, square, None, tolerance=1).hd95 == 0
    block_away = square | block((60, 60), (10, 50), (54, 58))  # 85 of 244 are 4 to 8 off
    assert surface_scores(block_away, square, None, tolerance=1).hd95 == 8
    assert surface_scores(square, block_away, None, tolerance=1).hd95 == 8


def test_a_missed_and_an_invented_structure_cost_the_diagonal() -> None:
    something, nothing = block((30, 40), (3, 5), (3, 5)), np.zeros((30, 40), bool)
    for mask, reference in ((something, nothing), (nothing, something)):
        scores = surface_scores(mask, reference, (2.0, 2.0), tolerance=1)
        assert (scores.hd95, scores.nsd, scores.one_sided) == (hypot(60, 80), 0.0, True)


def test_what_neither_side_has_gives_no_value() -> None:
    nothing = np.zeros((3, 4, 5), bool)
    scores = surface_scores(nothing, nothing, (1, 1, 1), tolerance=1)
    assert isnan(scores.hd95)
    assert isnan(scores.nsd)
    assert not scores.one_sided


def test_shapes_and_axes_must_agree() -> None:
    with pytest.raises(DataError, match=r"mask has shape \(2, 3\), reference has shape \(3, 2\)"):
        surface_scores(np.zeros((2, 3), bool), np.zeros((3, 2), bool), None, tolerance=1)
    with pytest.raises(ValueError, match=r"spacing \(1.0, 1.0, 1.0\) has 3 axes, the mask has 2"):
        surface_scores(np.zeros((2, 3), bool), np.zeros((2, 3), bool), (1.0, 1.0, 1.0), tolerance=1)


@pytest.mark.filterwarnings("ignore:Please (use|import)")  # it calls scipy by names that scipy will drop
@settings(deadline=None)
@given(pairs, st.floats(0.5, 3), st.floats(0, 4))
def test_it_is_deepminds(arrays: tuple[np.ndarray, np.ndarray], step: float, tolerance: float) -> None:
    mask, reference = arrays
    assume(mask.any())
    assume(reference.any())
    spacing = (step, *(1.0,) * (mask.ndim - 1))
    scores = surface_scores(mask, reference, spacing, tolerance=tolerance)
    expected = compute_surface_distances(reference, mask, spacing)
    assert scores.nsd == pytest.approx(compute_surface_dice_at_tolerance(expected, tolerance), abs=1e-6)
    ends = [compute_robust_hausdorff(expected, percent) for percent in (95 - 1e-6, 95 + 1e-6)]  # a tie may fall either way
    assert ends[0] - 1e-6 <= scores.hd95 <= ends[1] + 1e-6


@settings(deadline=None)
@given(pairs)
def test_what_holds_for_any_structures(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    mask, reference = arrays
    scores, turned = (surface_scores(*pair, None, tolerance=1) for pair in ((mask, reference), (reference, mask)))
    np.testing.assert_allclose((turned.hd95, turned.nsd), (scores.hd95, scores.nsd), rtol=1e-6)
    wider = surface_scores(np.pad(mask, 2), np.pad(reference, 2), None, tolerance=1)
    assert scores.one_sided or isnan(scores.hd95) or (wider.hd95, wider.nsd) == pytest.approx((scores.hd95, scores.nsd))
    assert not mask.any() or surface_scores(mask, mask, None, tolerance=0).hd95 == 0
