"""Exported networks: ONNX Runtime answers as torch does, and the packages are what bioimage.io's own validator takes."""

import gc
import io
import json
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image
from sampled import UNET, WINDOW, write_sampled, write_sampled_ensemble
from scipy.special import expit, softmax
from typer.testing import CliRunner

from inference.predictors.loading import load_predictor
from models import bundle
from models.errors import BundleError
from models.onnx_export import INPUT
from overtile import app
from service.packaging import export as exporting
from service.packaging.bioimageio import Credits
from service.packaging.bioimageio_tensors import sizes_of
from service.packaging.export import export
from tests.calibrations import calibration

CREDITS = Credits(("Ada Lovelace",), "CC-BY-4.0")
VALID = {**UNET, "padding": "valid", "norm": "none"}
THREE = [{"name": name, "colour": "#00ff00"} for name in ("background", "gland", "vessel")]
KINDS: dict[str, dict[str, Any]] = {
    "unet": {"model": UNET, "side": 64, "data": {"spacing_um": [0.5, 0.5]}},
    "valid": {"model": VALID, "side": 44, "normalise": {"method": "range", "lower": 0, "upper": 255}},
    "instance": {"model": {**UNET, "norm": "instance"}, "head": {"kind": "sigmoid"}},
    "volume": {
        "model": UNET,
        "dimensions": 3,
        "normalise": {"method": "ct", "lower": -900, "upper": 900, "mean": 40, "deviation": 100},
    },
    "window": {"model": WINDOW, "side": (31, 35)},
    "even.window": {"model": {**WINDOW, "window": 10}},
    "labels": {"model": WINDOW, "image_label": {"classes": ["a", "b", "c"], "by": "joint"}},
    "several": {"model": UNET, "head": {"kind": "multi_label"}, "data": {"classes": THREE}},
    "grades": {"model": UNET, "head": {"kind": "ordinal", "encoding": "cumulative"}, "data": {"classes": THREE}},
    "soft": {"model": UNET, "head": {"kind": "ordinal"}, "data": {"classes": THREE}},
    "values": {"model": UNET, "head": {"kind": "regression"}, "data": {"classes": THREE[1:2]}},
    "calibrated": {"model": UNET, "data": {"classes": THREE}, "calibration": calibration(2.5)},
    "calibrated.window": {"model": WINDOW, "head": {"kind": "sigmoid"}, "calibration": calibration(0.5)},
}
CHANNELS = {
    "several": ["gland", "vessel"],
    "grades": ["at least gland", "at least vessel"],
    "soft": ["from background (0) to vessel (1)"],
    "values": ["gland"],
    "instance": ["nucleus"],
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    written = {name: write_sampled(folder / name, name, **kind) for name, kind in KINDS.items()}
    second = write_sampled(folder / "second", "second", seed=1, **KINDS["window"])
    members = [written["window"], second]
    return {**written, "ensemble": write_sampled_ensemble(folder / "ensemble", "ensemble", members, members[0])}


@pytest.fixture(scope="module")
def exported(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(list(bundles.values()), folder, CREDITS, lambda line: None)
    return folder


def package_of(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The description and the files."""
    with zipfile.ZipFile(folder / name / f"{name}.zip") as package:
        files = {each: package.read(each) for each in package.namelist()}
    return yaml.safe_load(files["bioimageio.yaml"]), files


def prepared(values: Any, steps: list[dict[str, Any]]) -> Any:
    """As bioimage.io defines the operations."""
    for step in steps:
        given = step.get("kwargs", {})
        match step["id"]:
            case "zero_mean_unit_variance":
                axes = tuple(range(2, values.ndim))
                mean, deviation = values.mean(axis=axes, keepdims=True), values.std(axis=axes, keepdims=True)
                values = (values - mean) / (deviation + given["eps"])
            case "fixed_zero_mean_unit_variance":
                values = (values - given["mean"]) / given["std"]
            case "clip":
                values = np.clip(values, given["min"], given["max"])
            case "scale_linear":
                values = values * given["gain"] + given["offset"]
            case "softmax":
                values = softmax(values, axis=1)
            case "sigmoid":
                values = expit(values)
            case other:
                raise AssertionError(other)
    return values.astype(np.float32)


@pytest.mark.parametrize("name", [*KINDS, "ensemble"])
def test_the_network_gives_what_the_predictor_gives(exported: Path, bundles: dict[str, Path], name: str) -> None:
    loaded = bundle.load(bundles[name])
    predictor = load_predictor(loaded, torch.device("cpu"), "torch")
    session = onnxruntime.InferenceSession(exported / name / "model.onnx", providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(1)
    for more in (0, 1, 3):
        sides = [sizes.smallest + sizes.step * (more + number) for number, sizes in enumerate(sizes_of(loaded.config))]
        patches = torch.randn(2, len(loaded.config.data.channels), *sides, generator=random)
        (found,) = session.run(None, {INPUT: patches.numpy()})
        wanted = predictor(patches.numpy())[:, : predictor.head.outputs]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [*KINDS, "ensemble"])
def test_the_package_does_what_its_description_says(exported: Path, name: str) -> None:
    description, files = package_of(exported, name)
    given, wanted = (np.load(io.BytesIO(files[f"test_{which}.npy"])) for which in ("input", "output"))
    assert files["model.onnx"] == (exported / name / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(files["model.onnx"], providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {INPUT: prepared(given, description["inputs"][0]["preprocessing"])})
    found = prepared(logits, description["outputs"][0]["postprocessing"])
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    assert wanted.shape[1] == len(description["outputs"][0]["axes"][1]["channel_names"])


@pytest.mark.parametrize("name", ["calibrated", "calibrated.window"])
def test_a_calibrated_package_gives_the_probabilities_of_the_bundle(
    exported: Path, bundles: dict[str, Path], name: str
) -> None:
    description, files = package_of(exported, name)
    loaded = bundle.load(bundles[name])
    assert loaded.sample is not None
    given = np.load(io.BytesIO(files["test_input.npy"]))
    patches = prepared(given, description["inputs"][0]["preprocessing"])
    head = load_predictor(loaded, torch.device("cpu"), "torch").head
    logits = load_predictor(loaded, torch.device("cpu"), "torch")(patches)[0]
    expected = head.probabilities(logits)[-head.outputs :]
    np.testing.assert_allclose(np.load(io.BytesIO(files["test_output.npy"]))[0], expected, atol=1e-3)
    assert "`postprocessing` divides the logits by the temperature" in files["documentation.md"].decode()
    assert head.temperature in (2.5, 0.5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves the zip open
@pytest.mark.parametrize("name", [*KINDS, "ensemble"])
def test_bioimageios_validator_takes_the_package(exported: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bioimageio.spec import InvalidDescr, load_model_description

    def refuse(*words: object) -> None:
        raise AssertionError(f"the network was asked for: {words}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    loaded = load_model_description(exported / name / f"{name}.zip", perform_io_checks=True)
    gc.collect()
    assert not isinstance(loaded, InvalidDescr)
    assert loaded.validation_summary.status in ("passed", "valid-format"), loaded.validation_summary.format()
    assert [axis.id for axis in loaded.inputs[0].axes[2:]] == (["z", "y", "x"] if name == "volume" else ["y", "x"])


def test_what_the_description_says(exported: Path) -> None:
    description, files = package_of(exported, "unet")
    assert set(files) == {
        "bioimageio.yaml",
        "model.onnx",
        "documentation.md",
        "cover.png",
        "test_input.npy",
        "test_output.npy",
    }
    assert description["authors"] == [{"name": "Ada Lovelace"}]
    assert description["license"] == "CC-BY-4.0"
    assert description["inputs"][0]["axes"][1]["channel_names"] == ["red", "green", "blue"]
    # features 4, 8 look 8 pixels to the side with a stride of 2
    across = {"type": "space", "id": "y", "unit": "micrometer", "scale": 0.5}
    assert description["inputs"][0]["axes"][2] == {**across, "size": {"min": 18, "step": 2}}
    reference = {"tensor_id": "image", "axis_id": "y", "offset": 0}
    assert description["outputs"][0]["axes"][2] == {**across, "size": reference, "halo": 8}
    assert description["config"]["overtile"]["classes"][1] == {"name": "nucleus", "colour": "#ff0000"}
    assert "## Validation" in files["documentation.md"].decode()
    assert "those of the whole image, not of a tile" in files["documentation.md"].decode()
    assert Image.open(io.BytesIO(files["cover.png"])).size == (512, 256)


@pytest.mark.parametrize(("name", "names"), CHANNELS.items())
def test_outputs_are_named_by_what_they_say(exported: Path, name: str, names: list[str]) -> None:
    description, _ = package_of(exported, name)
    assert description["outputs"][0]["axes"][1]["channel_names"] == names


@pytest.mark.parametrize(
    ("name", "smallest", "step", "lost"), [("valid", 18, 2, 16), ("window", 9, 1, 8), ("instance", 4, 2, 0)]
)
def test_sizes(exported: Path, name: str, smallest: int, step: int, lost: int) -> None:
    description, _ = package_of(exported, name)
    assert description["inputs"][0]["axes"][2]["size"] == {"min": smallest, "step": step}
    axis = description["outputs"][0]["axes"][2]
    assert axis["size"]["offset"] == -lost
    assert "halo" not in axis


def test_ct_is_described_by_its_limits(exported: Path) -> None:
    description, files = package_of(exported, "volume")
    assert description["inputs"][0]["preprocessing"] == [
        {"id": "clip", "kwargs": {"min": -900.0, "max": 900.0}},
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 40.0, "std": 100.0}},
    ]
    assert "whole image, not of a tile" not in files["documentation.md"].decode()


def test_the_command_line(bundles: dict[str, Path], tmp_path: Path) -> None:
    words = ["package", str(bundles["unet"]), "--export", str(tmp_path / "out"), "--author", "Ada", "--author", "Grace"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "of the logits' range at most" in done.output
    made = tmp_path / "out" / "unet"
    assert {path.name for path in made.iterdir()} == {"model.onnx", "unet.zip", "manifest.json"}
    assert json.loads((made / "manifest.json").read_text())["name"] == "unet"
    description, _ = package_of(tmp_path / "out", "unet")
    assert [author["name"] for author in description["authors"]] == ["Ada", "Grace"]
    assert "license" not in description
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 2
    assert "is there already; give another --export, or move it away" in again.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no author, whom a package for bioimage.io has to name; add --author NAME, once for each"),
        (("--author", "a/b"), "--author 'a/b': not a name; give one without / and \\"),
        (("--author", " "), "--author ' ': not a name"),
        (("--author", "A", "--licence", "my own"), "--licence 'my own': not an SPDX identifier, for example CC-BY-4.0"),
    ],
)
def test_credits_that_the_format_doesnt_take(
    bundles: dict[str, Path], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = CliRunner().invoke(app, ["package", str(bundles["unet"]), "--export", str(tmp_path / "out"), *words])
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "out").exists()


def test_a_network_that_onnx_answers_otherwise_isnt_written(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = exporting.onnx_of(bundle.load(bundles["valid"]).network, torch.randn(2, 3, 40, 44))
    monkeypatch.setattr(exporting, "onnx_of", lambda module, example: other)
    spoilt = write_sampled(tmp_path / "bundle", "valid", seed=5, **KINDS["valid"])
    with pytest.raises(
        BundleError, match=r"valid: ONNX Runtime is off by .* of the logits' range, allowed is 0\.001"
    ) as raised:
        export([spoilt], tmp_path / "out", CREDITS, lambda line: None)
    assert "serve it by overtile serve" in str(raised.value)
    assert not list((tmp_path / "out").iterdir())


def test_windows_that_are_looked_at_one_by_one_cant_be_exported(tmp_path: Path) -> None:
    folder = write_sampled(tmp_path / "bundle", "foveated", {**WINDOW, "foveation_px": 1.0}, side=16)
    with pytest.raises(BundleError, match=r"foveated: a network with model\.foveation_px .* model\.foveation_px=0, or serve"):
        export([folder], tmp_path / "out", CREDITS, lambda line: None)


def test_a_bundle_without_a_sample_cant_be_exported(tmp_path: Path) -> None:
    from servers import write_bundle

    folder = write_bundle(tmp_path / "bundle", "old", UNET)
    with pytest.raises(BundleError, match="holds no sample to check the exported network by; train again to have one"):
        export([folder], tmp_path / "out", CREDITS, lambda line: None)


def test_a_changed_bundle_isnt_exported(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = write_sampled(tmp_path / "bundle", "changed", UNET)
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + " ")
    with pytest.raises(BundleError, match=r"config\.yaml isn't the file that training wrote"):
        export([folder], tmp_path / "out", CREDITS, lambda line: None)
