"""Division of pieces: touching balls, ragged borders, the image's border, and no influence of neighbours."""

import numpy as np
import pytest
from test_find_objects import WATERSHED, ball, blobs, found_in

from configs.inference_section import InferenceSection
from inference.objects import split as split_module
from inference.objects.find import number_objects


@pytest.mark.parametrize(
    ("shape", "first", "second"), [((40, 60), (20, 20), (20, 38)), ((24, 24, 44), (12, 12, 13), (12, 12, 30))]
)
def test_two_touching_balls_are_divided_and_one_is_not(shape, first, second) -> None:
    one, other = ball(shape, first, 10), ball(shape, second, 10)
    both = (one | other).astype(np.uint8)
    assert number_objects(both, InferenceSection()).max() == 1
    numbers = number_objects(both, WATERSHED)
    assert numbers.max() == 2
    assert numbers[first] != numbers[second]
    assert (numbers[one & ~other] == numbers[first]).mean() > 0.95
    assert number_objects(one.astype(np.uint8), WATERSHED).max() == 1


def test_a_ragged_border_needs_smoothing() -> None:
    mask, random = np.zeros((60, 80), np.uint8), np.random.default_rng(0)
    for column in range(10, 70):
        mask[20 + random.integers(-4, 5) : 40 + random.integers(-4, 5), column] = 1
    counts = [number_objects(mask, InferenceSection(objects="watershed", object_sigma_px=sigma)).max() for sigma in (0.0, 8.0)]
    assert counts[0] > counts[1] == 1


def test_an_object_that_the_image_cuts_is_one() -> None:
    assert number_objects(ball((40, 40), (0, 20), 15).astype(np.uint8), WATERSHED).max() == 1


@pytest.mark.parametrize("shape", [(120, 110), (24, 26, 28)])
def test_a_piece_is_divided_alike_whatever_is_beside_it(shape: tuple[int, ...]) -> None:
    mask = blobs(shape, 0)
    section = InferenceSection(objects="watershed", object_sigma_px=1.0)
    together = {tuple(map(tuple, found.runs)) for found in found_in(mask, section)}
    pieces = number_objects(mask, InferenceSection())
    alone = {
        tuple(map(tuple, found.runs))
        for number in range(1, pieces.max() + 1)
        for found in found_in((pieces == number).astype(np.uint8), section)
    }
    assert together == alone
    assert len(together) > pieces.max()


def test_a_piece_that_fills_its_hull_is_one_whatever_the_smoothing() -> None:
    square = np.zeros((30, 60), np.uint8)
    square[5:25, 5:55] = 1
    assert number_objects(square, InferenceSection(objects="watershed", object_sigma_px=0)).max() == 1


@pytest.mark.parametrize(("shape", "side_px", "window_px"), [((230, 250), 15, 3600), ((60, 62, 64), 14, 30**3)])
def test_windows_divide_a_large_piece_as_the_whole_does(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], side_px: int, window_px: int
) -> None:
    random = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(*(np.arange(side_px, size, side_px) for size in shape), indexing="ij"), axis=-1)
    mask = np.zeros(shape, np.uint8)
    for centre in centres.reshape(-1, len(shape)):
        mask[ball(shape, centre, side_px * random.uniform(0.52, 0.58))] = 1
    section = InferenceSection(objects="watershed", object_sigma_px=2)
    whole = number_objects(mask, section)
    assert number_objects(mask, InferenceSection()).max() == 1
    assert whole.max() == len(centres.reshape(-1, len(shape)))
    monkeypatch.setattr(split_module, "WINDOW_PIXELS", window_px)
    assert (number_objects(mask, section) == whole).all()


def test_a_large_piece_that_is_thicker_than_the_border_of_a_window_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_module, "WINDOW_PIXELS", 400)
    mask = np.ones((100, 100), np.uint8)
    mask[:40, 40:] = 0
    section = InferenceSection(objects="watershed", object_sigma_px=1)
    assert number_objects(mask, section).max() == 1
