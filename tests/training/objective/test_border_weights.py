"""The U-Net paper's weights between objects: compared with their definition, and limited in time and memory."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from training.objective.border_weights import NEGLIGIBLE, border_reach_px, border_weights, number_components


def by_definition(objects: NDArray[Any], weight: float, sigma_px: float) -> NDArray[np.float64]:
    """Compute the weights from every pixel's distance to every pixel of every object."""
    numbers = [number for number in np.unique(objects) if number > 0]
    added = np.zeros(objects.shape)
    if len(numbers) < 2:
        return added
    places = {number: np.argwhere(objects == number) for number in numbers}
    for pixel in np.argwhere(objects == 0):
        first, second = sorted(np.linalg.norm(place - pixel, axis=1).min() for place in places.values())[:2]
        added[tuple(pixel)] = weight * np.exp(-((first + second) ** 2) / (2 * sigma_px**2))
    return added


@settings(max_examples=60, deadline=None)
@given(
    objects=st.sampled_from([(9, 11), (3, 14), (4, 5, 6)]).flatmap(
        lambda shape: arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 0, 0, 0, 1, 7, 300]))
    ),
    weight=st.sampled_from([0.5, 10.0]),
    sigma_px=st.sampled_from([0.7, 1.5, 5.0]),
)
def test_equals_the_definition(objects: NDArray[Any], weight: float, sigma_px: float) -> None:
    """Windows change negligible weights only."""
    added = border_weights(objects, weight, sigma_px)
    assert (added.dtype, added.shape) == (np.float32, objects.shape)
    np.testing.assert_allclose(added, by_definition(objects, weight, sigma_px), atol=NEGLIGIBLE, rtol=1e-4)


def test_two_objects_in_a_row() -> None:
    """Distances 1 and 2 to either side, w0 10 and sigma 5; nothing on the objects."""
    added = border_weights(np.array([[4, 0, 0, 9]]), 10, 5)
    assert added[0].tolist() == pytest.approx([0, 10 * np.exp(-9 / 50), 10 * np.exp(-9 / 50), 0], rel=1e-5)


@pytest.mark.parametrize("objects", [np.zeros((5, 5), np.int32), np.eye(5, dtype=np.int32), np.ones((5, 5), np.int32)])
def test_fewer_than_two_objects(objects: NDArray[Any]) -> None:
    assert not border_weights(objects, 10, 5).any()


def test_reach() -> None:
    assert border_reach_px(10, 5) == 22
    assert border_reach_px(NEGLIGIBLE / 2, 5) == 0


def test_components_of_a_class_are_objects_and_touching_classes_are_two() -> None:
    labels = np.array([[1, 0, 1, 2], [1, 0, 0, 2]])
    assert number_components(labels, (1, 2)).tolist() == [[1, 0, 2, 3], [1, 0, 0, 3]]


def discs(size: int, count: int, radius: int) -> NDArray[np.int32]:
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[:size, :size]
    objects = np.zeros((size, size), np.int32)
    for number in range(1, count + 1):
        row, column = random.uniform(0, size, 2)
        objects[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return objects


def test_a_patch_takes_milliseconds() -> None:
    objects = discs(128, 20, 7)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        border_weights(objects, 10, 5)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


def test_memory_depends_on_the_pixels_and_not_on_the_objects() -> None:
    few, many = discs(768, 4, 9), discs(768, 400, 9)
    peaks = []
    for objects in (few, many):
        tracemalloc.start()
        border_weights(objects, 10, 5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 64 * many.size
