"""Normalisation: the same numbers however the image is cut into blocks."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.sections import NormaliseSection
from transforms import normalise


def test_range_maps_its_ends_to_minus_one_and_one() -> None:
    section = NormaliseSection(method="range", lower=0, upper=200)
    normalised = normalise.fit(section, 1, [])
    assert normalised(np.array([[0, 50, 100, 200]], np.uint8)).tolist() == [[-1.0, -0.5, 0.0, 1.0]]
    assert normalised(np.zeros((1, 2, 2), np.uint16)).dtype == np.float32


@given(cuts=st.lists(st.integers(1, 9), max_size=4), seed=st.integers(0, 99))
def test_zscore_is_the_same_for_every_cut(cuts: list[int], seed: int) -> None:
    image = np.random.default_rng(seed).normal(5, 3, (2, 10, 7))
    blocks = np.split(image, sorted(set(cuts)), axis=1)
    normalised = normalise.fit(NormaliseSection(method="zscore"), 2, blocks)(image)
    np.testing.assert_allclose(normalised.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(normalised.std(axis=(1, 2)), 1, atol=1e-6)


def test_zscore_survives_large_offsets() -> None:
    image = np.random.default_rng(0).normal(1e7, 1, (1, 100, 100))
    normalised = normalise.fit(NormaliseSection(), 1, [image[:, :30], image[:, 30:]])(image)
    np.testing.assert_allclose(normalised.std(), 1, atol=1e-3)


def test_constant_channel_becomes_zero() -> None:
    image = np.stack([np.full((4, 4), 7.0), np.arange(16.0).reshape(4, 4)])
    normalised = normalise.fit(NormaliseSection(), 2, [image])(image)
    assert not normalised[0].any()
    assert np.isfinite(normalised).all()


CT = {"method": "ct", "lower": -100, "upper": 300, "mean": 100, "deviation": 50}


def test_ct_clips_then_goes_by_the_data_sets_mean_and_deviation() -> None:
    normalised = normalise.fit(NormaliseSection.model_validate(CT), 1, [])
    assert normalised(np.array([[-1000, -100, 100, 150, 300, 3000]], np.int16)).tolist() == [[-4.0, -4.0, 0.0, 1.0, 4.0, 4.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "method ct needs mean and deviation of the clipped foreground; `overtile plan` measures both"),
        ({"deviation": None}, "method ct needs mean and deviation of the clipped foreground; `overtile plan` measures both"),
        ({"mean": 400}, "mean 400 is not within lower -100 .. upper 300; give that of clipped values"),
        ({"lower": 300}, "lower 300 is not below upper 300; give the range's two ends in order"),
        ({"deviation": 0}, "Input should be greater than 0"),
    ],
)
def test_ct_that_is_not_whole(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        NormaliseSection.model_validate({**CT, **change})
