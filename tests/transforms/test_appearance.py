"""Stain, remapping and restyling: what they must leave alone, and that they can be undone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import stain
from transforms.remap import BINS, draw_curve, random_remap, remap
from transforms.restyle import StyleBank, restyle, style_of


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).uniform(0.05, 1, shape).astype(np.float32)


def test_stains_there_and_back() -> None:
    image = picture((3, 20, 30))
    np.testing.assert_allclose(stain.from_stains(stain.to_stains(image)), image, atol=1e-5)
    unchanged = stain.restain(image, np.ones(3, np.float32), np.zeros(3, np.float32))
    np.testing.assert_allclose(unchanged, image, atol=1e-5)


def test_each_stain_has_its_colour() -> None:
    """One unit of haematoxylin lets through exp(-0.65) of the red, exp(-0.70) of the green, exp(-0.29) of the blue."""
    amounts = np.eye(3, dtype=np.float32)[:, :, None]  # (3 stains, 3 pixels, 1)
    colours = stain.from_stains(amounts)[:, :, 0]
    np.testing.assert_allclose(-np.log(colours.T), [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], atol=1e-5)
    np.testing.assert_allclose(stain.to_stains(stain.from_stains(amounts)), amounts, atol=1e-5)


def test_white_has_no_stain_and_more_stain_is_darker() -> None:
    assert not stain.to_stains(np.ones((3, 2, 2), np.float32)).any()
    image = stain.from_stains(np.ones((3, 2, 2), np.float32))
    assert (stain.restain(image, np.full(3, 1.2, np.float32), np.zeros(3, np.float32)) < image).all()


@given(seed=st.integers(0, 10_000), inversion=st.booleans())
def test_curves_are_smooth_and_fill_the_range(seed: int, inversion: bool) -> None:
    curve = draw_curve(np.random.default_rng(seed), inversion=inversion)
    assert curve.shape == (BINS,)
    assert (curve.min(), curve.max()) == (0, 1)
    assert np.abs(np.diff(curve)).max() < 0.25


def test_contrast_is_inverted_as_often_as_not_and_only_where_allowed() -> None:
    def rising(inversion: bool) -> float:
        curves = [draw_curve(np.random.default_rng(seed), inversion=inversion) for seed in range(400)]
        return float(np.mean([np.polyfit(np.arange(BINS), curve, 1)[0] > 0 for curve in curves]))

    assert rising(True) == pytest.approx(0.5, abs=0.08)
    assert rising(False) > 0.9


def test_remap_looks_up_and_keeps_the_background() -> None:
    inversion = np.array([1, 0.5, 0], np.float32)
    channel = np.array([-0.2, 0, 0.1, 0.25, 0.5, 1, 1.5], np.float32)
    np.testing.assert_allclose(remap(channel, inversion, 0.1), [-0.2, 0, 0.1, 0.75, 0.5, 0, 0], atol=1e-6)


@given(seed=st.integers(0, 1000))
def test_random_remap_keeps_background_and_the_order_of_equal_values(seed: int) -> None:
    image = np.linspace(0, 1, 101, dtype=np.float32).reshape(1, 1, 101).repeat(2, axis=1)
    curved = random_remap(image, np.random.default_rng(seed), share=1.0, background=0.1, inversion=True)
    np.testing.assert_array_equal(curved[image <= 0.1], image[image <= 0.1])
    np.testing.assert_array_equal(curved[:, 0], curved[:, 1])
    half = random_remap(image, np.random.default_rng(seed), share=0.5, background=0.1, inversion=True)
    np.testing.assert_allclose(half, (image + curved) / 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 20, 27), (1, 9, 16, 20)], ids=str)
def test_restyle_by_its_own_style_changes_nothing(shape: tuple[int, ...]) -> None:
    image = picture(shape)
    np.testing.assert_allclose(restyle(image, style_of(image), 0.5), image, atol=1e-5)
    np.testing.assert_allclose(restyle(image, style_of(picture(shape, 1)), 0.0), image, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 20, 27), (1, 9, 16, 20)], ids=str)
def test_restyle_takes_the_style_and_keeps_the_rest(shape: tuple[int, ...]) -> None:
    image, other = picture(shape), picture(shape, 1) * 0.3
    styled = restyle(image, style_of(other), 1.0)
    np.testing.assert_allclose(style_of(styled), style_of(other), rtol=2e-2, atol=0.05)
    np.testing.assert_allclose(styled.mean(), other.mean(), rtol=0.02)  # frequency 0 is the mean
    fine = [np.diff(part, n=3, axis=-1).std() for part in (image, styled)]
    assert fine[1] == pytest.approx(fine[0], rel=0.05)


def test_bank_draws_each_of_its_styles() -> None:
    patches = [np.stack([picture((1, 8, 8), seed), picture((1, 8, 8), seed + 10)]) for seed in range(3)]
    bank = StyleBank(patches)
    np.testing.assert_allclose(bank.styles[1], (style_of(patches[1][0]) + style_of(patches[1][1])) / 2)
    random = np.random.default_rng(0)
    drawn = [bank.draw(random) for _ in range(60)]
    assert all(any(style is one for one in drawn) for style in bank.styles)
