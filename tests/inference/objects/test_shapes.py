"""Measurements: equal to scikit-image's regionprops, and a few that are typed out."""

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops
from test_find_objects import COMPONENTS, blobs, drawn, found_in, masks

from inference.objects.arrays import InMemory
from inference.objects.find import find_objects, number_objects


def check_against_regionprops(mask: np.ndarray, pixels: np.ndarray) -> int:
    """Compare all objects of a mask (*S) and the channels of pixels (C, *S), and return their number."""
    numbers = number_objects(mask, COMPONENTS)
    flat = mask.ndim == 2
    objects = list(find_objects(InMemory(mask), COMPONENTS, image=ArraySource(pixels)))
    for found, expected in zip(objects, regionprops(numbers, np.moveaxis(pixels, 0, -1)), strict=True):
        assert (found.number, found.area_px, found.box) == (expected.label, expected.area, expected.slice)
        assert (found.pixels == expected.image).all()
        assert found.centroid_px == pytest.approx(expected.centroid, rel=1e-12, abs=1e-12)
        assert found.equivalent_diameter_px == pytest.approx(expected.equivalent_diameter_area, rel=1e-12)
        assert found.channel_means == pytest.approx(expected.intensity_mean, rel=1e-6)
        assert found.channel_deviations == pytest.approx(expected.intensity_std, rel=1e-5, abs=1e-4)
        if flat:
            assert found.eccentricity == pytest.approx(expected.eccentricity, abs=1e-6)  # the root of a rounded 0
            assert found.solidity == pytest.approx(expected.solidity, rel=1e-12)
        else:
            assert found.eccentricity is None
            assert found.solidity is None
    return len(objects)


@settings(deadline=None, max_examples=60)
@given(masks, st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]), st.data())
def test_measurements_are_regionprops(mask: np.ndarray, dtype: type, data: st.DataObject) -> None:
    values = st.integers(0, 200).map(dtype)
    check_against_regionprops(mask, data.draw(hnp.arrays(dtype, (2, *mask.shape), elements=values)))


@pytest.mark.parametrize("shape", [(300, 280), (30, 40, 50)])
def test_measurements_of_ragged_and_branching_objects_are_regionprops(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, *shape)).astype(np.uint8)
    assert check_against_regionprops(blobs(shape, 2), pixels) > 40


def test_a_measured_object_typed_out() -> None:
    image = ArraySource(np.arange(12, dtype=np.uint8).reshape(1, 3, 4))
    probabilities = InMemory(np.full((3, 3, 4), 51, np.uint8), axes=1)
    mask = InMemory(drawn("....", ".222", "..2."))
    (found,) = find_objects(mask, COMPONENTS, image=image, probabilities=probabilities)
    assert (found.number, found.label, found.area_px, found.box) == (1, 2, 4, (slice(1, 3), slice(1, 4)))
    assert found.centroid_px == (1.25, 2)
    assert found.runs.tolist() == [[1, 1, 4], [2, 2, 3]]
    assert found.pixels.tolist() == [[True, True, True], [False, True, False]]
    assert (found.channel_means, found.solidity, found.score, found.is_point) == ((7,), 1, None, False)
    assert found.channel_deviations[0] == pytest.approx(np.std([5, 6, 7, 10]))
    assert found.mean_probability == pytest.approx(0.2)


def test_a_volume_has_no_flat_shape() -> None:
    mask = np.zeros((3, 4, 5), np.uint8)
    mask[1:, 1:3, 2:4] = 1
    (found,) = found_in(mask)
    assert (found.eccentricity, found.solidity, found.channel_means, found.mean_probability) == (None, None, (), None)
    assert found.runs.tolist() == [[1, 1, 2, 4], [1, 2, 2, 4], [2, 1, 2, 4], [2, 2, 2, 4]]
    assert found.pixels.all()
    assert found.pixels.shape == (2, 2, 2)


def test_the_mean_probability_is_that_of_the_objects_own_class() -> None:
    shares = np.array([[[0.1, 0.2, 0.3]], [[0.8, 0.1, 0.1]], [[0.1, 0.7, 0.6]]], np.float32)
    first, second = find_objects(InMemory(drawn("122")), COMPONENTS, probabilities=InMemory(shares, axes=1))
    assert first.mean_probability == pytest.approx(0.8)
    assert second.mean_probability == pytest.approx(0.65)


def test_the_deviation_of_large_integers_is_exact() -> None:
    pixels = np.full((1, 400, 400), 65_000, np.uint16)
    pixels[0, ::2] += 1
    (found,) = find_objects(InMemory(np.ones((400, 400), np.uint8)), COMPONENTS, image=ArraySource(pixels))
    assert (found.channel_means, found.channel_deviations) == ((65_000.5,), (0.5,))
