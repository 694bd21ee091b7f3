"""Labels of whole images through the command line: slides with few cells and slides with many."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

import overtile
from configs import schema
from datasets.case_checks import examine_cases, examine_dataset
from datasets.cases import read_cases
from datasets.image_labels import NO_LABEL
from models import bundle
from tests.phantom import draw_slide
from training.data.patch_dataset import PatchDataset, PatchLocation
from training.image_label_training import (
    LabelledMaps,
    fit_classifier,
    flip_and_turn,
    label_loss,
    label_scores,
    mean_label_scores,
)
from training.run import train

SHAPE = (48, 40)
KINDS = {"=sparse": 0.06, "dense, very": 0.45}  # fractions of the area, for names that need quoting in CSV
CLASSES = "image_label.classes=['=sparse', 'dense, very']"
SMALL = ("trainer.batch_size=4", "sampling.patch_size=[32,32]", "model.features=[8,16]", "augment.probability=0")


def write_data(folder: Path, train: int = 8, val: int = 4, test: int = 2) -> Path:
    """Write cases of alternating kinds; the first has no label, and the second's label is padded with spaces."""
    rows = [["case", "image", "reference", "split", "label"]]
    folder.mkdir()
    for number, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        name, share = list(KINDS.items())[number % 2]
        image, mask = draw_slide(SHAPE, number, radius_px=4, share=share)
        Image.fromarray(np.moveaxis(image, 0, -1).copy()).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"mask{number}.png")
        label = ("", f" {name}  ")[number] if number < 2 else name
        rows.append([str(number), f"{number}.png", f"mask{number}.png", split, label])
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "slides")


def words(data: Path, folder: Path, *overrides: str) -> list[str]:
    return [f"data.path={data}", f"run.folder={folder}", "run.name=r", CLASSES, *SMALL, *overrides]


def run(*words: object) -> Result:
    return CliRunner().invoke(overtile.app, [str(word) for word in words])


