"""Examination of a run's data: all problems before the first step, and splits that are drawn once and stored."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from configs import schema
from configs.schema import Config
from datasets.splits import write_splits
from imaging.errors import DataError
from overtile import app
from tests.phantom import write_slide_dataset
from training.data.splitting import split_cases, trainable_cases
from training.run import train


def config_of(data: Path, *overrides: str) -> Config:
    return schema.load(Path("configs/histology_unet.yaml"), [f"data.path={data}", f"run.folder={data.parent}", *overrides])


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Twelve cases without splits, two per patient, of which the last two are for the test."""
    folder = write_slide_dataset(tmp_path / "slides", cases=12, shape=(40, 44)).parent
    rows = [
        f"case{number:03d},images/case{number:03d}.png,references/case{number:03d}.png,p{number // 2},"
        f"{'test' if number > 9 else ''}"
        for number in range(12)
    ]
    (folder / "cases.csv").write_text("\n".join(["case,image,reference,group,split", *rows]) + "\n")
    return folder


def test_a_fifth_of_the_patients_validates(slides: Path) -> None:
    splits = split_cases(config_of(slides).data, 0)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    assert len({case.group for case in splits.val}) == 1
    assert {case.name for case in (*splits.train, *splits.val)} == {f"case{number:03d}" for number in range(10)}
    assert len(trainable_cases(config_of(slides).data)) == 10


def test_splits_are_written_and_kept(slides: Path) -> None:
    data, splits_file = config_of(slides).data, slides / "splits.csv"
    splits = split_cases(data, 0, splits_file=splits_file)  # the file does not exist yet
    write_splits(splits_file, splits.by_case, splits.folds)
    with splits_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows if row["split"] == "val"} == {case.name for case in splits.val}
    assert {row["fold"] for row in rows} == {"0", "1", "2", "3", "4"}
    for seed in range(1, 9):
        assert split_cases(data, seed, splits_file=splits_file).by_case == splits.by_case
    assert any(split_cases(data, seed).by_case != splits.by_case for seed in range(1, 9))
    (slides / "cases.csv").write_text((slides / "cases.csv").read_text().replace("case003,", "renamed,"))
    with pytest.raises(DataError, match=r"was written for other cases: case003, renamed were added or removed since"):
        split_cases(data, 0, splits_file=splits_file)


def test_a_patient_of_the_test_may_not_train(slides: Path) -> None:
    (slides / "cases.csv").write_text((slides / "cases.csv").read_text().replace(",p5,", ",p0,"))
    with pytest.raises(DataError, match="groups p0 are in test and in train or val; put every case of a group into one split"):
        split_cases(config_of(slides).data, 0)


def test_training_tells_a_problem_of_all_cases_once(slides: Path, tmp_path: Path) -> None:
    for path in slides.glob("references/*.png"):
        Image.fromarray(np.full((40, 44), 255, np.uint8)).save(path)
    config = tmp_path / "config.yaml"
    config.write_text(schema.dump(config_of(slides)))
    result = CliRunner().invoke(app, ["train", str(config)])
    assert result.exit_code == 3
    lines = [line for line in result.stderr.splitlines() if "[labels_unknown]" in line]
    assert len(lines) == 1
    assert (
        "  in 10 of 10 cases, for example case case000, references/case000.png: reference holds 255 (1760 pixels)" in lines[0]
    )


def test_a_run_reports_all_problems_before_its_first_step(slides: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(slides / "references/case001.png")
    Image.fromarray(np.full((40, 44), 3, np.uint8)).save(slides / "references/case004.png")
    Image.fromarray(np.zeros((40, 44), np.uint8)).save(slides / "images/case007.png")
    (slides / "images/case011.png").write_bytes(b"")  # of the test, which is not read
    with pytest.raises(DataError) as caught:
        train(config_of(slides), Console(quiet=True))
    assert caught.value.code == "data_unfit"
    for line in (
        "case case001, references/case001.png: reference (9, 9) has another shape than its image (40, 44);",
        "case case004, references/case004.png: reference holds 3 (1760 pixels); allowed are 0 .. 1",
        "case case007, images/case007.png: image has 1 channels, the model takes 3",
    ):
        assert line in caught.value.message
    assert "case011" not in caught.value.message
    assert "overtile inspect shows them with pictures" in caught.value.message
    assert not (slides.parent / "histology_unet/checkpoints").exists()


def test_a_patient_in_both_splits_is_reported_with_other_problems(slides: Path) -> None:
    rows = (slides / "cases.csv").read_text().splitlines()
    rows[1:11] = [f"{row}{'val' if number == 1 else 'train'}" for number, row in enumerate(rows[1:11])]
    (slides / "cases.csv").write_text("\n".join(rows) + "\n")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(slides / "references/case004.png")
    with pytest.raises(DataError) as caught:
        train(config_of(slides), Console(quiet=True))
    assert "[reference_shape]" in caught.value.message
    assert "groups are in several splits: p0 (train, val)" in caught.value.message


def test_an_image_that_is_drawn_into_both_splits(slides: Path) -> None:
    with Image.open(slides / "images/case000.png") as picture:
        for number in (2, 4, 6, 8):
            picture.save(slides / f"images/case{number:03d}.png")
    with pytest.raises(DataError, match=r"5 cases hold the same image: .*\(val\).*no image may train and validate"):
        train(config_of(slides), Console(quiet=True))
    assert not (slides.parent / "histology_unet/splits.csv").exists()  # so that it is drawn again after the repair
