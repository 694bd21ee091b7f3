"""Sizes, shared pixels and places of numbered objects: arrays counted by hand, and scikit-image's measurements."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from evaluation.metrics import overlap
from evaluation.metrics.object_pair import ObjectPair, count_pairs
from imaging.errors import DataError

MASK = np.array([[0, 5, 5], [9, 5, 0]])
REFERENCE = np.array([[3, 3, 3], [0, 3, 8]])

numbers = hnp.arrays(
    np.uint32, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.sampled_from([0, 2, 7, 2**32 - 1])
)


def test_objects_counted_by_hand() -> None:
    shared = ObjectPair(MASK, REFERENCE).shared
    assert (shared.mask.numbers.tolist(), shared.mask.pixels.tolist()) == ([5, 9], [3, 1])
    assert (shared.reference.numbers.tolist(), shared.reference.pixels.tolist()) == ([3, 8], [4, 1])
    assert (shared.mask_index.tolist(), shared.reference_index.tolist()) == ([0], [0])  # 5 meets 3, and 9 and 8 meet nothing
    assert (shared.pixels.tolist(), shared.union.tolist()) == ([3], [4])


def test_places_counted_by_hand() -> None:
    places = ObjectPair(MASK, REFERENCE).mask_places
    assert places.centres.tolist() == [[1 / 3, 4 / 3], [1, 0]]
    assert [places.box(index) for index in (0, 1)] == [(slice(0, 2), slice(1, 3)), (slice(1, 2), slice(0, 1))]


def test_distances_are_in_micrometres_where_the_spacing_is_known() -> None:
    pair = ObjectPair(MASK, REFERENCE, (2.0, 0.5))
    assert (pair.unit, pair.steps.tolist()) == ("um", [2, 0.5])
    pair = ObjectPair(MASK, REFERENCE)
    assert (pair.unit, pair.steps.tolist()) == ("px", [1, 1])


def test_without_objects_everything_is_empty() -> None:
    pair = ObjectPair(np.zeros((2, 3)), np.zeros((2, 3)))
    assert len(pair.shared.mask) == len(pair.shared.reference) == len(pair.shared.pixels) == len(pair.mask_places.centres) == 0


def test_objects_on_one_side_only_are_remarked() -> None:
    empty = np.zeros_like(MASK)
    sides = [(MASK, empty), (empty, REFERENCE), (MASK, REFERENCE), (empty, empty)]
    assert [ObjectPair(*pair).remark for pair in sides] == ["one_sided", "one_sided", "", ""]


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"mask has shape \(2, 3\), reference has shape \(3, 2\)"):
        ObjectPair(np.zeros((2, 3)), np.zeros((3, 2)))


def test_the_spacing_has_a_number_for_each_axis() -> None:
    with pytest.raises(ValueError, match="has 1 axes, the mask has 2; give one number an axis"):
        ObjectPair(MASK, REFERENCE, (1.0,))


@pytest.mark.parametrize(("value", "shown"), [(-1, "-1"), (0.5, "0.5"), (np.nan, "nan"), (2.0**32, "4.29497e")])
def test_numbers_must_be_whole_and_not_negative(value: float, shown: str) -> None:
    with pytest.raises(DataError, match=f"reference has the object numbers {shown}") as caught:
        count_pairs(np.zeros(2), np.array([0, value]))
    assert caught.value.code == "numbers_invalid"


def test_numbers_as_large_as_32_bits_cost_no_memory() -> None:
    reference = np.array([0, 2**32 - 1, 2**32 - 1, 17], np.uint32)
    pairs = count_pairs(np.array([0, 3, 3, 2**32 - 1], np.uint32), reference)
    assert pairs.reference.tolist() == [0, 17, 2**32 - 1]
    assert pairs.mask.tolist() == [0, 2**32 - 1, 3]
    assert pairs.pixels.tolist() == [1, 1, 2]


@settings(deadline=None)
@given(numbers, st.integers(1, 30))
def test_places_are_scikit_images_in_pieces_of_any_size(objects: np.ndarray, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "CHUNK_PX", piece)
        pair = ObjectPair(objects, np.zeros_like(objects))
        sizes, places = pair.shared.mask, pair.mask_places
    for index, number in enumerate(sizes.numbers):
        only = np.expand_dims((objects == number).astype(np.uint8), 0)  # scikit-image measures nothing of one axis
        expected = regionprops(only if only.ndim <= 3 else only[0])[0]
        extra = len(expected.centroid) - objects.ndim
        assert sizes.pixels[index] == expected.area
        np.testing.assert_allclose(places.centres[index], expected.centroid[extra:])
        assert places.first[index].tolist() == list(expected.bbox[: len(expected.centroid)])[extra:]
        assert (places.last[index] + 1).tolist() == list(expected.bbox[len(expected.centroid) :])[extra:]
