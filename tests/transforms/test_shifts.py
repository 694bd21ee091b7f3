"""The graded shifts: each has its strength, keeps the image's shape and type, and moves it further the stronger it is."""

import numpy as np
import pytest

from transforms.shifts import SHIFTS, Shift, change_stain, compress_jpeg, invert_contrast
from transforms.stain import to_stains

SHAPES = {"picture": (3, 48, 56), "grey": (1, 48, 56), "volume": (1, 12, 16, 20)}


def smooth_image(shape: tuple[int, ...]) -> np.ndarray:
    """Return an image of values from 0.2 to 0.9 with coarse and fine detail."""
    axes = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in shape[1:]), indexing="ij")
    pattern = sum(np.sin(axis / (3 + number)) for number, axis in enumerate(axes)) + 0.3 * np.sin(axes[-1] * 2.5)
    pattern = 0.2 + 0.7 * (pattern - pattern.min()) / np.ptp(pattern)
    return np.stack([pattern * (1 - 0.1 * channel) for channel in range(shape[0])]).astype(np.float32)


SUITING = [(shift, kind) for shift in SHIFTS for kind, shape in SHAPES.items() if shift.suits(shape[0], len(shape) - 1)]


@pytest.mark.parametrize(("shift", "kind"), SUITING, ids=[f"{shift.name}-{kind}" for shift, kind in SUITING])
def test_stronger_shifts_move_the_image_further(shift: Shift, kind: str) -> None:
    image = smooth_image(SHAPES[kind])
    before = image.copy()
    shifted = [shift.apply(image, strength) for strength in shift.strengths]
    assert all(each.shape == image.shape and each.dtype == np.float32 for each in shifted)
    distances = [float(np.abs(each - image).mean()) for each in shifted]
    assert distances[0] > 0
    assert distances == sorted(distances)
    np.testing.assert_array_equal(image, before)  # the image itself is unchanged
    np.testing.assert_array_equal(shifted[0], shift.apply(image, shift.strengths[0]))


def test_which_images_a_shift_suits() -> None:
    suits = {shift.name: [shift.suits(channels, dimensions) for channels, dimensions in ((3, 2), (1, 2), (2, 2), (1, 3))]
             for shift in SHIFTS}  # fmt: skip
    assert suits["stain"] == [True, False, False, False]
    assert suits["jpeg"] == [True, True, False, False]
    assert all(suits[name] == [True] * 4 for name in ("brightness", "blur", "noise", "inversion", "resolution"))


def test_the_negative_of_the_negative_is_the_image() -> None:
    image = smooth_image(SHAPES["picture"])
    np.testing.assert_allclose(invert_contrast(invert_contrast(image, 1), 1), image, atol=1e-6)
    assert np.ptp(invert_contrast(image, 0.5)) < 1e-6
    np.testing.assert_allclose(invert_contrast(np.array([[[0.25]]], np.float32), 0.25), [[[0.375]]])


def test_stain_changes_the_amounts_of_haematoxylin_and_eosin() -> None:
    image = np.full((3, 2, 2), [[[0.7]], [[0.5]], [[0.8]]], np.float32)
    before, after = to_stains(image)[:, 0, 0], to_stains(change_stain(image, 0.25))[:, 0, 0]
    assert after[0] == pytest.approx(before[0] * 1.25, rel=1e-3)
    assert after[1] == pytest.approx(before[1] / 1.25, rel=1e-3)


def test_jpeg_of_high_quality_is_almost_the_image() -> None:
    image = smooth_image(SHAPES["grey"])
    assert np.abs(compress_jpeg(image, 95) - image).max() < 0.03
