"""What a data set declares goes from `overtile inspect` to a trained and used bundle by what the messages say alone."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import overtile
from configs import schema
from configs.schema import Config
from imaging.open import open_image
from tests.datasets.declared_samples import bids, coloured, decathlon, labels, nnunet, pairs, slicer, slides

REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
THREE = ((0, 0, 0), (255, 0, 0), (0, 255, 0))


def run(*words: object) -> Result:
    return CliRunner().invoke(overtile.app, [str(word) for word in words])


def planned(data: Path, *options: str) -> Config:
    out = data.parent / "plan.yaml"
    out.unlink(missing_ok=True)
    result = run("plan", data, "-o", out, "--memory", "300MB", *options)
    assert result.exit_code == 0, result.output
    return schema.load(out)


def entries(config: Config) -> list[tuple[str, object]]:
    return [(section.name, section.value) for section in config.data.classes]


SETS: dict[str, tuple[Callable[[Path], Path], list[tuple[str, object]], dict[str, object]]] = {
    "nnunet_ignore": (
        lambda folder: nnunet(folder, {"labels": {"background": 0, "blob": 1, "ignore": 2}}, 0, 1, 2),
        [("background", None), ("blob", None)],
        {"data.ignore_label": 2, "data.channels": ("T2",), "normalise.method": "zscore", "data.instances": False},
    ),
    "nnunet_gap": (
        lambda folder: nnunet(folder, {"labels": {"background": 0, "a": 1, "b": 5, "ignore": 7}}, 0, 1, 5, 7),
        [("background", 0), ("a", 1), ("b", 5)],
        {"data.ignore_label": 7},
    ),
    "nnunet_many": (
        lambda folder: nnunet(folder, {"labels": {"background": 0, **{f"c{n}": n for n in range(1, 24)}}}, *range(24)),
        [("background", None), *((f"c{number}", None) for number in range(1, 24))],
        {"data.instances": False, "inference.objects": "components", "loss.border_weight": 0},
    ),
    "nnunet_regions": (
        lambda folder: nnunet(folder, {"labels": REGIONS}, 0, 1, 2),
        [("background", 0), ("whole", (1, 2)), ("core", 2)],
        {"head.kind": "multi_label"},
    ),
    "decathlon": (
        decathlon,
        [("background", 0), ("liver", 2)],
        {"data.channels": ("CT",), "normalise.method": "ct"},
    ),
    "bids": (
        lambda folder: bids(folder, table="index\tname\n17\tleft\n18\tamygdala\n53\tright\n"),
        [("background", 0), ("left", 17), ("right", 53)],
        {"data.channels": ("FLAIR", "T1w"), "normalise.method": "zscore"},
    ),
    "qupath": (
        lambda folder: slides(folder, "Tumor", "Ignore*"),
        [("background", None), ("Tumor", None)],
        {"data.ignore_label": 255},
    ),
    "slicer": (slicer, [("background", None), ("liver", None), ("tumour", None)], {"head.kind": "softmax"}),
    "slicer_layers": (
        lambda folder: slicer(folder, layers=2),
        [("background", None), ("liver", None), ("tumour", None)],
        {"head.kind": "multi_label"},
    ),
    "zero_and_255": (
        lambda folder: pairs(folder, *[labels(0, 255)] * 5),
        [("background", 0), ("class_255", 255)],
        {"data.instances": False, "inference.objects": "components", "loss.border_weight": 0},
    ),
    "colours": (
        lambda folder: pairs(folder, *[coloured(*THREE)] * 5),
        [("background", "#000000"), ("class_1", "#00ff00"), ("class_2", "#ff0000")],
        {"data.ignore_label": None},
    ),
}


@pytest.mark.parametrize("kind", SETS)
def test_from_inspect_to_a_used_bundle(kind: str, tmp_path: Path) -> None:
    make, classes, values = SETS[kind]
    data = tmp_path / "data"
    data.mkdir()
    make(data)
    inspected = run("inspect", data)
    assert inspected.exit_code == 0, inspected.output
    assert "amygdala" not in inspected.output.split("note:")[0]  # which the table of labels has, and no reference
    for name, _ in classes:
        assert f"Class {name} " in inspected.output or kind == "zero_and_255"
    config = planned(data)
    assert entries(config) == classes
    for key, value in values.items():
        section, name = key.split(".")
        assert getattr(getattr(config, section), name) == value, key
    assert run("inspect", data, "--config", tmp_path / "plan.yaml").exit_code == 0
    small = ["trainer.max_steps=2", "trainer.batch_size=2", f"run.folder={tmp_path}", "run.name=mine"]
    trained = run("train", tmp_path / "plan.yaml", *small)
    assert trained.exit_code == 0, trained.output
    if config.data.dimensions == 2 or len(config.data.channels) == 1:
        image = next(path for path in sorted(data.rglob("*")) if re.search(r"(?<!seg)\.(png|nii\.gz)$", path.name))
        predicted = run("predict", image, "-b", tmp_path / "mine/bundle", "-o", tmp_path / "masks")
        assert predicted.exit_code == 0, predicted.output
        for path in (tmp_path / "masks").rglob(f"{image.name.partition('.')[0]}.*"):
            with open_image(path, labels=True) as mask:
                pixels = next(mask.blocks())
            assert np.unique(pixels).max() < len(classes)  # indices of classes, whatever their values in references are


def test_regions_and_the_sliding_window(tmp_path: Path) -> None:
    nnunet(tmp_path / "data", {"labels": REGIONS}, 0, 1, 2)
    result = run("plan", tmp_path / "data", "-o", tmp_path / "plan.yaml", "--method", "sliding_window")
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert "the sliding window doesn't train classes that overlap, and dataset.json declares whole, core; use unet" in text


def test_names_replace_those_of_values_and_colours(tmp_path: Path) -> None:
    pairs(tmp_path / "a", *[labels(0, 255)] * 5)
    assert entries(planned(tmp_path / "a", "--classes", "glass,nucleus")) == [("glass", 0), ("nucleus", 255)]
    pairs(tmp_path / "b", *[coloured(*THREE)] * 5)
    named = planned(tmp_path / "b", "--classes", "glass,green,red")
    assert entries(named) == [("glass", "#000000"), ("green", "#00ff00"), ("red", "#ff0000")]
    result = run("plan", tmp_path / "b", "-o", tmp_path / "other.yaml", "--classes", "glass,green")
    assert result.exit_code == 2
    assert "--classes: 2 names, but the colours of the references declares 3 classes" in " ".join(result.output.split())


def test_255_is_ignored_or_a_class_as_the_user_says(tmp_path: Path) -> None:
    data = pairs(tmp_path / "a", *[labels(0, 1, 2, 255)] * 5)
    result = run("plan", data, "-o", tmp_path / "plan.yaml")
    assert result.exit_code == 3
    assert "plan with --ignore 255; if it is a class, name all 4 with --classes" in " ".join(result.output.split())
    ignored = planned(data, "--ignore", "255")
    assert entries(ignored) == [("background", None), ("class_1", None), ("class_2", None)]
    assert ignored.data.ignore_label == 255
    named = planned(data, "--classes", "b,one,two,rim")
    assert entries(named) == [("b", 0), ("one", 1), ("two", 2), ("rim", 255)]
    assert named.data.ignore_label is None


def test_outlines_without_a_class_are_asked_about(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    slides(data, "Tumor", None)
    result = run("plan", data, "-o", tmp_path / "plan.yaml")
    assert result.exit_code == 3
    assert "1 of 2 outlines have no class" in " ".join(result.output.split())
    config = planned(data, "--classes", "background,Tumor,unclassified")
    assert [section.name for section in config.data.classes] == ["background", "Tumor", "unclassified"]
    assert run("inspect", data, "--config", tmp_path / "plan.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("channels", "method", "limits"),
    [
        ({"0": "rgb_to_0_1"}, "range", (0, 255)),
        ({"0": "noNorm"}, "range", (-1, 1)),
        ({"0": "CT"}, "ct", None),
        ({"0": "T1"}, "zscore", None),
    ],
)
def test_declared_channels_choose_the_normalisation(
    tmp_path: Path, channels: dict[str, str], method: str, limits: tuple[int, int] | None
) -> None:
    data = nnunet(tmp_path / "data", {"labels": {"background": 0, "a": 1}, "channel_names": channels}, 0, 1)
    config = planned(data)
    assert config.data.channels == tuple(channels.values())
    assert config.normalise.method == method
    assert limits is None or (config.normalise.lower, config.normalise.upper) == limits


def test_channels_that_are_not_declared(tmp_path: Path) -> None:
    channels = {"0": "T1", "1": "T2"}
    data = nnunet(tmp_path / "data", {"labels": {"background": 0, "a": 1}, "channel_names": channels}, 0, 1)
    result = run("plan", data, "-o", tmp_path / "plan.yaml")
    assert result.exit_code == 3
    text = " ".join(result.output.split())
    assert "dataset.json declares 2 channels (T1, T2), the images have 1" in text
