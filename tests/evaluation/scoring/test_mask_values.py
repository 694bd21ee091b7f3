"""What the values of masks mean, and whether masks lie on their images."""

from pathlib import Path

import numpy as np
import pytest

from datasets.cases import Case
from datasets.declared.class_values import ClassValues
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.mask_values import MaskValues, check_mask_on_image, values_of_masks
from imaging.errors import DataError

IMAGE = (Path("image.png"),)
BINARY = Case("a", IMAGE, classes=("background", "nucleus"))
THREE = Case("a", IMAGE, classes=("background", "liver", "tumour"))
GAPS = ClassValues(THREE.classes, ((0,), (2,), (4,)))
SWAPPED = ClassValues(THREE.classes, ((0,), (2,), (1,)))
REGIONS = ClassValues(THREE.classes, ((0,), (1, 2), (2,)))


def of_values(values: ClassValues) -> Case:
    return Case("a", IMAGE, classes=THREE.classes, class_values=values)


def test_indices_are_the_default() -> None:
    assert values_of_masks(THREE, [(0, 1), (0, 2)]) == MaskValues()
    assert values_of_masks(BINARY, [(0,), (0, 1)]) == MaskValues()
    assert values_of_masks(of_values(GAPS), [(0, 1), (0, 2, 1)]) == MaskValues()


def test_values_of_the_references() -> None:
    assert values_of_masks(of_values(GAPS), [(0, 2), (0, 4)]) == MaskValues(classes=GAPS)


@pytest.mark.parametrize("values", [SWAPPED, REGIONS])
def test_values_that_may_be_indices_are_those_of_the_references_with_a_note(values: ClassValues) -> None:
    decided = values_of_masks(of_values(values), [(0, 1, 2)])
    assert decided.classes == values
    assert decided.note.startswith("The masks' labels are read as the references' values: 0 (background), ")


@pytest.mark.parametrize("white", [255, 65535])
def test_white_of_two_classes(white: int) -> None:
    assert values_of_masks(BINARY, [(0,), (0, white)]).classes == ClassValues(BINARY.classes, ((0,), (white,)))


@pytest.mark.parametrize(
    ("case", "counts"),
    [(BINARY, [(0, 1, 255)]), (BINARY, [(0, 7)]), (BINARY, [(0, -1)]), (THREE, [(0, 255)]), (of_values(GAPS), [(0, 3)])],
)
def test_other_values_are_refused_with_what_is_allowed(case: Case, counts: list[tuple[int, ...]]) -> None:
    with pytest.raises(DataError, match=r"the masks hold .*; allowed are 0 \(background\)") as error:
        values_of_masks(case, counts)
    assert error.value.code == "mask_labels_unknown"


def test_objects_that_all_have_one_value_are_not_numbered() -> None:
    objects = Case("a", IMAGE, classes=("background", "object"), instances=True)
    assert values_of_masks(objects, [(0, 5), (0, 7)]).number_objects
    assert not values_of_masks(objects, [(0, 1), (0, 1)]).number_objects
    assert values_of_masks(objects, [(0, 255), (0,)]).classes == ClassValues(objects.classes, ((0,), (255,)))


def test_a_mask_needs_the_shape_of_its_image() -> None:
    image = ArraySource(np.zeros((1, 4, 6), np.uint8))
    with pytest.raises(DataError, match=r"shape \(6, 4\), its image \(4, 6\).*turn it back"):
        check_mask_on_image(ArraySource(np.zeros((1, 6, 4), np.uint8)), image)
    with pytest.raises(DataError, match=r"shape \(4, 5\), its image \(4, 6\).*nearest neighbours"):
        check_mask_on_image(ArraySource(np.zeros((1, 4, 5), np.uint8)), image)
