"""Runtimes: their outputs match those of torch in float32, or they aren't used."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_bundles import Picture, logits_of
from typer.testing import CliRunner

from configs import schema
from disk.process import resident_bytes
from inference.predictors import loading
from inference.predictors import runtime as runtimes
from inference.predictors.loading import RuntimeMeasurements, load_predictor, measurements_path, sample_of, sample_with_logits
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from inference.predictors.runtime import find_runtime
from inference.predictors.runtime_parity import RuntimeParity, measure_runtime
from models import bundle
from models.architectures import build
from models.bundle import Bundle, Sample
from models.errors import BundleError
from overtile import app
from tests.manifest_facts import FACTS
from tests.phantom import write_slide_dataset

CPU = torch.device("cpu")
SMALL = {
    "histology_unet": ("model.features=[4,8]", "sampling.patch_size=[16,16]", "inference.tile_size=[48,48]"),
    "mri_unet": ("model.features=[4,8]", "sampling.patch_size=[16,16,16]", "inference.tile_size=[32,32,32]"),
    "histology_sliding_window": (
        "model.window=9",
        "model.convolutions=[{features: 4, kernel: 3}]",
        "inference.tile_size=[40,40]",
    ),
}


def predictor_of(name: str, *overrides: str) -> Predictor:
    config = schema.load(Path(f"configs/{name}.yaml"), (*SMALL[name], *overrides))
    torch.manual_seed(0)
    return make_predictor(config, build(config).eval(), (0.7, 0.3), CPU, average=True)


def make_bundle(folder: Path, name: str = "histology_unet", *overrides: str, error: float = 0.0) -> Bundle:
    """Write a bundle with a sample, and load it; `error` is added to one of the sample's outputs."""
    predictor = predictor_of(name, *overrides)
    sample = sample_of(Picture(), predictor.members)
    logits = sample.logits.clone()
    logits[:, 0] += error
    network = predictor.network
    bundle.write(folder, network, predictor.config, class_prior=(0.7, 0.3), sample=Sample(sample.patches, logits), **FACTS)
    return bundle.load(folder)


