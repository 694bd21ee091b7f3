"""Otsu's threshold against its definition, and the side of it that is foreground."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from datasets.cases import Case
from evaluation.comparison.threshold_baseline import otsu_threshold, score_threshold_baseline
from imaging.errors import DataError


def save(folder: Path, name: str, image: np.ndarray, reference: np.ndarray) -> Case:
    Image.fromarray(image).save(folder / f"{name}.png")
    Image.fromarray(reference).save(folder / f"{name}_reference.png")
    return Case(name, (folder / f"{name}.png",), folder / f"{name}_reference.png")


def test_two_peaks_are_split_in_the_middle_of_the_valley() -> None:
    histogram = np.zeros(256, np.int64)
    histogram[[10, 110]] = 50
    assert otsu_threshold(histogram) == 59


def test_a_single_value_has_a_threshold_all_the_same() -> None:
    histogram = np.zeros(256, np.int64)
    histogram[7] = 50
    assert 0 <= otsu_threshold(histogram) < 256


@given(hnp.arrays(np.int64, 16, elements=st.integers(0, 50)).filter(lambda counts: counts.sum() > 0))
def test_no_split_has_less_variance_within_the_classes(histogram: np.ndarray) -> None:
    def within(threshold: int) -> float:
        bins = np.repeat(np.arange(16), histogram)
        parts = bins[bins <= threshold], bins[bins > threshold]
        return float(sum(((part - part.mean()) ** 2).sum() for part in parts if part.size))

    assert within(otsu_threshold(histogram)) == pytest.approx(min(within(threshold) for threshold in range(15)))


@pytest.mark.parametrize("darker", [True, False])
def test_the_better_side_is_foreground(tmp_path: Path, *, darker: bool) -> None:
    reference = np.zeros((20, 30), np.uint8)
    reference[5:10, 5:20] = 1
    image = np.where(reference == int(darker), 40, 200).astype(np.uint8)
    baseline = score_threshold_baseline([save(tmp_path, "one", np.repeat(image[..., None], 3, axis=-1), reference)])
    assert baseline.foreground == ("darker" if darker else "brighter")
    assert baseline.dice == (1.0,)
    assert baseline.pooled_dice == baseline.mean_dice == 1.0


def test_the_side_is_one_for_the_whole_data_set(tmp_path: Path) -> None:
    reference = np.zeros((20, 30), np.uint8)
    reference[:, :15] = 1
    dark, bright = np.where(reference == 1, 40, 200), np.where(reference[:10] == 1, 200, 40)
    cases = [
        save(tmp_path, "large", dark.astype(np.uint8), reference),
        save(tmp_path, "small", bright.astype(np.uint8), reference[:10]),
    ]
    baseline = score_threshold_baseline(cases)
    assert baseline.foreground == "darker"
    assert baseline.dice == (1.0, 0.0)


def test_a_constant_image_is_no_error(tmp_path: Path) -> None:
    baseline = score_threshold_baseline([save(tmp_path, "flat", np.full((8, 8), 9, np.uint8), np.eye(8, dtype=np.uint8))])
    assert 0 <= baseline.mean_dice < 1


def test_errors_name_the_case(tmp_path: Path) -> None:
    case = save(tmp_path, "odd", np.zeros((8, 8), np.uint8), np.full((8, 8), 3, np.uint8))
    with pytest.raises(DataError, match="case odd: reference has the labels 3"):
        score_threshold_baseline([case])
