"""Augmentation's contract, the same in 2D and 3D."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.sections import AugmentSection
from transforms.augment import Augment, make_augment
from transforms.limits import Limits
from transforms.restyle import StyleBank
from transforms.spatial import Patch, coordinates, draw_movement

SHAPES = [(1, 40, 48), (3, 64, 48), (1, 16, 20, 24), (2, 12, 16, 16)]
NO_SPACE: dict[str, Any] = {"rotation_degrees": 0, "scaling": 0, "elastic_px": 0, "flips": False}
NO_INTENSITY: dict[str, Any] = {"brightness": 0, "contrast": 0, "gamma": 0, "noise": 0}
NOTHING = NO_SPACE | NO_INTENSITY
INTENSITIES: dict[str, Any] = {
    "brightness": 0.2,
    "contrast": 0.2,
    "gamma": 0.3,
    "noise": 0.1,
    "blur_px": 2.0,
    "low_resolution": 0.6,
    "bias_field": 0.3,
    "ghosting": 0.5,
    "remap": 1.0,
    "restyle": 0.5,
}
SPACES: dict[str, Any] = {
    "rotation_degrees": 180,
    "scaling": 0.25,
    "shear_degrees": 20,
    "translation_px": 4,
    "elastic_px": 2,
    "flips": True,
    "quarter_turns": True,
}


def make(shape: tuple[int, ...], **changes: Any) -> Augment:
    styles = StyleBank([draw(shape, 9)[0][None] - 3])
    values = {"probability": 1.0, **changes}
    if values.get("restyle"):
        values["style_bank"] = "styles"
    return make_augment(AugmentSection(**values), len(shape) - 1, styles)


def draw(shape: tuple[int, ...], seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    return random.normal(3, 2, shape).astype(np.float32), random.choice([0, 2, 7], shape[1:]).astype(np.uint8)


def augmented(augment: Augment, image: Any, reference: Any, seed: int, **others: Any) -> Patch:
    return augment(image, reference, np.random.default_rng(seed), **others)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_equal_seeds_give_equal_bytes_and_labels_stay_labels(shape: tuple[int, ...], seed: int) -> None:
    image, reference = draw(shape, 0)
    augment = make(shape, **INTENSITIES, **(SPACES | {"quarter_turns": False}))
    first, again = augmented(augment, image, reference, seed), augmented(augment, image, reference, seed)
    assert [part.tobytes() for part in first] == [part.tobytes() for part in again]
    assert first.image.shape == shape
    assert first.image.dtype == np.float32
    assert first.reference.shape == first.inside.shape == shape[1:]
    assert first.reference.dtype == np.uint8
    assert set(np.unique(first.reference)) <= {0, 2, 7}
    assert np.isfinite(first.image).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_other_seeds_give_other_patches(shape: tuple[int, ...]) -> None:
    image, reference = draw(shape, 0)
    augment = make(shape)
    assert not np.array_equal(augmented(augment, image, reference, 1).image, augmented(augment, image, reference, 2).image)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "changes",
    [NOTHING, NOTHING | {"remap": 0.0, "stain": 0.0}, {"probability": 0}, {"probability": 0, **INTENSITIES, **SPACES}],
    ids=["all strengths 0", "named ones too", "probability 0", "probability 0, all strengths on"],
)
def test_nothing_changes_nothing(shape: tuple[int, ...], changes: dict[str, Any]) -> None:
    image, reference = draw(shape, 2)
    same = augmented(make(shape, **changes), image, reference, 3)
    np.testing.assert_array_equal(same.image, image)
    np.testing.assert_array_equal(same.reference, reference)
    assert same.inside.all()


@pytest.mark.parametrize("changes", [{name: strength} for name, strength in SPACES.items()], ids=lambda one: next(iter(one)))
@pytest.mark.parametrize("side", [(49, 49), (25, 25, 25)], ids=str)
def test_landmarks_land_where_the_field_says_in_image_and_reference(side: tuple[int, ...], changes: dict[str, Any]) -> None:
    """Balls of radius 3: the centre in the image, in the reference, and of what the field takes from there, are one."""
    section = AugmentSection(**(NOTHING | {"probability": 1.0} | changes))
    augment = make_augment(section, len(side))
    moves = 0
    for seed, middle in enumerate((np.array(side) // 2, np.array(side) // 2 + 5, np.array(side) // 2 - 4)):
        reference = (np.linalg.norm(np.indices(side).T - middle, axis=-1).T <= 3.0).astype(np.uint8)
        patch = augmented(augment, reference[None].astype(np.float32), reference, seed)
        field = coordinates(draw_movement(section, len(side), np.random.default_rng(seed)), side)
        distance = np.linalg.norm(field.T - middle, axis=-1).T
        balls = patch.image[0], patch.reference, distance <= 3
        in_image, in_reference, expected = (centre_of(ball * patch.inside) for ball in balls)  # not their mirror images
        np.testing.assert_allclose(in_image, in_reference, atol=0.5)
        np.testing.assert_allclose(in_reference, expected, atol=0.5)
        moves += not np.array_equal(patch.reference, reference)
    assert moves


def centre_of(weights: Any) -> Any:
    return np.array([(weights * index).sum() / weights.sum() for index in np.indices(weights.shape)])


@pytest.mark.parametrize("name", INTENSITIES)
@pytest.mark.parametrize("shape", [(1, 24, 24), (2, 12, 16, 16)], ids=str)
def test_each_intensity_transform_changes_the_image_alone(shape: tuple[int, ...], name: str) -> None:
    image, reference = draw(shape, 1)
    augment = make(shape, **(NOTHING | {name: INTENSITIES[name]}))
    patches = [augmented(augment, image, reference, seed) for seed in range(4)]
    for patch in patches:
        np.testing.assert_array_equal(patch.reference, reference)
        assert patch.inside.all()
        assert patch.image.dtype == np.float32
    assert not all(np.allclose(patch.image, image, atol=0.01) for patch in patches)


def test_stain_changes_the_image_alone() -> None:
    image, reference = draw((3, 24, 24), 1)
    changed = augmented(make(image.shape, **(NOTHING | {"stain": 0.1})), image, reference, 5)
    np.testing.assert_array_equal(changed.reference, reference)
    assert not np.allclose(changed.image, image, atol=0.01)


@pytest.mark.parametrize("name", ["remap", "restyle"])
def test_patches_of_one_image_share_its_curve_and_style(name: str) -> None:
    """Equal intensities in two patches stay equal, however different the rest of the patches is."""
    limits = Limits(np.array([-10.0]), np.array([10.0]))
    augment = make((1, 24, 24), **(NOTHING | {name: 1.0}))
    image, reference = draw((1, 24, 24), 0)
    patches = [
        augmented(augment, image, reference, seed, limits=limits, image_random=np.random.default_rng(of_image)).image
        for seed, of_image in ((1, 7), (2, 7), (1, 8))
    ]
    np.testing.assert_array_equal(patches[0], patches[1])
    if name == "remap":
        assert not np.allclose(patches[0], patches[2], atol=0.1)


def test_restyle_needs_styles() -> None:
    section = AugmentSection(restyle=0.5, style_bank="styles")
    with pytest.raises(ValueError, match=r"augment\.restyle needs styles; make a StyleBank of the user's images"):
        make_augment(section, 2)


def test_constant_patch_keeps_its_value() -> None:
    image, reference = np.full((1, 8, 8), 4.0, np.float32), np.ones((8, 8), np.uint8)
    same = augmented(make(image.shape, brightness=0, noise=0), image, reference, 0)
    np.testing.assert_allclose(same.image, image)
    np.testing.assert_array_equal(same.reference, reference)


def test_mirrored_border_is_told_from_the_patch() -> None:
    """Moved by up to 4 px: the pixels that came from outside are those that the shift brought in."""
    augment = make((1, 9, 9), **(NOTHING | {"translation_px": 4}))
    image = np.arange(81, dtype=np.float32).reshape(1, 9, 9)
    patch = augmented(augment, image, np.zeros((9, 9), np.uint8), 1)
    rows, columns = patch.inside.any(axis=1), patch.inside.any(axis=0)
    np.testing.assert_array_equal(patch.inside, np.outer(rows, columns))
    assert 5 <= rows.sum() < 9
    assert 5 <= columns.sum() < 9
