"""Objects of a mask: properties of all masks, touching discs, and the limits of both methods."""

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from configs.sections import InferenceSection
from inference.objects.find import find_objects, number_objects
from inference.objects.image_object import InMemory

COMPONENTS = InferenceSection()
WATERSHED = InferenceSection(objects="watershed")

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 2))
sections = st.builds(
    InferenceSection,
    objects=st.sampled_from(["components", "watershed"]),
    object_sigma_px=st.sampled_from([0.0, 1.0, 2.0]),
    smallest_object_px=st.integers(0, 4),
)


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) <= radius**2


def test_pieces_that_meet_at_a_corner_or_in_another_label_are_apart() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 0], [2, 1, 1, 0], [2, 0, 0, 0]], np.uint8)
    expected = [[1, 1, 0, 2], [0, 0, 3, 0], [4, 3, 3, 0], [4, 0, 0, 0]]
    numbers = number_objects(mask, COMPONENTS)
    assert numbers.tolist() == expected
    assert numbers.dtype == np.uint32


def test_small_objects_are_dropped_and_the_others_numbered_anew() -> None:
    mask = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], np.uint8)
    section = InferenceSection(smallest_object_px=3)
    assert number_objects(mask, section).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert number_objects(mask, InferenceSection(smallest_object_px=2)).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]


@pytest.mark.parametrize(
    ("shape", "first", "second"), [((40, 60), (20, 20), (20, 38)), ((24, 24, 44), (12, 12, 13), (12, 12, 30))]
)
def test_two_touching_balls_are_split_and_one_is_not(shape, first, second) -> None:
    one, other = ball(shape, first, 10), ball(shape, second, 10)
    both = (one | other).astype(np.uint8)
    assert number_objects(both, COMPONENTS).max() == 1
    numbers = number_objects(both, WATERSHED)
    assert numbers.max() == 2
    assert numbers[first] != numbers[second]
    assert (numbers[one & ~other] == numbers[first]).mean() > 0.95
    assert number_objects(one.astype(np.uint8), WATERSHED).max() == 1


def test_a_ragged_border_needs_smoothing() -> None:
    mask, random = np.zeros((60, 80), np.uint8), np.random.default_rng(0)
    for column in range(10, 70):
        mask[20 + random.integers(-2, 3) : 40 + random.integers(-2, 3), column] = 1
    counts = [number_objects(mask, InferenceSection(objects="watershed", object_sigma_px=sigma)).max() for sigma in (0.0, 8.0)]
    assert counts[0] > counts[1] == 1


def test_an_object_that_the_image_cuts_is_one() -> None:
    assert number_objects(ball((40, 40), (0, 20), 15).astype(np.uint8), WATERSHED).max() == 1


@pytest.mark.parametrize("section", [COMPONENTS, WATERSHED])
def test_nothing_and_everything(section: InferenceSection) -> None:
    assert not number_objects(np.zeros((5, 6), np.uint8), section).any()
    assert (number_objects(np.ones((5, 6), np.uint8), section) == 1).all()


@settings(deadline=None)
@given(masks, sections)
def test_what_holds_for_every_mask(mask: np.ndarray, section: InferenceSection) -> None:
    numbers = number_objects(mask, section)
    whole = number_objects(mask, section.model_copy(update={"smallest_object_px": 0}))
    assert ((whole > 0) == (mask > 0)).all()  # nothing is lost but what is small
    sizes = np.bincount(whole.ravel())
    assert ((numbers > 0) == ((whole > 0) & (sizes[whole] >= section.smallest_object_px))).all()
    assert np.unique(numbers[numbers > 0]).tolist() == list(range(1, numbers.max() + 1))
    for number in range(1, numbers.max() + 1):
        assert ndimage.label(numbers == number)[1] == 1  # in one piece, joined by sides
        assert len(np.unique(mask[numbers == number])) == 1


@settings(deadline=None)
@given(masks)
def test_components_are_scipys(mask: np.ndarray) -> None:
    numbers, expected = number_objects(mask > 0, COMPONENTS), ndimage.label(mask > 0)[0]
    assert (numbers == expected).all()


def test_a_measured_object_typed_out() -> None:
    mask = np.array([[0, 0, 0, 0], [0, 2, 2, 2], [0, 0, 2, 0]], np.uint8)
    image = ArraySource(np.arange(12, dtype=np.uint8).reshape(1, 3, 4))
    probabilities = InMemory(np.full((3, 3, 4), 51, np.uint8), axes=1)
    (found,) = find_objects(InMemory(mask), COMPONENTS, image=image, probabilities=probabilities)
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
    (found,) = find_objects(InMemory(mask), COMPONENTS)
    assert (found.eccentricity, found.solidity, found.channel_means, found.mean_probability) == (None, None, (), None)
    assert found.runs.tolist() == [[1, 1, 2, 4], [1, 2, 2, 4], [2, 1, 2, 4], [2, 2, 2, 4]]
    assert found.pixels.all()
    assert found.pixels.shape == (2, 2, 2)
