"""Looking up: against SciPy, and at the borders."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from transforms import warp as module
from transforms.warp import inside, mirrored, warp, warp_labels


@pytest.mark.parametrize("shape", [(2, 17, 23), (5, 9, 9), (2, 7, 9, 11), (1, 1, 8, 8)], ids=str)
def test_interpolates_as_scipy_does(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=shape).astype(np.float32)
    field = (np.indices(shape[1:]) + random.normal(0, 6, (len(shape) - 1, *shape[1:]))).astype(np.float32)
    expected = [map_coordinates(channel, field, order=1, mode="mirror") for channel in image]
    np.testing.assert_allclose(warp(image, mirrored(field)), expected, atol=2e-3)


def test_patches_too_large_for_opencv_come_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    image = random.normal(size=(1, 6, 7, 8)).astype(np.float32)
    field = mirrored((np.indices((6, 7, 8)) + random.normal(0, 2, (3, 6, 7, 8))).astype(np.float32))
    usual = warp(image, field)
    monkeypatch.setattr(module, "CV2_LARGEST_SIDE", 41)
    np.testing.assert_allclose(warp(image, field), usual, atol=1e-4)


@settings(deadline=None)
@given(size=st.integers(1, 9), places=st.lists(st.integers(-60, 60), min_size=9, max_size=9))
def test_mirrors_however_far_outside(size: int, places: list[int]) -> None:
    field = np.array([places[:size]], np.float32)
    expected = np.pad(np.arange(size), 60, "reflect")[np.array(places[:size]) + 60] if size > 1 else [0]
    np.testing.assert_array_equal(mirrored(field)[0], expected)


def test_a_pixel_reaches_half_a_pixel() -> None:
    field = np.array([[-0.6, -0.5, 2, 4.5, 4.6]], np.float32)
    assert inside(field).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_labels_are_looked_up_by_the_nearest(dtype: type) -> None:
    labels = np.array([[0, 7, 200], [3, 100, 9]], dtype)
    field = np.array([[[0.4, 0.6, 1], [0, 0, 0]], [[0.4, 0.6, 2], [2, 1, 0]]], np.float32)  # (2, 2, 3)
    looked_up = warp_labels(labels, field)
    assert looked_up.tolist() == [[0, 100, 9], [200, 7, 0]]
    assert looked_up.dtype == dtype