@pytest.fixture
def measure_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `auto` measure runtimes for small networks, too."""
    monkeypatch.setattr(loading, "LEAST_MEASURED_WORK", 0)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("histology_unet", ()),
        ("histology_unet", ("model.padding=valid", "model.norm=none", "sampling.patch_size=[20,20]")),
        ("histology_unet", ("model.norm=instance", "model.blocks=residual", "model.down=strided", "model.up=linear")),
        ("histology_unet", ("model.norm=group", "image_label.classes=[a,b,c]", "image_label.by=joint")),
        ("mri_unet", ()),
        ("mri_unet", ("model.features=[2,2,4,4]", "model.norm=instance")),
        (
            "histology_unet",
            ("model.features=[2,2,4,4]", "model.padding=valid", "model.norm=none", "sampling.patch_size=[92,92]"),
        ),
    ],
    ids=["batch", "valid", "residual", "label", "3D", "deep", "deep valid"],
)
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_compiled_runtimes_give_torchs_logits(runtime: str, name: str, overrides: tuple[str, ...]) -> None:
    predictor = predictor_of(name, *overrides)
    run = find_runtime(runtime, CPU, is_fixed=predictor.is_fixed).load(predictor.run)
    random = torch.Generator().manual_seed(0)
    dimensions = predictor.config.data.dimensions
    for batch, side in ((1, 36), (3, 36), (2, 52)):
        sides = [predictor.axis(number, 1000, side).tile_size for number in range(dimensions)]
        patches = torch.randn(batch, len(predictor.config.data.channels), *sides, generator=random)
        with torch.inference_mode():
            torch.testing.assert_close(run(patches), predictor.run(patches), rtol=1e-3, atol=3e-4)


def test_a_runtime_is_tried_on_the_bundles_sample(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    assert loaded.sample is not None
    predictor = load_predictor(loaded, CPU)
    by_torch = predictor.run
    exact = measure_runtime(find_runtime("openvino", CPU, is_fixed=True), predictor, loaded.sample)
    rounded = measure_runtime(find_runtime("torch_bfloat16", CPU, is_fixed=True), predictor, loaded.sample)
    assert exact.agreement == 1
    assert exact.difference < 1e-4 < rounded.difference < 0.1
    assert 0 < exact.seconds < 60
    assert predictor.run is by_torch


@pytest.mark.parametrize(
    ("agreement", "difference", "admitted"),
    [(0.9991, 0.5, True), (0.9989, 0.0, False), (None, 0.009, True), (None, 0.011, False), (1.0, float("nan"), False)],
)
def test_admitted_are_those_that_answer_alike(agreement: float | None, difference: float, admitted: bool) -> None:
    assert RuntimeParity("openvino", agreement, difference, 1.0).is_admitted is admitted


@pytest.mark.usefixtures("measure_small_networks")
def test_auto_takes_the_fastest_and_remembers_it(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    expected = logits_of(load_predictor(loaded, CPU, "torch"))
    found = logits_of(load_predictor(loaded, CPU, "auto"))
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.99
    path = measurements_path(loaded.folder)
    choice = RuntimeMeasurements.model_validate_json(path.read_bytes())
    assert [trial.name for trial in choice.trials] == [each.name for each in runtimes.automatic_runtimes(CPU, is_fixed=True)]
    fastest = min((trial for trial in choice.trials if trial.is_admitted), key=lambda trial: trial.seconds).name
    assert f" {fastest} cpu " in load_predictor(loaded, CPU, "auto").identity

    known = tuple(trial for trial in choice.trials if trial.name == "openvino")
    remembered = choice.model_copy(update={"trials": known})
    path.write_text(remembered.model_dump_json())
    assert isinstance(load_predictor(loaded, CPU, "auto").run, runtimes.OpenVino)
    for stale in (remembered.model_copy(update={"made_for": "another machine"}).model_dump_json(), "{}", "no JSON"):
        path.write_text(stale)
        load_predictor(loaded, CPU, "auto")
        assert RuntimeMeasurements.model_validate_json(path.read_bytes()).trials


def test_sizes_that_take_turns_are_compiled_once(tmp_path: Path) -> None:
    run = load_predictor(make_bundle(tmp_path / "bundle"), CPU, "openvino").run
    assert isinstance(run, runtimes.OpenVino)
    run.compiled.clear()
    large, small, other = (torch.zeros(1, 3, side, side) for side in (32, 16, 48))
    expected = run(large), run(small)
    assert list(run.compiled) == [small.shape]  # a process with one image has room for one
    run.sizes = 2
    run(large)
    kept = dict(run.compiled)
    assert torch.equal(run(small), expected[1])
    assert torch.equal(run(large), expected[0])
    assert all(run.compiled[shape] is each for shape, each in kept.items())
    run(other)
    assert list(run.compiled) == [large.shape, other.shape]


@pytest.mark.usefixtures("measure_small_networks")
def test_auto_stays_with_torch_where_no_other_answers_alike(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle", error=100.0)
    predictor = load_predictor(loaded, CPU, "auto")
    trials = RuntimeMeasurements.model_validate_json(measurements_path(loaded.folder).read_bytes()).trials
    assert not any(trial.is_admitted for trial in trials)
    assert predictor.run is predictor.network


@pytest.mark.usefixtures("measure_small_networks")
def test_auto_stays_with_torch_where_memory_is_too_small_for_another(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    load_predictor(loaded, CPU, "auto")
    path = measurements_path(loaded.folder)
    choice = RuntimeMeasurements.model_validate_json(path.read_bytes())
    fast = [trial for trial in choice.trials if trial.name in ("torch", "openvino")]
    fast = [replace(trial, seconds=1.0 if trial.name == "torch" else 0.1) for trial in fast]
    path.write_text(choice.model_copy(update={"trials": tuple(fast)}).model_dump_json())
    assert isinstance(load_predictor(loaded, CPU, "auto").run, runtimes.OpenVino)
    tight = resident_bytes() + 100 * 2**20  # OpenVINO takes 140 MB before the first tile
    assert load_predictor(loaded, CPU, "auto", tight).run is loaded.network


def test_auto_is_torch_where_there_is_little_to_do(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    assert loaded.config.inference.runtime == "auto"
    assert load_predictor(loaded, CPU).run is loaded.network
    assert not measurements_path(loaded.folder).exists()


def test_a_named_one_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle", error=100.0)
    with pytest.raises(
        BundleError, match=r"openvino: [\d.]+% of pixels alike, off by [\d.]+ at most, .*differs too much from float32"
    ):
        load_predictor(loaded, CPU, "openvino")


def test_without_a_sample_auto_is_torch(tmp_path: Path) -> None:
    predictor = predictor_of("histology_unet")
    bundle.write(tmp_path / "bundle", predictor.network, predictor.config, class_prior=(0.7, 0.3), **FACTS)
    loaded = bundle.load(tmp_path / "bundle")
    assert load_predictor(loaded, CPU, "auto").run is loaded.network
    assert not measurements_path(loaded.folder).exists()


@pytest.mark.usefixtures("measure_small_networks")
def test_sliding_windows_are_torchs(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle", "histology_sliding_window")
    assert load_predictor(loaded, CPU, "auto").run is not None
    tried = RuntimeMeasurements.model_validate_json(measurements_path(loaded.folder).read_bytes()).trials
    assert [trial.name for trial in tried] == ["torch", "torch_bfloat16"]
    with pytest.raises(BundleError, match=r"openvino: isn't available .* on cpu; choose one of auto, torch, torch_bfloat16$"):
        load_predictor(loaded, CPU, "openvino")


def test_values_are_compared_by_their_range(tmp_path: Path) -> None:
    loaded = make_bundle(
        tmp_path / "bundle", "histology_unet", "head.kind=regression", "data.classes=[{name: v, colour: '#000000'}]"
    )
    assert loaded.sample is not None
    trial = measure_runtime(find_runtime("openvino", CPU, is_fixed=True), load_predictor(loaded, CPU), loaded.sample)
    assert trial.agreement is None
    assert trial.difference < 1e-4
    assert trial.is_admitted


def test_every_network_of_an_ensemble_is_run_so(tmp_path: Path) -> None:
    members = [make_bundle(tmp_path / name) for name in ("a", "b")]
    assert members[0].sample is not None
    predictors = [load_predictor(member, CPU) for member in members]
    sample = sample_with_logits(members[0].sample.patches, predictors)
    bundle.write_ensemble(tmp_path / "both", members, members[0].config, sample=sample, class_prior=(0.7, 0.3), **FACTS)
    both = load_predictor(bundle.load(tmp_path / "both"), CPU, "openvino")
    assert [type(member.run) for member in both.members] == [runtimes.OpenVino] * 2
    np.testing.assert_allclose(logits_of(both), np.mean([logits_of(each) for each in predictors], 0), rtol=1e-3, atol=3e-4)


@pytest.mark.usefixtures("measure_small_networks")
def test_what_isnt_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("openvino", "onnxruntime"):
        with pytest.raises(BundleError, match=rf"{name}: needs {name}, which isn't installed; install it, or choose torch"):
            load_predictor(loaded, CPU, name)
    load_predictor(loaded, CPU, "auto")
    tried = RuntimeMeasurements.model_validate_json(measurements_path(loaded.folder).read_bytes()).trials
    assert [trial.name for trial in tried] == ["torch", "torch_bfloat16"]
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    with pytest.raises(BundleError, match=r"compile: needs a C\+\+ compiler \(.*c\+\+\), which isn't installed"):
        load_predictor(loaded, CPU, "compile")


def test_the_command_line_takes_a_runtime(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    images = write_slide_dataset(tmp_path / "data", cases=1, shape=(70, 60)).parent / "images"
    masks = {}
    for runtime in ("torch", "openvino"):
        words = ["predict", str(images), "-b", str(loaded.folder), "-o", str(tmp_path / runtime), "--runtime", runtime]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        masks[runtime] = [path.read_bytes() for path in sorted((tmp_path / runtime).iterdir())]
    assert masks["torch"] == masks["openvino"]
    refused = CliRunner().invoke(
        app, ["predict", str(images), "-b", str(loaded.folder), "-o", str(tmp_path), "--runtime", "tpu"]
    )
    assert refused.exit_code == 2


def test_a_bundle_keeps_its_sample(tmp_path: Path) -> None:
    loaded = make_bundle(tmp_path / "bundle")
    assert loaded.sample is not None
    again = sample_with_logits(loaded.sample.patches, load_predictor(loaded, CPU).members)
    torch.testing.assert_close(again.logits, loaded.sample.logits, rtol=0, atol=0)
    assert loaded.sample.patches.shape[1:] == (3, 48, 48) or max(loaded.sample.patches.shape[2:]) <= 256
    manifest = json.loads((loaded.folder / "manifest.json").read_text())
    assert "sample.safetensors" in manifest["files"]
    (loaded.folder / "sample.safetensors").unlink()
    with pytest.raises(BundleError, match=r"expected exactly \['config.yaml', 'manifest.json', 'sample.safetensors'"):
        bundle.load(loaded.folder)


def test_graphs_are_cudas(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"graphs: isn't available for this network on cpu; choose one of auto, .*onnxruntime$"
    ):
        load_predictor(make_bundle(tmp_path / "bundle"), CPU, "graphs")


@pytest.mark.gpu
@pytest.mark.parametrize("batch", [1, 3])
def test_graphs_give_torchs_logits_for_each_size_of_tile(batch: int) -> None:
    device = torch.device("cuda")
    network = predictor_of("histology_unet").network.to(device)
    run = find_runtime("graphs", device, is_fixed=True).load(network)
    for side in (48, 64, 48):
        patches = torch.randn(batch, 3, side, side, device=device)
        with torch.inference_mode():
            first, expected = run(patches), network(patches)
            again = run(torch.randn_like(patches))
        torch.testing.assert_close(first, expected, rtol=0.1, atol=0.05)
        assert not torch.equal(first, again)  # the first answer isn't written over


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, by torch
def test_torch_compile_runs_tiles_of_any_size(tmp_path: Path) -> None:
    # without a sample, which bfloat16 doesn't match with random weights
    loaded = replace(make_bundle(tmp_path / "bundle"), sample=None)
    compiled, by_torch = (load_predictor(loaded, CPU, runtime) for runtime in ("compile", "torch"))
    assert (logits_of(compiled).argmax(0) == logits_of(by_torch).argmax(0)).mean() > 0.99
