"""The parts of the studies: which cases are held out, in which order training cases are added, and the graded images."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import schema
from configs.schema import Config, ConfigError
from datasets.cases import Case
from evaluation.scoring.array_source import ArraySource
from imaging.errors import DataError
from tests.phantom import write_slide_dataset
from training.data.splitting import split_cases
from training.studies.case_number import case_counts, order_cases
from training.studies.held_out import UNUSED, divide_cases
from training.studies.shift import select_shifts, shift_image
from transforms.shifts import SHIFTS


def config_of(folder: Path, *splits: str) -> Config:
    data = write_slide_dataset(folder, cases=len(splits), shape=(24, 24), splits=splits)
    return schema.load(Path("configs/histology_unet.yaml"), [f"data.path={data.parent}"])


def names(cases: tuple[Case, ...]) -> set[str]:
    return {case.name for case in cases}


@pytest.mark.parametrize(
    ("splits", "held_out", "val"),
    [
        (("train", "train", "val", "test"), 1, 1),  # as the data set says
        (("train", "train", "train", "test", "test"), 2, 1),  # val is drawn
        (("train", "train", "train", "train", "train", "val", "val"), 2, 1),  # val is held out
        (("", "", "", "", ""), 1, 1),
    ],
    ids=["all", "no val", "no test", "none"],
)
def test_no_run_sees_the_held_out_cases(tmp_path: Path, splits: tuple[str, ...], held_out: int, val: int) -> None:
    config = config_of(tmp_path, *splits)
    cases = divide_cases(config)
    assert (len(cases.held_out), len(cases.val)) == (held_out, val)
    parts = [names(part) for part in (cases.train, cases.val, cases.held_out)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(splits)
    if "test" in splits or "val" in splits:
        assert {case.split for case in cases.held_out} == {"test" if "test" in splits else "val"}


def test_a_runs_table_of_splits_gives_it_these_cases_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path, *["train"] * 5, "val")
    cases = divide_cases(config)
    one = cases.train[:1]
    table = tmp_path / "splits.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("case", "split", "fold"), *((name, split, "") for name, split in cases.splits(one).items())]
        )
    splits = split_cases(config.data, 0, splits_file=table)
    assert names(splits.train) == names(one)
    assert names(splits.val) == names(cases.val)
    assert list(cases.splits(one).values()).count(UNUSED) == len(cases.train) - 1 + len(cases.held_out)


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="come from 2; add cases of other patients, or give the cases splits") as error:
        divide_cases(config_of(tmp_path, "", ""))
    assert error.value.code == "groups_too_few"


@pytest.mark.parametrize(
    ("available", "counts"),
    [(1, (1,)), (2, (1, 2)), (7, (1, 2, 5, 7)), (10, (1, 2, 5, 10)), (156, (1, 2, 5, 10, 20, 50, 100, 156))],
)
def test_the_numbers_of_cases(available: int, counts: tuple[int, ...]) -> None:
    assert case_counts(available) == counts


@given(groups=st.lists(st.sampled_from("abc"), min_size=1, max_size=12), seed=st.integers(0, 5))
def test_few_cases_come_from_many_groups(groups: list[str], seed: int) -> None:
    cases = tuple(Case(f"{group}{number}", (), None, group=group) for number, group in enumerate(groups))
    ordered = order_cases(cases, seed)
    assert sorted(case.name for case in ordered) == sorted(case.name for case in cases)
    assert {case.group for case in ordered[: len(set(groups))]} == set(groups)
    assert order_cases(cases[::-1], seed) == ordered  # the order of the table does not matter


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32], ids=str)
def test_a_shifted_image_keeps_its_type_and_its_spacing(dtype: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 200, (3, 16, 18)).astype(dtype)
    for shift in SHIFTS:
        shifted = shift_image(ArraySource(pixels, (0.5, 0.5)), shift, shift.strengths[-1])
        assert (shifted.dtype, shifted.shape, shifted.spacing_um) == (np.dtype(dtype), (16, 18), (0.5, 0.5))
        assert not np.array_equal(shifted.read((slice(0, 16), slice(0, 18))), pixels)


def test_brightness_is_a_share_of_the_range() -> None:
    by_name: Mapping[str, Any] = {shift.name: shift for shift in SHIFTS}
    whole = (slice(0, 1), slice(0, 3))
    picture = ArraySource(np.array([[[0, 100, 250]]], np.uint8))
    np.testing.assert_array_equal(shift_image(picture, by_name["brightness"], 0.2).read(whole), [[[51, 151, 255]]])
    scan = ArraySource(np.array([[[-100.0, 0, 300]]], np.float32))
    np.testing.assert_allclose(shift_image(scan, by_name["brightness"], 0.1).read(whole), [[[-60, 40, 340]]], rtol=1e-5)


def test_shifts_by_name() -> None:
    assert [shift.name for shift in select_shifts((), 3, 2)] == [shift.name for shift in SHIFTS]
    assert [shift.name for shift in select_shifts(("noise", "blur", "noise"), 1, 3)] == ["noise", "blur"]
    with pytest.raises(ConfigError, match=r"--shifts: stain doesn't suit these images; choose from brightness, blur, noise"):
        select_shifts(("stain",), 1, 3)
    with pytest.raises(ConfigError, match="--shifts: fog is unknown"):
        select_shifts(("fog",), 3, 2)
