"""Objects of a mask: the same whatever the bands, hand-counted shapes, and what holds for every mask."""

from dataclasses import asdict

import numpy as np
import pytest
from array_source import ArraySource
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label as number_pieces

from configs.inference_section import InferenceSection
from inference.objects.arrays import InMemory
from inference.objects.find import find_objects, number_objects
from inference.objects.image_object import ImageObject

COMPONENTS = InferenceSection()
WATERSHED = InferenceSection(objects="watershed")

masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=st.integers(0, 2))
sections = st.builds(
    InferenceSection,
    objects=st.sampled_from(["components", "watershed"]),
    object_sigma_px=st.sampled_from([0.0, 1.0, 2.0]),
    smallest_object_px=st.integers(0, 4),
    largest_hole_px=st.integers(0, 3),
    opening_radius_px=st.integers(0, 1),
)


def drawn(*rows: str) -> np.ndarray:
    """Return a mask of rows of digits; a point is background."""
    return np.array([[int(pixel.replace(".", "0")) for pixel in row] for row in rows], np.uint8)


def found_in(mask: np.ndarray, section: InferenceSection = COMPONENTS, band_rows: int | None = None) -> list[ImageObject]:
    return list(find_objects(InMemory(mask), section, band_rows=band_rows))


def facts(found: ImageObject) -> dict[str, object]:
    return {key: value.tolist() if key == "runs" else value for key, value in asdict(found).items()}


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(shape)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) <= radius**2


