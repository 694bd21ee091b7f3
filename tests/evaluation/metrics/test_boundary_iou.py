"""Boundary IoU: boundaries counted by hand, and the definition worked out for every pixel."""

from math import hypot, isnan

import cv2
import numpy as np
import pytest
from random_masks import random_pairs

from evaluation.metrics import partial_overlap
from evaluation.metrics.partial_overlap import boundary_iou
from evaluation.metrics.surface_distance import StructurePair


def boundary_by_definition(structure: np.ndarray, width_px: int) -> np.ndarray:
    """Return the pixels of a structure that have a pixel outside, or the image's border, within a number of steps."""
    boundary = np.zeros_like(structure)
    for pixel in np.argwhere(structure):
        padded = np.pad(structure, width_px)  # so that the pixel's own place is the corner of its neighbourhood
        boundary[tuple(pixel)] = not padded[tuple(slice(start, start + 2 * width_px + 1) for start in pixel)].all()
    return boundary


def test_a_square_in_a_square() -> None:
    mask, reference = np.zeros((2, 20, 20), bool)
    mask[5:10, 5:10] = True  # 1 px of boundary: 25 - 9 pixels
    reference[5:11, 5:10] = True  # 30 - 12 pixels; both have 5 at the top, 4 at each side; the mask's last row has 3 alone
    pair = StructurePair(mask, reference)
    assert boundary_iou(pair) == 13 / (16 + 18 - 13)


def test_a_square_at_the_border_of_the_image_has_its_boundary_there() -> None:
    mask = np.ones((8, 8), bool)
    reference = mask.copy()
    reference[0] = False  # its boundary: 8 + 8 + 5 + 5 pixels; the mask's: 28, of which the first row and 6 others are alone
    assert boundary_iou(StructurePair(mask, reference)) == 20 / (28 + 26 - 20)


def test_the_width_follows_the_diagonal_of_the_image() -> None:
    mask = np.zeros((300, 400), bool)
    mask[100:120, 100:120] = True
    reference = mask.copy()
    reference[102:118, 102:118] = False  # a frame of 2 px: .5 % of 500 is 2.5, rounded to even
    assert boundary_iou(StructurePair(mask, reference)) == 1


@pytest.mark.parametrize("share", [0.005, 0.2])
def test_it_follows_from_the_definition(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(partial_overlap, "BOUNDARY_SHARE", share)
    for mask, reference, spacing_um in random_pairs():
        width_px = max(1, round(share * hypot(*mask.shape)))
        boundaries = [boundary_by_definition(side, width_px) for side in (mask, reference)]
        either = (boundaries[0] | boundaries[1]).sum()
        expected = (boundaries[0] & boundaries[1]).sum() / either if either else np.nan
        assert boundary_iou(StructurePair(mask, reference, spacing_um)) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_repeated_erosion(seed: int) -> None:
    random = np.random.default_rng(seed)
    sides = [cv2.GaussianBlur(random.normal(size=(600, 800)), (0, 0), 12) > 0 for _ in range(2)]
    boundaries = []
    for side in sides:
        padded = np.pad(side, 1).astype(np.uint8)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=5)  # .5 % of a diagonal of 1,000
        boundaries.append((padded - eroded)[1:-1, 1:-1] > 0)
    expected = (boundaries[0] & boundaries[1]).sum() / (boundaries[0] | boundaries[1]).sum()
    assert boundary_iou(StructurePair(*sides)) == pytest.approx(expected, abs=1e-12)


def test_one_side_and_neither_side() -> None:
    something, nothing = np.ones((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    assert boundary_iou(StructurePair(something, nothing)) == 0
    assert boundary_iou(StructurePair(nothing, something)) == 0
    assert isnan(boundary_iou(StructurePair(nothing, nothing)))


def test_symmetry_and_identity() -> None:
    for mask, reference, _ in random_pairs(50):
        value = boundary_iou(StructurePair(mask, reference))
        assert boundary_iou(StructurePair(reference, mask)) == pytest.approx(value, nan_ok=True)
        assert not mask.any() or boundary_iou(StructurePair(mask, mask)) == 1
