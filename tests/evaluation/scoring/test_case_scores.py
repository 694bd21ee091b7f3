"""Scores of one case from its mask and reference."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from configs.inference_section import InferenceSection
from datasets.cases import Case
from datasets.references import open_reference
from evaluation.metrics.overlap import overlaps
from evaluation.scoring.array_source import ArraySource
from evaluation.scoring.case_scores import CaseMask, CaseScorer, score_case
from evaluation.scoring.selection import ReferenceKind, Selection, select_metrics
from evaluation.scoring.whole_case import connected_parts, model_objects
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


def test_a_mask_of_overlapping_classes_is_refused_where_the_reference_has_none(tmp_path: Path) -> None:
    case = case_of(np.zeros((4, 5), np.uint8), tmp_path)
    with pytest.raises(DataError, match="mask has 2 channels or layers") as error:
        values_of(case, np.zeros((2, 4, 5), np.uint8))
    assert error.value.code == "mask_channels"


def test_a_label_without_a_class_is_refused(tmp_path: Path) -> None:
    case = replace(case_of(np.zeros((4, 5), np.uint8), tmp_path), name="other")
    with pytest.raises(DataError, match="case other: mask") as error:
        score_case(case, CaseMask(ArraySource(np.full((1, 4, 5), 7, np.uint8))), SELECTION)
    assert error.value.code == "label_unknown"


def random_blobs(seed: int, shape: tuple[int, ...], most: int) -> NDArray[np.uint8]:
    """Return labels up to `most` in blobs of some pixels."""
    noise = gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    edges = np.quantile(noise, np.linspace(0.4, 1, most + 1)[:-1])
    return np.digitize(noise, edges).astype(np.uint8)


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("instances", [False, True])
def test_scores_do_not_depend_on_bands(tmp_path: Path, rows: int, instances: bool) -> None:
    mask, reference = random_blobs(1, (40, 30), 2), random_blobs(2, (40, 30), 2)
    reference[5:9, 5:9] = 255
    case = replace(case_of(reference, tmp_path, ignore_label=255), instances=instances)
    classes = CLASSES[:2] if instances else CLASSES
    kind = ReferenceKind(classes, instances=instances, ordered=True, membranes=True, probabilities=True)
    selection = select_metrics(kind, ["all"])
    probabilities = np.random.default_rng(3).dirichlet(np.ones(len(classes)), (40, 30)).transpose(2, 0, 1)
    labels = (mask > 0).astype(np.uint8) if instances else mask
    whole_mask = CaseMask(ArraySource(labels[None]), ArraySource(mask[None]), ArraySource(probabilities))
    whole = score_case(case, whole_mask, selection)
    with open_reference(case, numbered=instances) as source:
        scorer = CaseScorer(case, source, selection, None)
        for start in range(0, 40, rows):
            band = (slice(start, min(40, start + rows)), slice(0, 30))
            scorer.add(
                labels[None][:, band[0]],
                source.read(band),
                objects=mask[None][:, band[0]],
                probabilities=probabilities[:, band[0]],
            )
        in_bands = tuple(scorer.scores())
    assert {score.metric for score in whole} == set(selection.names)
    assert [replace(score, value=0) for score in in_bands] == [replace(score, value=0) for score in whole]
    np.testing.assert_allclose([score.value for score in in_bands], [score.value for score in whole], rtol=1e-12)


def test_neither_structures_nor_objects_reach_into_ignored_pixels(tmp_path: Path) -> None:
    """Check that scores are those of arrays that are empty there, whatever the mask says."""
    mask, reference = random_blobs(1, (40, 30), 2), random_blobs(2, (40, 30), 2)
    is_ignored = np.zeros((40, 30), np.bool_)
    is_ignored[5:20, 5:20] = True
    selection = select_metrics(ReferenceKind(CLASSES), ["hd95", "nsd", "pq"])
    emptied = case_of(np.where(is_ignored, 0, reference).astype(np.uint8), tmp_path)
    expected = values_of(emptied, np.where(is_ignored, 0, mask).astype(np.uint8), selection)
    (tmp_path / "ignored").mkdir()
    ignored = case_of(np.where(is_ignored, 255, reference).astype(np.uint8), tmp_path / "ignored", ignore_label=255)
    assert values_of(ignored, mask, selection) == expected


def test_one_sided_structures_and_cases_that_are_too_large_have_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, reference = np.zeros((2, 6, 8), np.uint8)
    mask[1:3, 1:3] = 1
    case = case_of(reference, tmp_path)
    selection = select_metrics(ReferenceKind(CLASSES[:2]), ["hd95", "pq"])

    def rows() -> list[tuple[float, str, str]]:
        return [
            (score.value, score.unit, score.remark) for score in score_case(case, CaseMask(ArraySource(mask[None])), selection)
        ]

    assert rows() == [(10, "px", "one_sided"), (0, "", "one_sided")]
    monkeypatch.setattr("evaluation.scoring.case_scores.MOST_HELD_PX", 47)
    np.testing.assert_equal(rows(), [(np.nan, "px", "too_large"), (np.nan, "", "too_large")])


def test_surfaces_agree_within_a_pixel_unless_a_tolerance_is_given(tmp_path: Path) -> None:
    mask, reference = np.zeros((2, 9, 9), np.uint8)
    reference[2:5, 2:5] = 1
    mask[2:5, 3:6] = 1
    kind, case = ReferenceKind(CLASSES[:2]), case_of(reference, tmp_path)
    assert values_of(case, mask, select_metrics(kind, ["nsd"])) == {("nsd", "nucleus"): 1}
    assert values_of(case, mask, select_metrics(kind, ["nsd"], 0.5))["nsd", "nucleus"] < 1


def test_objects_of_a_model_are_found_as_its_config_says() -> None:
    two_discs = np.zeros((20, 34), np.bool_)
    rows, columns = np.ogrid[:20, :34]
    for centre in (10, 23):
        two_discs |= (rows - 10) ** 2 + (columns - centre) ** 2 <= 64
    assert connected_parts(two_discs).max() == 1
    numbers = model_objects(InferenceSection(objects="watershed", object_sigma_px=1))(two_discs)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert np.array_equal(numbers > 0, two_discs)
