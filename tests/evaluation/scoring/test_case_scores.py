"""Scores of one case from its mask and reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datasets.cases import Case
from evaluation.metrics.overlap import overlaps
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import CaseMask, score_case
from evaluation.scoring.selection import ReferenceKind, Selection, select_metrics
from imaging.errors import DataError

CLASSES = ("background", "nucleus", "stroma")
SELECTION = select_metrics(ReferenceKind(CLASSES), ["dice", "iou"])


def case_of(reference: NDArray[np.uint8], folder: Path, *more: NDArray[np.uint8], ignore_label: int | None = None) -> Case:
    """Write references, and return a case that has them."""
    paths = []
    for index, array in enumerate((reference, *more)):
        paths.append(folder / f"reference{index}.png")
        Image.fromarray(array).save(paths[-1])
    return Case(
        "case 1",
        (paths[0],),
        paths[0],
        "patient",
        other_references=tuple(paths[1:]),
        classes=CLASSES,
        ignore_label=ignore_label,
    )


def values_of(case: Case, mask: NDArray[np.uint8], selection: Selection = SELECTION) -> dict[tuple[str, str], float]:
    scores = score_case(case, CaseMask(ArraySource(mask if mask.ndim == 3 else mask[None])), selection)
    assert {score.case for score in scores} == {"case 1"}
    assert {score.group for score in scores} == {"patient"}
    return {(score.metric, score.class_name): score.value for score in scores}


def test_scores_equal_those_of_the_arrays(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    mask, reference = (generator.integers(0, 3, (40, 30)).astype(np.uint8) for _ in range(2))
    expected = overlaps(mask, reference, 3)
    values = values_of(case_of(reference, tmp_path), mask)
    assert values == {
        ("dice", "nucleus"): expected.dice[0],
        ("dice", "stroma"): expected.dice[1],
        ("iou", "nucleus"): expected.iou[0],
        ("iou", "stroma"): expected.iou[1],
    }


def test_ignored_pixels_count_nowhere(tmp_path: Path) -> None:
    reference = np.array([[1, 1, 255, 255], [0, 0, 0, 255]], np.uint8)
    mask = np.array([[1, 0, 1, 1], [0, 0, 0, 2]], np.uint8)
    values = values_of(case_of(reference, tmp_path, ignore_label=255), mask)
    assert values["dice", "nucleus"] == pytest.approx(2 / 3)
    assert np.isnan(values["dice", "stroma"])


@pytest.mark.parametrize("as_labels", [False, True])
def test_overlapping_classes_are_scored_one_by_one(tmp_path: Path, as_labels: bool) -> None:
    nucleus, stroma = np.array([[9, 9, 0, 0]], np.uint8), np.array([[0, 9, 9, 9]], np.uint8)
    mask = np.array([[1, 0, 2, 2]], np.uint8) if as_labels else np.array([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], np.uint8)
    values = values_of(case_of(nucleus, tmp_path, stroma), mask)
    assert values["iou", "nucleus"] == (1 / 2 if as_labels else 1)
    assert values["iou", "stroma"] == pytest.approx(2 / 3)


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    case = case_of(np.zeros((4, 5), np.uint8), tmp_path)
    with pytest.raises(DataError, match="case case 1: mask has shape \\(5, 4\\), reference has shape \\(4, 5\\)") as error:
        values_of(case, np.zeros((5, 4), np.uint8))
    assert error.value.code == "shape_mismatch"


def test_a_label_without_a_class_is_refused(tmp_path: Path) -> None:
    case = replace(case_of(np.zeros((4, 5), np.uint8), tmp_path), name="other")
    with pytest.raises(DataError, match="case other: mask") as error:
        score_case(case, CaseMask(ArraySource(np.full((1, 4, 5), 7, np.uint8))), SELECTION)
    assert error.value.code == "label_unknown"
