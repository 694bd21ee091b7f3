"""`overtile cases`: the table of any layout, with groups and splits that divide none."""

import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from datasets.cases import read_cases
from datasets.discovery.table_writing import parse_shares
from evaluation.comparison.held_out import select_held_out_cases
from overtile import app
from tests.phantom import write_slide_dataset

CASES, PATIENTS = 20, 8


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def words_of(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder of images and masks, without a table, whose names begin with the patient."""
    folder = write_slide_dataset(tmp_path / "data", cases=CASES, shape=(16, 20)).parent
    (folder / "cases.csv").unlink()
    for path in folder.glob("*/*.png"):
        number = int(path.stem.removeprefix("case"))
        path.rename(path.with_stem(f"pat{number % PATIENTS}_slide{number}"))
    return folder


def test_splits_by_group(data: Path) -> None:
    table = data / "cases.csv"
    words = ("cases", data, "-o", table, "--split", "train=0.7,val=0.2,test=0.1", "--group-pattern", "^([^_]+)_")
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    assert f"{table}: 20 cases (" in words_of(result)
    assert f"8 groups Next: overtile inspect {data}" in words_of(result)
    cases = read_cases(data)
    assert {(case.group, case.split) for case in cases} == {
        (case.group, case.split) for case in cases if case.group == case.name[:4]
    }
    assert len({(case.group, case.split) for case in cases}) == PATIENTS
    counts = Counter(case.split for case in cases)
    assert [abs(counts[split] - share * CASES) <= 2 for split, share in (("train", 0.7), ("val", 0.2), ("test", 0.1))] == [
        True
    ] * 3
    assert run("inspect", data).exit_code == 0
    assert len(select_held_out_cases(data, None)[1]) == counts["test"]  # what overtile compare asks for
    text = table.read_text()
    table.unlink()
    assert run(*words).exit_code == 0
    assert table.read_text() == text
    others = set()
    for seed in range(1, 5):
        table.unlink()
        assert run(*words, "--seed", seed).exit_code == 0
        others.add(table.read_text())
    assert others - {text}


def test_every_split_has_a_group(data: Path) -> None:
    assert (
        run(
            "cases", data, "-o", data / "cases.csv", "--split", "train=98,val=1,test=1", "--group-pattern", "pat[0-2]|slide"
        ).exit_code
        == 0
    )
    counts = Counter((case.split, case.group) for case in read_cases(data))
    assert {split for split, _ in counts} == {"train", "val", "test"}
    assert len(counts) == 4


def test_a_table_keeps_its_other_columns_and_gets_splits(data: Path) -> None:
    lines = [
        f"{path.stem},images/{path.name},{'references/' + path.name if number else ''},{number},x"
        for number, path in enumerate(sorted((data / "images").iterdir()))
    ]
    (data / "cases.csv").write_text("\n".join(["case,image,reference,age,spacing_um", *lines]).replace(",x", ",0.5"))
    result = run("cases", data, "-o", data / "new.csv", "--split", "train=0.8,val=0.2")
    assert result.exit_code == 0, result.stderr
    assert "1 of 20 cases have no reference, and are left out of the table" in words_of(result)
    assert f"It is used from {data / 'cases.csv'}, since its paths are relative to that folder; put it there" in words_of(
        result
    )
    (data / "new.csv").replace(data / "cases.csv")
    cases = read_cases(data)
    assert (len(cases), cases[0].metadata, cases[0].spacing_um) == (19, {"age": "1"}, (0.5,))
    assert Counter(case.split for case in cases) == {"train": 15, "val": 4}


def test_without_options_the_layout_is_written_as_it_is(data: Path) -> None:
    before = read_cases(data)
    result = run("cases", data, "-o", data / "cases.csv")
    assert "20 cases (20 no split), no groups" in words_of(result)
    assert (data / "cases.csv").read_text().splitlines()[0] == "case,image,reference"
    assert read_cases(data) == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--split", "train=0.7,validate=0.3"), 2, "--split: 'validate=0.3': give each of train, val, test once"),
        (("--split", "train=0.7,val=x"), 2, "--split: could not convert"),
        (("--split", "train=1,val=0"), 2, "--split: 'train=1,val=0': a share is not above 0"),
        (("--group-pattern", "("), 2, "--group-pattern: '(' is no regular expression"),
        (("--group-pattern", "patient"), 3, "'patient' matches neither name nor path of 20 cases: pat0_slide0"),
        (
            ("--group-pattern", "pat", "--split", "train=1,val=1"),
            3,
            "the 20 cases come from 1 groups, and 2 splits need as many",
        ),
        (("--images", "images"), 2, "--images and --references: give both, or neither"),
        (("--images", "x", "--references", "masks"), 2, "x: no such folder; name folders in"),
    ],
)
def test_options_that_are_wrong(data: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = run("cases", data, "-o", data / "cases.csv", *options)
    assert (result.exit_code, message in words_of(result)) == (code, True), result.stderr
    assert not (data / "cases.csv").exists()


def test_no_table_is_replaced(data: Path) -> None:
    (data / "other.csv").write_text("mine")
    result = run("cases", data, "-o", data / "other.csv")
    assert result.exit_code == 2
    assert "exists, and may have been edited; choose another name or remove it" in words_of(result)
    assert (data / "other.csv").read_text() == "mine"


def test_shares_are_brought_to_one() -> None:
    assert parse_shares("train=70%, Val=20 ,test=10") == {"train": 0.7, "val": 0.2, "test": 0.1}
