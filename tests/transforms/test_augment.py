"""Augmentation's contract, the same in 2D and 3D."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import AugmentSection
from transforms.augment import Augment, make_augment

SHAPES = [(1, 40, 48), (3, 64, 48), (1, 16, 20, 24), (2, 12, 16, 16)]
ONLY_SPACE: dict[str, Any] = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}
ONLY_INTENSITY: dict[str, Any] = {"rotation_degrees": 0, "scaling": 0, "elastic_px": 0, "flips": False}


def make(dimensions: int, **settings: Any) -> Augment:
    return make_augment(AugmentSection(**{"probability": 1.0, **settings}), dimensions)


def draw(shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.normal(3, 2, shape).astype(np.float32), random.choice([0, 2, 7], shape[1:]).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_equal_seeds_give_equal_patches_and_labels_stay_labels(shape: tuple[int, ...], seed: int) -> None:
    image, reference = draw(shape, 0)
    augment = make(len(shape) - 1)
    first, again = augment(image, reference, seed), augment(image, reference, seed)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape == shape
    assert first[0].dtype == np.float32
    assert first[1].shape == shape[1:]
    assert first[1].dtype == np.uint8
    assert set(np.unique(first[1])) <= {0, 2, 7}
    assert np.isfinite(first[0]).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_seeds_give_other_patches(shape: tuple[int, ...]) -> None:
    image, reference = draw(shape, 0)
    augment = make(len(shape) - 1)
    assert not np.array_equal(augment(image, reference, 1)[0], augment(image, reference, 2)[0])


@pytest.mark.parametrize("shape", [(1, 96, 96), (1, 32, 32, 32)], ids=str)
def test_image_and_reference_move_by_one_field(shape: tuple[int, ...]) -> None:
    """An image that is its own reference still is, but for interpolation at the object's edge."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape[1:]), indexing="ij"))
    reference = (((grid - 0.15) ** 2).sum(axis=0) < 0.2).astype(np.uint8)
    augment = make(len(shape) - 1, **ONLY_SPACE, elastic_px=2, elastic_smoothness_px=6)
    for seed in range(6):
        moved, moved_reference = augment(reference[None].astype(np.float32), reference, seed)
        assert not np.array_equal(moved_reference, reference)
        assert ((moved[0] > 0.5) == moved_reference).mean() > 0.995


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_intensity_leaves_the_reference_alone(shape: tuple[int, ...]) -> None:
    image, reference = draw(shape, 1)
    changed, unchanged = make(len(shape) - 1, **ONLY_INTENSITY)(image, reference, 5)
    np.testing.assert_array_equal(unchanged, reference)
    assert not np.allclose(changed, image)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_probability_zero_changes_nothing(dimensions: int) -> None:
    image, reference = draw((1, *(16,) * dimensions), 2)
    same, same_reference = make(dimensions, probability=0)(image, reference, 3)
    np.testing.assert_allclose(same, image, atol=1e-5)
    np.testing.assert_array_equal(same_reference, reference)


@pytest.mark.parametrize(("dimensions", "side"), [(2, 256), (3, 56)])
def test_displacement_is_what_the_config_says(dimensions: int, side: int) -> None:
    """A ramp shows how far each pixel came from; far from the border its deviation is elastic_px, give or take."""
    ramp = np.broadcast_to(np.arange(side, dtype=np.float32).reshape(-1, *[1] * (dimensions - 1)), (side,) * dimensions)
    augment = make(dimensions, **ONLY_SPACE, rotation_degrees=0, scaling=0, flips=False, elastic_px=3, elastic_smoothness_px=5)
    inside = (slice(16, -16),) * dimensions
    moved = [augment(ramp[None].copy(), np.zeros(ramp.shape, np.uint8), seed)[0][0] for seed in range(5)]
    deviation = np.std([(image - ramp)[inside] for image in moved])
    assert deviation == pytest.approx(3, rel=0.25)


def test_constant_patch_is_left_as_it_is() -> None:
    image, reference = np.full((1, 8, 8), 4.0, np.float32), np.ones((8, 8), np.uint8)
    same, same_reference = make(2)(image, reference, 0)
    assert same is image
    assert same_reference is reference
