"""clDice: lines counted by hand, the authors' formula on whole arrays, and skeletons that keep every piece."""

from math import isnan, nan

import numpy as np
import pytest
from random_masks import random_pairs
from scipy import ndimage
from skimage.morphology import skeletonize

from evaluation.metrics.partial_overlap import cl_dice, skeleton
from evaluation.metrics.surface_distance import StructurePair


def pieces_of(structure: np.ndarray) -> tuple[np.ndarray, int]:
    numbers, count = ndimage.label(structure, np.ones((3,) * structure.ndim))
    return numbers, count


def has_lost_piece(structure: np.ndarray) -> bool:
    """Say whether scikit-image gives a piece no skeleton."""
    numbers, count = pieces_of(structure)
    return len(np.unique(numbers[skeletonize(np.pad(structure, 1))[(slice(1, -1),) * structure.ndim]])) < count


def authors_formula(mask: np.ndarray, reference: np.ndarray) -> float:
    """Return equations 1 to 3 of Shit et al. 2021; 0 where both shares are 0."""
    if not (mask.any() or reference.any()):
        return nan
    if not (mask.any() and reference.any()):
        return 0
    lines_of_mask, lines_of_reference = (skeletonize(np.pad(side, 2)) for side in (mask, reference))
    precision = (lines_of_mask & np.pad(reference, 2)).sum() / lines_of_mask.sum()
    sensitivity = (lines_of_reference & np.pad(mask, 2)).sum() / lines_of_reference.sum()
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0


def test_lines_that_are_their_own_skeletons() -> None:
    reference = np.zeros((7, 12), bool)
    reference[3, 1:11] = True  # 10 pixels
    mask = np.zeros_like(reference)
    mask[3, 1:5] = mask[1, 8] = True  # 4 on the line, 1 beside it
    assert cl_dice(StructurePair(mask, reference)) == pytest.approx(2 * 0.8 * 0.4 / (0.8 + 0.4))


def test_the_thickness_of_a_vessel_does_not_count() -> None:
    thin, thick = np.zeros((2, 11, 40), bool)
    thin[5, 5:35] = True
    thick[4:7, 5:35] = True
    pair = StructurePair(thin, thick)
    assert cl_dice(pair) > 0.98  # the skeleton of the thick one turns aside in its last pixel
    assert 2 * thin.sum() / (thin.sum() + thick.sum()) == 0.5  # its Dice


def test_a_gap_in_a_volume() -> None:
    reference = np.zeros((5, 5, 20), bool)
    reference[2, 2, :] = True
    mask = reference.copy()
    mask[:, :, 8:13] = False
    assert cl_dice(StructurePair(mask, reference, (3.0, 1.0, 1.0))) == pytest.approx(2 * 0.75 / 1.75)


def test_one_side_and_neither_side() -> None:
    something, nothing, elsewhere = np.zeros((3, 6, 6), bool)
    something[1, 1] = elsewhere[4, 1:5] = True
    assert cl_dice(StructurePair(something, nothing)) == 0
    assert cl_dice(StructurePair(nothing, something)) == 0
    assert cl_dice(StructurePair(something, elsewhere)) == 0
    assert isnan(cl_dice(StructurePair(nothing, nothing)))


def test_it_is_the_authors_formula() -> None:
    compared = 0
    for mask, reference, spacing_um in random_pairs(300):
        if not (has_lost_piece(mask) or has_lost_piece(reference)):
            value = cl_dice(StructurePair(mask, reference, spacing_um))
            assert value == pytest.approx(authors_formula(mask, reference), abs=1e-6, nan_ok=True)
            compared += 1
    assert compared >= 200


def test_symmetry_and_identity() -> None:
    for mask, reference, _ in random_pairs(50):
        value = cl_dice(StructurePair(mask, reference))
        assert cl_dice(StructurePair(reference, mask)) == pytest.approx(value, nan_ok=True)
        assert not mask.any() or cl_dice(StructurePair(mask, mask)) == 1


def test_every_piece_has_a_skeleton() -> None:
    lost = 0
    for mask, _, _ in random_pairs(600):
        lines = skeleton(mask)
        numbers, count = pieces_of(mask)
        assert not (lines & ~mask).any()
        assert len(np.unique(numbers[lines])) == count
        lost += has_lost_piece(mask)
    assert lost > 0


def test_a_bar_of_even_thickness_keeps_its_axis() -> None:
    bar = np.ones((4, 4, 9), bool)
    assert not skeletonize(np.pad(bar, 1)).any()  # scikit-image loses it
    expected = np.zeros_like(bar)
    expected[1:3, 1:3, 1:8] = True
    np.testing.assert_array_equal(skeleton(bar), expected)
