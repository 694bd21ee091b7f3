"""The fixed intensity transforms, against typed-out arrays and their identities."""

import numpy as np
import pytest

from transforms import intensity, mri
from transforms.limits import Limits, fit

ROW = np.array([[[0.0, 0.25, 0.5, 1.0]]], np.float32)  # (1, 1, 4)


def noise_image(shape: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).random(shape, np.float32)


def test_known_results() -> None:
    np.testing.assert_allclose(intensity.brighten(ROW, 0.5)[0, 0], [0.5, 0.75, 1, 1.5])
    np.testing.assert_allclose(intensity.stretch(ROW, 2)[0, 0], [-0.4375, 0.0625, 0.5625, 1.5625])  # about 0.4375
    np.testing.assert_allclose(intensity.gamma(ROW - 0.5, 2)[0, 0], [0, 0, 0, 0.25])


@pytest.mark.parametrize("shape", [(2, 16, 20), (1, 8, 10, 12)], ids=str)
def test_strength_nothing_changes_nothing(shape: tuple[int, ...]) -> None:
    image = noise_image(shape)
    for same in (
        intensity.brighten(image, 0),
        intensity.stretch(image, 1),
        intensity.gamma(image, 1),
        intensity.add_noise(image, 0, 1),
        intensity.low_resolution(image, 1),
        mri.bias_field(image, 0, 1),
        mri.ghost(image, 1, 3, 0),
    ):
        np.testing.assert_allclose(same, image, atol=1e-6)
        assert same.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 200, 200), (1, 30, 40, 30)], ids=str)
def test_noise_has_its_deviation(shape: tuple[int, ...]) -> None:
    noise = intensity.add_noise(np.zeros(shape, np.float32), 0.1, 5)
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert noise.mean() == pytest.approx(0, abs=0.003)


@pytest.mark.parametrize("shape", [(2, 31, 31), (1, 31, 31, 31)], ids=str)
def test_blur_spreads_a_point_by_its_deviation(shape: tuple[int, ...]) -> None:
    point = np.zeros(shape, np.float32)
    point[(slice(None), *(15,) * (len(shape) - 1))] = 1
    blurred = intensity.blur(point, 2.0)[0]
    along = blurred.sum(axis=tuple(range(1, blurred.ndim)))
    assert along.sum() == pytest.approx(1, abs=1e-3)
    assert (along * (np.arange(31) - 15) ** 2).sum() == pytest.approx(4, rel=0.05)


def test_low_resolution_leaves_no_fine_detail() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (1, 32, 16))
    thinned = intensity.low_resolution(stripes, 0.5)
    assert thinned.shape == stripes.shape
    assert np.ptp(thinned) == 0


def test_bias_field_is_smooth_and_positive() -> None:
    field = mri.bias_field(np.ones((1, 20, 20, 20), np.float32), 0.3, 3)[0]
    assert field.min() > 0
    assert np.ptp(field) > 0.2
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in range(3)) < 0.5 * np.ptp(field)


def test_ghosts_are_copies_along_the_axis() -> None:
    """Every second line of the spectrum weaker: the object and one ghost half the field of view away."""
    image = np.zeros((1, 16, 4), np.float32)
    image[0, 2:4] = 1
    ghosted = mri.ghost(image, 1, 2, 0.4)[0, :, 0]
    expected = np.zeros(16)
    expected[2:4], expected[10:12] = 0.8, -0.2
    np.testing.assert_allclose(ghosted, expected + 0.4 * image.mean(), atol=1e-6)  # line 0, the mean, is kept


def test_limits_of_8_bit_colours_are_those_of_light() -> None:
    assert fit(np.dtype(np.uint8), 3, []).high.tolist() == [255, 255, 255]
    grey = fit(np.dtype(np.uint8), 1, [np.array([[5, 7], [9, 9]], np.uint8)[None]])
    assert (grey.low.tolist(), grey.high.tolist()) == ([5], [9])


def test_limits_leave_out_the_brightest_few_and_go_channel_by_channel() -> None:
    first = np.stack([np.linspace(0, 100, 10_000), np.linspace(-5, 5, 10_000)])
    second = first.copy()
    second[0, 5] = 1e6
    limits = fit(np.dtype(np.float32), 2, [first, second])
    np.testing.assert_allclose(limits.low, [0, -5])
    np.testing.assert_allclose(limits.high, [100, 5], rtol=0.01)


def test_limits_there_and_back() -> None:
    limits = Limits(np.array([2.0, 7.0]), np.array([4.0, 7.0]))
    image = np.array([[2, 3, 4], [7, 7, 7]], np.float32)
    np.testing.assert_allclose(limits.unit(image), [[0, 0.5, 1], [0, 0, 0]])
    np.testing.assert_allclose(limits.back(limits.unit(image)), image)