def blobs(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return a mask of two classes with ragged, branching, touching and nested pieces."""
    random = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(random.standard_normal(shape), sigma) for sigma in (2, 3)]
    mask = (smooth[0] > 0.02).astype(np.uint8)
    mask[(smooth[1] > 0.04) & (mask == 0)] = 2
    mask[random.random(shape) < 0.01] = 0
    return mask


@settings(deadline=None, max_examples=200)
@given(masks, sections, st.integers(1, 9))
def test_objects_do_not_depend_on_the_bands(mask: np.ndarray, section: InferenceSection, band_rows: int) -> None:
    assert list(map(facts, found_in(mask, section, band_rows))) == list(map(facts, found_in(mask, section)))


@pytest.mark.parametrize("objects", ["components", "watershed"])
@pytest.mark.parametrize("shape", [(150, 130), (70, 24, 26)])
@pytest.mark.parametrize("cleanup", [{}, {"smallest_object_px": 12, "largest_hole_px": 9, "opening_radius_px": 1}])
def test_bands_of_1_7_and_64_rows_give_the_objects_of_the_whole_with_all_that_is_measured(objects, shape, cleanup) -> None:
    section = InferenceSection(objects=objects, object_sigma_px=1.5, **cleanup)
    for seed in range(3):
        mask, random = blobs(shape, seed), np.random.default_rng(seed)
        image = ArraySource(random.integers(0, 2**16, (2, *shape)).astype(np.uint16))
        probabilities = InMemory(random.random((3, *shape), np.float32), axes=1)
        whole, *others = [
            list(find_objects(InMemory(mask), section, image=image, probabilities=probabilities, band_rows=rows))
            for rows in (shape[0], 1, 7, 64)
        ]
        assert len(whole) > 5
        assert [found.number for found in whole] == list(range(1, len(whole) + 1))
        for other in others:
            for one, same in zip(whole, other, strict=True):
                assert one.runs.tolist() == same.runs.tolist()
                assert (one.number, one.label, one.box, one.area_px) == (same.number, same.label, same.box, same.area_px)
                assert one.channel_means == same.channel_means
                assert one.channel_deviations == same.channel_deviations
                assert one.mean_probability == pytest.approx(same.mean_probability, rel=1e-12)


def test_objects_are_numbered_by_their_last_rows_then_by_their_first_pixels() -> None:
    mask = drawn(
        "1.2.1",
        "1...1",
        "1.1.1",
        "....1",
    )
    assert number_objects(mask, COMPONENTS).tolist() == [[2, 0, 1, 0, 4], [2, 0, 0, 0, 4], [2, 0, 3, 0, 4], [0, 0, 0, 0, 4]]
    assert number_objects(mask, COMPONENTS).dtype == np.uint32


def test_pieces_that_meet_at_a_corner_or_in_another_label_are_apart() -> None:
    mask = drawn("11.1", "..1.", "211.", "2...")
    assert number_objects(mask, COMPONENTS).tolist() == [[1, 1, 0, 2], [0, 0, 3, 0], [4, 3, 3, 0], [4, 0, 0, 0]]


@pytest.mark.parametrize("band_rows", [1, 2, 3, 100])
def test_arms_that_join_in_their_last_row_are_one_object(band_rows: int) -> None:
    arms = drawn("1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1", "1111111")
    (comb,) = found_in(arms, band_rows=band_rows)
    assert comb.area_px == 23
    assert comb.pixels.tolist() == arms.astype(bool).tolist()
    assert len(found_in(arms[:-1], band_rows=band_rows)) == 4


@pytest.mark.parametrize("band_rows", [1, 2, 5, 100])
def test_a_ring_and_its_core_are_two_objects(band_rows: int) -> None:
    core, ring = found_in(drawn("11111", "1...1", "1.2.1", "1...1", "11111"), band_rows=band_rows)
    assert (core.label, core.area_px, core.centroid_px) == (2, 1, (2, 2))
    assert (ring.label, ring.area_px, ring.centroid_px) == (1, 16, (2, 2))
    assert ring.solidity == 16 / 25


@pytest.mark.parametrize("band_rows", [1, 2, 7, 100])
def test_two_spirals_stay_apart(band_rows: int) -> None:
    mask = drawn(
        "1111111111",
        "1........1",
        "1.222222.1",
        "1.2....2.1",
        "1.2.11.2.1",
        "1.2..1...1",
        "1.2..11111",
        "1.2.......",
        "1.22222222",
        "1.........",
    )
    assert [(found.label, found.area_px) for found in found_in(mask, band_rows=band_rows)] == [(2, 21), (1, 32)]


def test_an_object_that_crosses_four_bands_is_one() -> None:
    mask = np.zeros((256, 40), np.uint8)
    mask[10:250, 5:9] = 1
    mask[249, 9:30] = 1
    (found,) = found_in(mask, band_rows=64)
    assert found.area_px == 240 * 4 + 21
    assert found.box == (slice(10, 250), slice(5, 30))


def test_touching_classes_are_two_objects_of_their_labels() -> None:
    first, second = found_in(drawn("1122", "1122"), band_rows=1)
    assert (first.label, first.box) == (1, (slice(0, 2), slice(0, 2)))
    assert (second.label, second.box) == (2, (slice(0, 2), slice(2, 4)))


def test_objects_of_neighbouring_slices_are_one_and_the_last_column_meets_no_next_row() -> None:
    mask = np.zeros((3, 2, 3), np.uint8)
    mask[:, 1, 2] = 1
    mask[1, 0, 0] = 1  # follows (0, 1, 2) in memory, but isn't beside it
    assert [found.area_px for found in found_in(mask, band_rows=1)] == [1, 3]


def test_small_objects_are_left_out_and_the_others_numbered_without_gaps() -> None:
    mask = drawn("1.11.111")
    assert number_objects(mask, InferenceSection(smallest_object_px=3)).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]
    assert number_objects(mask, InferenceSection(smallest_object_px=2)).tolist() == [[0, 0, 1, 1, 0, 2, 2, 2]]


def test_numbers_are_written_into_an_array_and_a_model_of_peaks_numbers_components() -> None:
    mask, numbers = drawn("11.1", "2..1"), np.zeros((2, 4), np.uint32)
    peaks = InferenceSection(objects="peaks", peak_radius_um=3)
    assert number_objects(mask, peaks, numbers) is numbers
    assert numbers.tolist() == [[1, 1, 0, 2], [3, 0, 0, 2]]


def test_a_mask_without_and_one_of_nothing_but_objects() -> None:
    for section in (COMPONENTS, WATERSHED):
        assert found_in(np.zeros((5, 6), np.uint8), section) == []
        assert (number_objects(np.ones((5, 6), np.uint8), section) == 1).all()


@settings(deadline=None)
@given(masks, st.integers(0, 4), st.sampled_from([0.0, 1.0, 2.0]))
def test_what_holds_for_every_mask(mask: np.ndarray, smallest_px: int, sigma_px: float) -> None:
    section = InferenceSection(objects="watershed", object_sigma_px=sigma_px)
    whole = number_objects(mask, section)
    numbers = number_objects(mask, section.model_copy(update={"smallest_object_px": smallest_px}))
    assert ((whole > 0) == (mask > 0)).all()  # nothing is lost but what is small
    sizes = np.bincount(whole.ravel())
    assert ((numbers > 0) == ((whole > 0) & (sizes[whole] >= smallest_px))).all()
    assert np.unique(numbers[numbers > 0]).tolist() == list(range(1, numbers.max() + 1))
    for number in range(1, numbers.max() + 1):
        assert ndimage.label(numbers == number)[1] == 1  # in one piece, joined by sides
        assert len(np.unique(mask[numbers == number])) == 1


@settings(deadline=None)
@given(masks)
def test_components_are_scikit_images(mask: np.ndarray) -> None:
    numbers, expected = number_objects(mask, COMPONENTS), number_pieces(mask, connectivity=1)
    assert numbers.max() == expected.max()
    assert len(np.unique(np.stack([numbers.ravel(), expected.ravel()]), axis=1).T) == len(np.unique(expected))
