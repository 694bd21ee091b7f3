"""Clean-up: holes and openings piece by piece, and cases that are typed out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.morphology import ball, disk
from test_find_objects import blobs, drawn, masks

from configs.inference_section import InferenceSection
from inference.objects.arrays import InMemory
from inference.objects.clean_up import OpenedMask
from inference.objects.find import number_objects


def numbers_of(mask: np.ndarray, largest_hole_px: int) -> list[list[int]]:
    return number_objects(mask, InferenceSection(largest_hole_px=largest_hole_px)).tolist()


def test_holes_are_filled_up_to_their_size() -> None:
    mask = drawn("11111", "1..11", "1.1.1", "11111")
    assert numbers_of(mask, 0) == numbers_of(drawn("11111", "1..11", "1.1.1", "11111"), 0)
    for largest_px in (1, 2):
        assert numbers_of(mask, largest_px) == drawn("11111", "1..11", "1.111", "11111").tolist()
    assert numbers_of(mask, 3) == np.ones((4, 5)).tolist()


def test_what_holds_another_object_or_is_open_is_no_hole() -> None:
    occupied = drawn("1111", "1.21", "1111")
    assert numbers_of(occupied, 9) == [[2, 2, 2, 2], [2, 0, 1, 2], [2, 2, 2, 2]]
    at_border = drawn("1.1", "111")
    assert numbers_of(at_border, 9) == at_border.tolist()
    in_a_slice = np.ones((1, 3, 3), np.uint8)
    in_a_slice[0, 1, 1] = 0
    assert numbers_of(in_a_slice, 9) == in_a_slice.tolist()  # the volume's border is above and below it
    enclosed = np.ones((3, 3, 3), np.uint8)
    enclosed[1, 1, 1] = 0
    assert numbers_of(enclosed, 1) == np.ones((3, 3, 3)).tolist()


def test_an_opening_removes_bridges_and_spurs_but_nothing_at_the_images_border() -> None:
    mask = drawn(
        "11........11",
        "1..........1",
        "..111...111.",
        "..111111111.",
        "..111...111.",
        "..........1.",
    )
    opened = number_objects(mask, InferenceSection(opening_radius_px=1))
    assert opened.tolist() == [
        [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2],
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        [0, 0, 0, 3, 3, 0, 0, 0, 4, 4, 0, 0],
        [0, 0, 3, 3, 3, 3, 0, 4, 4, 4, 4, 0],
        [0, 0, 0, 3, 3, 0, 0, 0, 4, 4, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


@settings(deadline=None, max_examples=200)
@given(masks, st.integers(1, 6))
def test_holes_are_those_of_each_piece(mask: np.ndarray, largest_px: int) -> None:
    expected, pieces = mask.copy(), number_pieces(mask, connectivity=1)
    for number in range(1, pieces.max() + 1):
        free, count = ndimage.label(np.pad(pieces != number, 1, constant_values=True))
        for hole in range(1, count + 1):
            inside = (free == hole)[(slice(1, -1),) * mask.ndim]
            if hole != free.flat[0] and inside.sum() <= largest_px and not mask[inside].any():
                expected[inside] = mask[pieces == number][0]
    numbers = number_objects(mask, InferenceSection(largest_hole_px=largest_px))
    assert ((numbers > 0) == (expected > 0)).all()
    assert numbers.max() == number_pieces(expected, connectivity=1).max()


@pytest.mark.parametrize(("shape", "element"), [((90, 80), disk(2)), ((20, 26, 24), ball(2))])
def test_an_opening_is_that_of_each_piece_by_itself(shape: tuple[int, ...], element: np.ndarray) -> None:
    mask = blobs(shape, 1)
    pieces = number_pieces(mask, connectivity=1)
    expected = np.zeros(shape, bool)
    for number in range(1, pieces.max() + 1):
        eroded = ndimage.binary_erosion(pieces == number, element, border_value=1)
        expected |= ndimage.binary_dilation(eroded, element)
    whole = tuple(slice(0, size) for size in shape)
    opened = OpenedMask(InMemory(mask), 2).read(whole)
    assert (opened == np.where(expected, mask, 0)).all()
    assert 0 < (opened > 0).sum() < (mask > 0).sum()
