"""Cases that masks are scored on, and what their references hold."""

from pathlib import Path

import numpy as np
import pytest
from mask_data import REFERENCES, write_data
from numpy.typing import NDArray
from test_evaluate import write_config

from configs.schema import load
from evaluation.scoring.scored_cases import ScoredCases, read_scored_cases
from imaging.errors import DataError


def objects(count: int) -> NDArray[np.uint8]:
    """Return an image with objects 1 .. count, one pixel each."""
    numbers = np.zeros((4, 60), np.uint8)
    numbers[1, 1 : 2 * count + 1 : 2] = np.arange(1, count + 1)
    return numbers


def scored(folder: Path, references: dict[str, NDArray[np.uint8]], split: str | None = None, **columns: str) -> ScoredCases:
    """Read a data set whose cases have the given split."""
    data = write_data(folder, references, columns={name: {"split": each} for name, each in columns.items()} or None)
    return read_scored_cases(data, split)


def test_labels_that_nobody_declares_are_classes_with_a_note(tmp_path: Path) -> None:
    cases = scored(tmp_path, REFERENCES)
    assert cases.kind.classes == ("background", "class_1", "class_2")
    assert not cases.kind.instances
    assert cases.split == "all"
    (note,) = cases.notes
    assert note.startswith(
        "Nothing declares the classes, so the labels of the references are read as the classes class_1, class_2"
    )


def test_labels_with_gaps_are_values(tmp_path: Path) -> None:
    cases = scored(tmp_path, {name: reference * np.uint8(2) for name, reference in REFERENCES.items()})
    assert cases.kind.classes == ("background", "class_2", "class_4")
    assert cases.cases[0].class_values is not None
    assert cases.cases[0].class_values.values == ((0,), (2,), (4,))


def test_a_few_cases_of_objects_are_recognised_by_the_others(tmp_path: Path) -> None:
    """Check that a test split with two or three objects a case is not read as classes."""
    counts = {"a": 2, "b": 3, "c": 25, "d": 20, "e": 14, "f": 9}
    splits = {name: "test" if name in "ab" else "train" for name in counts}
    cases = scored(tmp_path, {name: objects(count) for name, count in counts.items()}, **splits)
    assert [case.name for case in cases.cases] == ["a", "b"]
    assert [case.name for case in cases.others] == ["c", "d", "e", "f"]
    assert cases.kind.instances
    assert cases.kind.classes == ("background", "object")


def test_references_without_foreground_have_one_class(tmp_path: Path) -> None:
    assert scored(tmp_path, {"a": np.zeros((3, 3), np.uint8)}).kind.classes == ("background", "class_1")


def test_a_config_says_what_references_hold(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    kind = read_scored_cases(data, None, load(write_config(tmp_path, data))).kind
    assert kind.classes == ("background", "nucleus", "cell")
    assert (kind.instances, kind.ordered, kind.membranes) == (False, False, False)
    path = write_config(tmp_path, data)
    path.write_text(path.read_text().replace("name: nucleus", "name: Membrane"))
    kind = read_scored_cases(data, None, load(path, ["head.kind=ordinal"])).kind
    assert (kind.ordered, kind.membranes) == (True, True)


def test_a_config_of_values_is_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    path = write_config(tmp_path, data)
    overrides = ["head.kind=regression", "data.classes=[{name: depth, colour: '#ff0000'}]", "data.ignore_label=null"]
    with pytest.raises(DataError, match="regression gives a value for each pixel") as error:
        read_scored_cases(data, None, load(path, overrides))
    assert error.value.code == "values_not_scored"


def test_more_labels_than_classes_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.scoring.scored_cases.MAX_CLASSES", 2)
    with pytest.raises(DataError, match="references hold 3 labels, at most 2 are classes"):
        scored(tmp_path, REFERENCES)


def test_cases_without_a_reference_are_left_out_with_a_note(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    table = data / "cases.csv"
    table.write_text(table.read_text().replace("references/1.png", ""))
    cases = read_scored_cases(data)
    assert [case.name for case in cases.cases] == ["a"]
    assert cases.notes[0] == "1 of 2 cases have no reference and are left out."
    table.write_text(table.read_text().replace("references/0.png", ""))
    with pytest.raises(DataError, match="none of the 2 cases has a reference"):
        read_scored_cases(data)
