"""Movements: exact where they can be, and as large as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.sections import AugmentSection
from transforms import spatial
from transforms.spatial import Matrix, Movement, Patch, draw_movement, move


def moved(matrix: Matrix, image: object, shift_px: object = 0.0) -> Patch:
    pixels = np.asarray(image, np.float32)
    shift = np.zeros(pixels.ndim) + np.asarray(shift_px)
    return move(Movement(matrix, shift), pixels[None], pixels.astype(np.uint8))


IMAGE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (spatial.flip([True, False]), [[7, 8, 9], [4, 5, 6], [1, 2, 3]]),
        (spatial.flip([False, True]), [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),
        (spatial.quarter_turn(1, 2), [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),
        (spatial.rotate([90]), [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),
        (spatial.rotate([180]), [[9, 8, 7], [6, 5, 4], [3, 2, 1]]),
        (spatial.shear([45]), [[4, 2, 6], [1, 5, 9], [4, 8, 6]]),  # down by a pixel on the left, up on the right, mirrored
        (spatial.scale(2, 2), [[3, 3.5, 4], [4.5, 5, 5.5], [6, 6.5, 7]]),
        (spatial.scale(0.5, 2), [[5, 5, 5], [5, 5, 5], [5, 5, 5]]),
    ],
    ids=["flip rows", "flip columns", "quarter turn", "rotate 90", "rotate 180", "shear 45", "enlarge 2", "shrink 2"],
)
def test_known_results(matrix: Matrix, expected: list[list[float]]) -> None:
    np.testing.assert_allclose(moved(matrix, IMAGE).image[0], expected, atol=1e-5)


def test_shift_is_mirrored_about_the_outermost_pixel_and_marked() -> None:
    patch = moved(np.eye(2), IMAGE, [1, -2])
    np.testing.assert_allclose(patch.image[0], [[6, 5, 4], [9, 8, 7], [6, 5, 4]])
    np.testing.assert_array_equal(patch.reference, [[6, 5, 4], [9, 8, 7], [6, 5, 4]])
    assert patch.inside.tolist() == [[False, False, True], [False, False, True], [False, False, False]]


@given(flips=st.lists(st.booleans(), min_size=2, max_size=3), turns=st.integers(0, 3), seed=st.integers(0, 99))
def test_flips_and_quarter_turns_are_exact(flips: list[bool], turns: int, seed: int) -> None:
    dimensions = len(flips)
    volume = np.random.default_rng(seed).normal(size=(7, 8, 8)[-dimensions:]).astype(np.float32)
    matrix = spatial.flip(flips) @ spatial.quarter_turn(turns, dimensions)
    patch = moved(matrix, volume)
    flipped = np.flip(volume, [axis for axis, on in enumerate(flips) if on])
    np.testing.assert_array_equal(patch.image[0], np.rot90(flipped, turns, axes=(-2, -1)))
    assert patch.inside.all()


def test_rotations_in_3d_turn_their_own_plane() -> None:
    volume = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32)
    for number, plane in enumerate(((0, 1), (0, 2), (1, 2))):
        degrees = np.where(np.arange(3) == number, 90.0, 0.0)
        np.testing.assert_allclose(moved(spatial.rotate(degrees), volume).image[0], np.rot90(volume, axes=plane), atol=1e-5)


def test_thick_slices_turn_in_space() -> None:
    """Slices 4 times as thick as pixels are wide: a wall through 3 slices, 12 thick, lies down as a row 9 wide."""
    matrix = spatial.in_pixels(spatial.rotate([90]), [4, 1])
    image = np.zeros((3, 9))
    image[:, 4] = 1
    np.testing.assert_allclose(moved(matrix, image).image[0], [[0] * 9, [1] * 9, [0] * 9], atol=1e-6)
    np.testing.assert_array_equal(spatial.in_pixels(matrix, None), matrix)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_drawn_keeps_to_the_config(dimensions: int) -> None:
    section = AugmentSection(
        probability=0.4, rotation_degrees=20, scaling=0.2, translation_px=3, elastic_px=5, elastic_points=4, flips=False
    )
    drawn = [draw_movement(section, dimensions, np.random.default_rng(seed)) for seed in range(500)]
    factors = np.array([np.linalg.det(movement.matrix) ** (-1 / dimensions) for movement in drawn])
    assert 0.8 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2
    shifts = np.array([movement.shift_px for movement in drawn])
    assert 2.8 < np.abs(shifts).max() <= 3
    control = [movement.control_px for movement in drawn if movement.control_px is not None]
    assert control[0].shape == (dimensions, *(6,) * dimensions)
    assert np.std(control) == pytest.approx(5, rel=0.02)
    shares = [(np.abs(factors - 1) > 1e-9).mean(), shifts.any(axis=1).mean(), len(control) / 500]
    np.testing.assert_allclose(shares, 0.4, atol=0.08)  # 3.6 standard errors
    if dimensions == 2:
        degrees = [np.degrees(np.arctan2(movement.matrix[0, 1], movement.matrix[0, 0])) for movement in drawn]
        assert 19 < np.abs(degrees).max() <= 20


@pytest.mark.parametrize("points", [3, 9])
@pytest.mark.parametrize("shape", [(40, 60), (20, 24, 28)], ids=str)
def test_elastic_displacement_has_its_deviation_at_every_pixel(shape: tuple[int, ...], points: int) -> None:
    random = np.random.default_rng(0)
    dimensions = len(shape)
    drawn = [
        spatial.elastic(random.normal(0, 3, (dimensions, *(points + 2,) * dimensions)).astype(np.float32), shape)
        for _ in range(600)
    ]
    deviation = np.std(drawn, axis=0)
    assert deviation.shape == (dimensions, *shape)
    assert deviation.mean() == pytest.approx(3, rel=0.05)
    assert deviation.min() > 2.3  # 3 less 8 standard errors
    assert deviation.max() < 3.7


def test_elastic_displacement_of_equal_points_is_the_same_but_for_its_scale() -> None:
    """B-splines sum to 1; scaled to unit deviation, a grid of ones is at most 2 ** (dimensions / 2) and varies slowly."""
    field = spatial.elastic(np.ones((2, 5, 5), np.float32), (33, 33))
    np.testing.assert_allclose(field[0], field[1])
    np.testing.assert_allclose(field[0], field[0].T, rtol=1e-6)
    np.testing.assert_allclose(field[0], field[0, ::-1, ::-1], rtol=1e-6)
    assert field.min() > 1
    assert np.abs(np.diff(field[0], axis=0)).max() < 0.05


def test_finer_grids_bend_more() -> None:
    random = np.random.default_rng(0)
    coarse, fine = (
        spatial.elastic(random.normal(0, 5, (2, points + 2, points + 2)).astype(np.float32), (128, 128)) for points in (3, 12)
    )
    assert np.abs(np.diff(fine, axis=1)).mean() > 3 * np.abs(np.diff(coarse, axis=1)).mean()
