"""`overtile compare` by the real command line: reports and numbers of bundles, folders, objects, and refusals."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_samples import UNET, WINDOW, MakeBundle
from PIL import Image
from typer.testing import CliRunner

from datasets.cases import read_cases
from overtile import app


def compare(out: Path, *arguments: Path | str) -> Any:
    return CliRunner().invoke(app, ["compare", *map(str, arguments), "-o", str(out / "report.html")])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of 11 patients with 2 cases each, whose references number 14 to 35 dark rectangles."""
    folder = tmp_path_factory.mktemp("numbered")
    (folder / "images").mkdir()
    (folder / "references").mkdir()
    lines = ["case,image,reference,group,split"]
    for case in range(22):
        numbers = np.zeros((48, 48), np.uint8)
        for number in range(1, 15 + case):
            row, column = 1 + 8 * ((number - 1) // 6), 1 + 8 * ((number - 1) % 6)
            numbers[row : row + 4 + number % 3, column : column + 6] = number
        Image.fromarray(np.where(numbers[..., None] > 0, 60, 220).astype(np.uint8).repeat(3, axis=2)).save(
            folder / f"images/case{case}.png"
        )
        Image.fromarray(numbers).save(folder / f"references/case{case}.png")
        lines.append(f"case{case},images/case{case}.png,references/case{case}.png,patient {case // 2},test")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def perfect(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the references as masks."""
    folder = tmp_path_factory.mktemp("masks") / "perfect"
    folder.mkdir()
    for case in read_cases(data):
        assert case.reference is not None
        (folder / f"{case.name}.png").write_bytes(case.reference.read_bytes())
    return folder


@pytest.fixture(scope="module")
def worse(data: Path, perfect: Path) -> Path:
    """Return a folder with masks that miss some objects, more of them in some cases."""
    folder = perfect.with_name("worse")
    folder.mkdir()
    for index, case in enumerate(read_cases(data)):
        numbers = np.asarray(Image.open(perfect / f"{case.name}.png")).astype(np.uint16)
        Image.fromarray(np.where(numbers % 3 == index % 3, 0, numbers).astype(np.uint16)).save(folder / f"{case.name}.png")
    return folder


def test_folders_of_numbered_objects_are_ranked_by_panoptic_quality_over_patients(
    tmp_path: Path, data: Path, perfect: Path, worse: Path
) -> None:
    result = compare(tmp_path, worse, perfect, "--data", data)
    assert result.exit_code == 0, result.output
    assert "Perfect is better than worse: mean PQ 1.000 against" in result.output
    assert "over 11 groups of 22 cases" in " ".join(result.output.split())
    pairs = {row["metric"]: row for row in rows_of(tmp_path / "report_pairs.csv")}
    assert (pairs["pq"]["unit"], pairs["pq"]["units"]) == ("group", "11")
    assert float(pairs["pq"]["p_value"]) == float(pairs["pq"]["corrected_p"]) < 0.05
    assert pairs["dice"]["corrected_p"] == ""
    scores = json.loads((tmp_path / "report.json").read_text())["scores"]
    assert {score["method"] for score in scores} == {"worse", "perfect"}
    assert {score["value"] for score in scores if score["method"] == "perfect" and score["metric"] == "pq"} == {1.0}
    assert "<html" in (tmp_path / "report.html").read_text()


def test_the_objects_of_bundles_are_found_and_scored(
    tmp_path: Path, data: Path, perfect: Path, make_bundle: MakeBundle
) -> None:
    options = {"data": {"instances": True}, "inference": {"objects": "components", "smallest_object_px": 4}}
    bundles = [make_bundle(name, model, **options) for name, model in (("unet", UNET), ("window", WINDOW))]
    result = compare(tmp_path, *bundles, perfect, "--data", data, "--metrics", "dice,pq")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "report.csv")
    assert {row["method"] for row in rows} == {"U-Net", "sliding window", "perfect"}
    assert not any(row["remark"] == "connected_parts" for row in rows)
    page = (tmp_path / "report.html").read_text()
    assert "multiply-adds per pixel" in page


def test_masks_that_do_not_number_their_objects_are_said_to_be_connected_parts(
    tmp_path: Path, data: Path, perfect: Path
) -> None:
    binary = tmp_path / "binary"
    binary.mkdir()
    for path in perfect.iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(binary / path.name)
    result = compare(tmp_path, binary, perfect, "--data", data, "--metrics", "pq")
    assert result.exit_code == 0, result.output
    assert "binary: The masks do not number objects" in (tmp_path / "report.html").read_text()


def test_refusals_have_the_exit_code_of_data_and_nothing_is_written(
    tmp_path: Path, data: Path, perfect: Path, unet: Path, make_bundle: MakeBundle
) -> None:
    other = make_bundle("other", WINDOW, data={"spacing_um": [0.5, 0.5]})
    for arguments, words in (
        ((unet, other), "differ in spacing not given and 0.5 x 0.5 um"),
        ((perfect, tmp_path / "nothing"), "is no folder; give the folder that holds the masks"),
        ((perfect, perfect, "--split", "val"), "no case has the split val"),
    ):
        result = compare(tmp_path, *arguments, "--data", data)
        assert result.exit_code == 3, result.output
        assert words in " ".join(result.output.split())
    assert not (tmp_path / "report.html").exists()
    alone = compare(tmp_path, perfect, "--data", data)
    assert alone.exit_code == 2
    assert "two or more methods" in alone.output


@pytest.mark.parametrize("option", ["--headline", "--metrics"])
def test_metrics_that_masks_do_not_have_are_refused(option: str, data: Path, perfect: Path, tmp_path: Path) -> None:
    result = compare(tmp_path, perfect, perfect, "--data", data, option, "ece")
    assert result.exit_code == 2
    assert f"{option}: ece isn't computed from masks; choose metrics of masks, such as dice" in result.output
