"""Samples of pixels: the same whatever the bands, uniform, and of chosen pixels only."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evaluation.calibration.pixel_sample import PixelSample


def sample_of(values: np.ndarray, is_chosen: np.ndarray, most: int, rows: int, seed: int = 0) -> np.ndarray:
    sample = PixelSample(most, seed)
    for start in range(0, is_chosen.shape[0], rows):
        sample.add(start, values[:, start : start + rows], is_chosen[start : start + rows])
    return sample.values


@given(seed=st.integers(0, 2**32 - 1), most=st.sampled_from([1, 10, 300, 10_000]), dimensions=st.sampled_from([2, 3]))
def test_the_sample_does_not_depend_on_bands(seed: int, most: int, dimensions: int) -> None:
    random = np.random.default_rng(seed)
    shape = (70, 9, 3)[:dimensions]
    values, is_chosen = random.normal(size=(2, *shape)).astype(np.float32), random.random(shape) < 0.6
    samples = [sample_of(values, is_chosen, most, rows, seed) for rows in (1, 7, 64, 70)]
    assert len({sample.tobytes() for sample in samples}) == 1
    assert samples[0].shape == (2, min(most, is_chosen.sum()))
    chosen = {pixel.tobytes() for pixel in values[:, is_chosen].T.copy()}
    assert {pixel.tobytes() for pixel in samples[0].T.copy()} <= chosen


def test_all_chosen_pixels_are_equally_likely() -> None:
    """Check how often each of 40 pixels is among 10 that are kept, of 2,000 images: 500 times, within 5 deviations."""
    values = np.arange(40, dtype=np.float32).reshape(1, 8, 5)
    every = np.full((8, 5), True)
    kept = np.concatenate([sample_of(values, every, 10, 8, seed)[0] for seed in range(2000)])
    counts = np.bincount(kept.astype(int), minlength=40)
    assert np.abs(counts - 500).max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_no_pixels() -> None:
    assert PixelSample(10, 0).values.shape == (0, 0)
    assert sample_of(np.ones((3, 4, 5)), np.full((4, 5), False), 10, 2).shape == (3, 0)
