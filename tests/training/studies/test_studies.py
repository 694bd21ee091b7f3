"""The three studies through the command line, on networks of a few weights: pages, tables, resuming and refusals."""

import csv
import math
from pathlib import Path

import pytest
from forked import METHODS
from typer.testing import CliRunner

from evaluation.scoring.table import Score, ScoreTable
from overtile import app
from tests.phantom import write_slide_dataset
from training.studies.scoring import read_table, write_table

STEPS = ("trainer.max_steps=3", "trainer.validate_every_steps=3", "trainer.batch_size=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = ("train", "train", "train", "val", "test", "test", "test")
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=7, shape=(48, 52), splits=splits).parent


def study(question: str, data: Path, out: Path, *options: str, method: str = "unet") -> tuple[int, str]:
    values = (f"data.path={data}", "run.folder=unused", *STEPS, *METHODS[method])
    command = ["study", question, f"configs/histology_{method}.yaml", *values, "-o", str(out), *options]
    result = CliRunner().invoke(app, command)
    return result.exit_code, result.stderr


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "study.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def written_at(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}


def test_windows_beside_the_unet(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, text = study("window", data, out, "--sizes", "15,9")
    assert code == 0, text
    points = {(row["method"], row["setting"]) for row in rows(out)}
    assert points == {("U-Net", "no window"), ("sliding window", "9 px"), ("sliding window", "15 px")}
    assert {row["metric"] for row in rows(out)} == {"dice", "assd"}
    assert len(rows(out)) == 3 * 3 * 2  # points, held-out cases, metrics
    assert (out / "study.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "study.html").read_text()
    assert "The best window is" in page
    assert "window by window" in page
    assert "The cases of the split test are held out." in page
    assert "3 cases for training, 1 for validation, 3 held out." in page

    finished, table = written_at(out), (out / "study.csv").read_bytes()
    (out / "study.html").unlink()
    code, text = study("window", data, out, "--sizes", "15,9")  # resumes: nothing is trained or segmented again
    assert code == 0, text
    assert written_at(out) == finished
    assert (out / "study.csv").read_bytes() == table
    assert (out / "study.html").read_text() == page

    code, text = study("window", data, out, "run.seed=1")
    assert code == 2
    assert "holds a run with another run.seed" in text


def test_training_cases(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, text = study("cases", data, out, "--counts", "1,3", "--metrics", "iou", method="sliding_window")
    assert code == 0, text
    points = {(row["method"], row["setting"]) for row in rows(out)}
    assert points == {(method, count) for method in ("U-Net", "sliding window") for count in ("1", "3")}
    assert {row["metric"] for row in rows(out)} == {"iou"}
    assert "With 3 cases, U-Net minus sliding window:" in (out / "study.html").read_text()
    with (out / "runs" / "unet_1" / "splits.csv").open(newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    assert sorted(splits) == ["train", "unused", "unused", "val"]
    assert study("cases", data, tmp_path / "other", "--counts", "4")[1].strip() == (
        "4 training cases are requested, and 3 are left; give --counts up to that"
    )


def test_shifts(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    code, text = study("shift", data, out, "--shifts", "noise,jpeg")
    assert code == 0, text
    panels = {row["panel"] for row in rows(out)}
    assert panels == {"noise: standard deviation, share of the range", "JPEG: quality"}
    settings = {row["setting"] for row in rows(out) if row["panel"] == "JPEG: quality"}
    assert settings == {"as it is", "80", "50", "25", "10"}
    page = (out / "study.html").read_text()
    assert "Noise at its strongest (0.2): U-Net from" in page
    assert "of 2 shifts." in page


def test_minutes_are_shared_among_the_runs(data: Path, tmp_path: Path) -> None:
    code, text = study("shift", data, tmp_path, "--shifts", "blur", "--minutes", "0.1")
    assert code == 0, text
    for method in ("unet", "sliding_window"):
        assert "max_minutes: 0.05" in (tmp_path / "runs" / method / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("question", "options", "message"),
    [
        ("window", ("--sizes", "15,x"), "--sizes '15,x': not whole numbers from 3 on with commas between, such as 15,35"),
        ("window", ("--sizes", "2"), "--sizes '2': not whole numbers from 3 on"),
        ("shift", ("--shifts", "fog"), "--shifts: fog is unknown; choose from stain, brightness"),
        ("cases", ("--metrics", "score"), "--metrics: score unknown; choose from"),
    ],
)
def test_refusals(data: Path, tmp_path: Path, question: str, options: tuple[str, ...], message: str) -> None:
    code, text = study(question, data, tmp_path / "study", *options)
    assert code == 2
    assert message in text
    assert not (tmp_path / "study" / "runs").exists()


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = (
        Score("a", "patient", "dice", "nucleus", 1 / 3),
        Score("b", None, "hd95", "nucleus", math.nan, "um", "one_sided"),
    )
    write_table(ScoreTable("unet", scores), tmp_path / "unet.json")
    table = read_table(tmp_path / "unet.json")
    assert table.method == "unet"
    assert table.scores[0] == scores[0]
    assert (table.scores[1].case, table.scores[1].unit, table.scores[1].remark) == ("b", "um", "one_sided")
    assert math.isnan(table.scores[1].value)
