"""Splits: whole patients, folds of even size and similar contents, the same for any order of cases, and read as written."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.cases import Case
from datasets.splits import assign_splits, check_groups, draw_folds, read_splits, write_splits
from imaging.errors import DataError


def case(name: str, group: str | None = None, split: str | None = None) -> Case:
    return Case(name, (Path("x.png"),), Path("y.png"), group, split)


GROUPED = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(lambda groups: len(set(groups)) > 1)


@given(GROUPED, st.integers(2, 6), st.integers(0, 2**31 - 1), st.randoms(use_true_random=False))
def test_folds(groups: list[int], folds: int, seed: int, random: object) -> None:
    cases = [case(f"case{number}", f"patient{group}") for number, group in enumerate(groups)]
    fold_of = draw_folds(cases, folds, seed)
    assert set(fold_of) == {one.name for one in cases}
    groups_of = {fold: {one.group for one in cases if fold_of[one.name] == fold} for fold in set(fold_of.values())}
    assert sum(map(len, groups_of.values())) == len(set(groups))  # none is in two
    sizes = [len(members) for members in groups_of.values()]
    assert len(sizes) == min(folds, len(set(groups)))
    assert max(sizes) - min(sizes) <= 1
    shuffled = list(cases)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert draw_folds(shuffled, folds, seed) == fold_of


def test_folds_hold_alike() -> None:
    cases = [case(f"case{number:02d}") for number in range(40)]
    counts = {one.name: {0: 900, 1: 100} for one in cases}
    for number in range(5):
        counts[f"case{number * 7:02d}"] = {0: 900, 1: 50, 2: 50}  # a rare class
    for number in range(1, 40, 7):
        counts[f"case{number:02d}"] = {0: 1000}  # nothing at all
    for seed in range(20):
        fold_of = draw_folds(cases, 5, seed, counts)
        assert sorted(fold_of[f"case{number * 7:02d}"] for number in range(5)) == [0, 1, 2, 3, 4]
        empty = Counter(fold_of[f"case{number:02d}"] for number in range(1, 40, 7))
        assert max(empty.values()) - min(empty.values()) <= 1


def test_folds_hold_small_and_large_foregrounds() -> None:
    cases = [case(f"case{number:02d}") for number in range(20)]
    counts = {one.name: {0: 1000 - 40 * number, 1: 40 * number + 1} for number, one in enumerate(cases)}
    fold_of = draw_folds(cases, 4, 0, counts)
    means = [np.mean([counts[one.name][1] for one in cases if fold_of[one.name] == fold]) for fold in range(4)]
    assert max(means) < 1.5 * min(means)


def test_another_seed_draws_otherwise() -> None:
    cases = [case(f"case{number}") for number in range(30)]
    assert draw_folds(cases, 5, 0) != draw_folds(cases, 5, 1)


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(DataError) as caught:
        draw_folds([case("a", "p"), case("b", "p")], 5, 0)
    assert caught.value.code == "groups_too_few"
    assert caught.value.message == (
        "the 2 cases come from 1 group, but training and validation need 2; add cases of another patient"
    )


def test_the_table_s_splits_stay() -> None:
    cases = [case("a", split="test"), case("b"), case("c")]
    assert assign_splits(cases, {"b": 0, "c": 1}) == {"a": "test", "b": "val", "c": "train"}
    assert assign_splits(cases, {"b": 0, "c": 1}, fold=1) == {"a": "test", "b": "train", "c": "val"}


def test_groups_in_several_splits() -> None:
    cases = [case("a", "p", "train"), case("b", "p", "test"), case("c", "q", "test"), case("d", "q"), case("e", "r")]
    with pytest.raises(DataError) as caught:
        check_groups(cases)
    assert caught.value.code == "group_in_both_splits"
    assert caught.value.message == (
        "groups p are in train and in test, groups q are in test and in train or val; put every case of a group into one split"
    )
    check_groups(cases[3:])


@given(st.dictionaries(st.text(st.characters(exclude_categories=["C"]), min_size=1), st.sampled_from(["train", "val"])))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, splits: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    write_splits(path, splits, {})
    assert read_splits(path, [case(name) for name in splits]) == splits


def test_the_table_of_splits(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.csv", {"b": "val", "=1+1": "train"}, {"b": 0, "=1+1": 3})
    assert (tmp_path / "splits.csv").read_text().split() == ["case,split,fold", "'=1+1,train,3", "b,val,0"]


def test_splits_of_other_cases(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.csv", {"a": "train", "b": "val"}, {})
    with pytest.raises(DataError) as caught:
        read_splits(tmp_path / "splits.csv", [case("b"), case("c")])
    assert caught.value.code == "splits_changed"
    assert "was written for other cases: a, c were added or removed since; choose another run.name" in caught.value.message


@pytest.mark.parametrize("content", [b"case\na\n", b"case,split\n\xff,train\n"])
def test_splits_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "splits.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_splits(tmp_path / "splits.csv", [])
    assert caught.value.code == "splits_unreadable"
    assert "can't be read; restore it, or choose another run.name to draw new splits" in caught.value.message