def predicted(data: Path, made: Path, out: Path) -> list[dict[str, str]]:
    done = run("predict", data / "12.png", data / "13.png", "-b", made, "-o", out)
    assert done.exit_code == 0, done.output
    with (out / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert f"s, {row['label'].removeprefix(chr(39))}" in " ".join(done.output.split())
    return rows


def test_labels_from_the_map_follow_the_number_of_cells(data: Path, tmp_path: Path) -> None:
    small = ("trainer.max_steps=60", "optimizer.learning_rate=0.01", "trainer.validate_every_steps=60")
    maps = ("image_label.map_size=16", "image_label.map_features=[16,32]", "image_label.map_steps=80")
    done = run("train", "configs/histology_unet.yaml", *words(data, tmp_path, *small, *maps))
    assert done.exit_code == 0, done.output
    made = bundle.load(tmp_path / "r/bundle")
    assert made.manifest.validation["dice"] > 0.8
    assert made.manifest.validation["label_accuracy"] == made.manifest.validation["label_f1"] == 1
    assert "label accuracy 1.000, label f1 1.000" in " ".join(done.output.split())
    rows = predicted(data, made.folder, tmp_path / "out")
    assert [(row["image"], row["label"]) for row in rows] == [("12.png", "'=sparse"), ("13.png", "dense, very")]
    assert all(sum(float(row[f"probability {name}"]) for name in KINDS) == pytest.approx(1, abs=1e-5) for row in rows)


class Losses(lightning.Callback):
    """Records the label loss of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.values.append(float(trainer.callback_metrics["label_loss"]))


@pytest.mark.parametrize("method", ["unet", "sliding_window"])
def test_the_label_loss_falls_in_joint_training(method: str, data: Path, tmp_path: Path) -> None:
    window = ("model.window=15", "model.convolutions=[{features: 8, kernel: 4}]", "model.hidden=16", "trainer.batch_size=16")
    chosen = words(data, tmp_path, "image_label.by=joint", "image_label.weight=1", "optimizer.ema_decay=0.5")
    if method == "sliding_window":
        chosen = [word for word in chosen if not word.startswith(("sampling", "model.features"))] + list(window)
    pace = ("trainer.max_steps=40", "trainer.validate_every_steps=40", "optimizer.learning_rate=0.005")
    config = schema.load(Path(f"configs/histology_{method}.yaml"), [*chosen, *pace])
    losses = Losses()
    made = train(config, Console(file=StringIO()), [losses])
    assert np.mean(losses.values[-10:]) < 0.9 * np.mean(losses.values[:10])
    manifest = json.loads((made / "manifest.json").read_text())
    assert set(manifest["validation"]) == {"dice", "label_accuracy", "label_f1"}
    assert [row["image"] for row in predicted(data, made, tmp_path / "out")] == ["12.png", "13.png"]


def test_patches_have_the_label_of_their_image(data: Path, tmp_path: Path) -> None:
    cases = [case for case in read_cases(data) if case.split == "train"]
    for classes, labels in ((CLASSES, [NO_LABEL, 1, 0, 1]), ("image_label.classes=[]", [NO_LABEL] * 4)):
        config = schema.load(Path("configs/histology_unet.yaml"), [*words(data, tmp_path), classes])
        patches = PatchDataset(cases[:4], config)
        assert [int(patches[PatchLocation(0, number, (0, 0))].label) for number in range(4)] == labels


def test_patches_without_a_label_are_ignored() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 9.0], [1.0, 1.0]], requires_grad=True)
    loss = label_loss(logits, torch.tensor([0, NO_LABEL, 1]))
    expected = (np.log(1 + np.exp(-2)) + np.log(2)) / 2
    assert float(loss.detach()) == pytest.approx(expected)
    none = label_loss(logits, torch.tensor([NO_LABEL] * 3))
    none.backward()  # type: ignore[no-untyped-call]
    assert float(none.detach()) == 0
    assert not logits.grad.any()  # type: ignore[union-attr]
    assert label_scores([], [], 2) == {}
    validations = [{"dice": 0.5}, {"label_accuracy": 0.5, "label_f1": 0.25}, {"label_accuracy": 1.0, "label_f1": 0.75}]
    assert mean_label_scores(validations) == {"label_accuracy": 0.75, "label_f1": 0.5}
    assert mean_label_scores(validations[:1]) == {}


def test_equal_maps_and_seeds_give_equal_classifiers_and_leave_the_global_generator_unchanged(tmp_path: Path) -> None:
    small = ("image_label.map_size=8", "image_label.map_features=[4]", "image_label.map_steps=5")
    config = schema.load(Path("configs/histology_unet.yaml"), [*words(tmp_path, tmp_path), *small])
    maps = LabelledMaps(torch.rand(5, 2, 8, 8), torch.tensor([0, 1, 1, 1, 1]))
    before = torch.get_rng_state()
    first, second = (fit_classifier(maps, maps, config).state_dict() for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert fit_classifier(maps, LabelledMaps(maps.maps[:0], maps.labels[:0]), config)  # without validation maps


@pytest.mark.parametrize(("flips", "turns", "forms"), [(True, True, 8), (True, False, 4), (False, True, 2), (False, False, 1)])
def test_maps_are_flipped_and_turned_as_patches_are(flips: bool, turns: bool, forms: int) -> None:
    words = [f"augment.flips={str(flips).lower()}", f"augment.quarter_turns={str(turns).lower()}"]
    section = schema.load(Path("configs/histology_unet.yaml"), words).augment
    map_, random = torch.arange(9.0).view(1, 3, 3), torch.Generator().manual_seed(0)
    found = {tuple(flip_and_turn(map_, section, random).flatten().tolist()) for _ in range(100)}
    assert len(found) == forms
    still = section.model_copy(update={"probability": 0.0})
    assert all(torch.equal(flip_and_turn(map_, still, random), map_) for _ in range(10))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("naevus", "label 'naevus' is none of image_label.classes (=sparse, dense, very); correct it in cases.csv"),
        ("=SPARSE", "label '=SPARSE' is none of image_label.classes"),
        ("=sparse", "training cases (train) have labels of fewer than two classes (=sparse: 2); give column label"),
        ("", "training cases (train) have labels of fewer than two classes (none); give column label"),
        ("a\u202eb", "a cell holds characters that can't be printed; remove them"),
    ],
)
def test_invalid_labels_are_refused_before_training(label: str, message: str, tmp_path: Path) -> None:
    folder = write_data(tmp_path / "slides", train=2, val=1, test=0)
    lines = (folder / "cases.csv").read_text().splitlines()
    rows = [lines[0], *(f"{','.join(line.split(',')[:4])},{label}" for line in lines[1:])]
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    done = run("train", "configs/histology_unet.yaml", *words(folder, tmp_path))
    assert done.exit_code == 3
    assert message in " ".join(done.output.split())


def test_inspect_reports_invalid_labels(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "slides", train=4, val=1, test=0)
    config = schema.load(Path("configs/histology_unet.yaml"), ["image_label.classes=[a, b]", f"data.path={folder}"])
    (tmp_path / "config.yaml").write_text(schema.dump(config))
    done = run("inspect", folder, "--config", tmp_path / "config.yaml")
    assert done.exit_code == 3
    assert "label '=sparse' is none of image_label.classes (a, b)" in " ".join(done.output.split())
    assert "no case of val has a label" in " ".join(done.output.split())


def test_a_changed_label_counts_as_changed_data(tmp_path: Path) -> None:
    folder = write_data(tmp_path / "slides", train=4, val=1, test=0)
    chosen = words(folder, tmp_path, "trainer.max_steps=1", "image_label.map_steps=1", "image_label.map_size=8")
    assert run("train", "configs/histology_unet.yaml", *chosen).exit_code == 0
    (tmp_path / "r/bundle").rename(tmp_path / "gone")
    table = folder / "cases.csv"
    table.write_text(table.read_text().replace('train,"dense, very"', "train,", 1))
    done = run("train", "configs/histology_unet.yaml", *chosen)
    assert done.exit_code == 3
    assert "files of 3 changed since the run began" in " ".join(done.output.split())


def test_the_training_cases_of_each_fold_need_two_labels(tmp_path: Path) -> None:
    reports = examine_cases(read_cases(write_data(tmp_path / "slides", train=4, val=0, test=0)))
    stops = examine_dataset(reports, {"0": "fold 0", "1": "fold 1", "2": "fold 0", "3": "fold 1"}, tuple(KINDS)).errors
    found = [problem for problem in stops if problem.code == "image_labels_too_few"]
    assert len(found) == 2
    assert "training cases (all but fold 0) have labels of fewer than two classes (dense, very: 2)" in str(found[0])
    unasked = examine_dataset(reports, {"0": "fold 0", "1": "fold 1", "2": "fold 0", "3": "fold 1"})
    assert not [problem for problem in unasked.problems if problem.code.startswith("image_label")]
