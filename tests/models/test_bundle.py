"""Bundles: a bundle that was written can be loaded, and any change to its files is refused."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs import schema
from configs.schema import Config
from disk.digest import sha256_of_file
from models import bundle
from models.architectures import build
from models.bundle import Sample
from models.errors import BundleError
from tests.bundle_scores import bundle_metrics
from tests.calibrations import calibration
from tests.manifest_facts import FACTS as MANIFEST_FACTS

FACTS = {**MANIFEST_FACTS, "class_prior": (0.9, 0.1)}


@pytest.fixture
def config() -> Config:
    return schema.load(Path("configs/histology_sliding_window.yaml"))


@pytest.fixture
def written(tmp_path: Path, config: Config) -> Path:
    sample = Sample(torch.randn(1, 3, 9, 9), torch.randn(1, 2, 9, 9))
    bundle.write(tmp_path / "bundle", build(config), config, sample=sample, metrics=bundle_metrics(), **FACTS)
    return tmp_path / "bundle"


def test_loads_what_was_written(tmp_path: Path, config: Config) -> None:
    network = build(config)
    bundle.write(tmp_path / "bundle", network, config, **FACTS)
    loaded = bundle.load(tmp_path / "bundle")
    assert loaded.config == config
    assert loaded.manifest.class_prior == (0.9, 0.1)
    assert not loaded.network.training
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[key], value, rtol=0, atol=0)


def test_holds_no_pickle(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        "weights.safetensors",
        "config.yaml",
        "manifest.json",
        "sample.safetensors",
        "metrics.json",
    }


def test_calibration_and_metrics_are_part_of_the_bundle(tmp_path: Path, config: Config) -> None:
    folder = tmp_path / "bundle"
    bundle.write(folder, build(config), config, metrics=bundle_metrics(), calibration=calibration(1.7), **FACTS)
    loaded = bundle.load(folder)
    assert loaded.manifest.format_version == 4
    assert loaded.manifest.calibration == calibration(1.7)
    assert loaded.metrics == bundle_metrics()
    assert set(loaded.manifest.files) == {"weights.safetensors", "config.yaml", "metrics.json"}


def test_metrics_and_calibration_of_an_ensemble(tmp_path: Path, config: Config) -> None:
    for name in ("first", "second"):
        bundle.write(tmp_path / name, build(config), config, **FACTS)
    members = [bundle.load(tmp_path / name) for name in ("first", "second")]
    bundle.write_ensemble(tmp_path / "both", members, config, metrics=bundle_metrics(), calibration=calibration(3), **FACTS)
    loaded = bundle.load(tmp_path / "both")
    assert loaded.manifest.calibration == calibration(3)
    assert loaded.metrics == bundle_metrics()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_formats_load_without_calibration(written: Path, version: int) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    del manifest["calibration"]  # older manifests have no such key
    (written / "manifest.json").write_text(json.dumps(manifest | {"format_version": version}))
    loaded = bundle.load(written)
    assert loaded.manifest.format_version == version
    assert loaded.manifest.calibration is None


def test_a_bundle_without_metrics_loads(tmp_path: Path, config: Config) -> None:
    bundle.write(tmp_path / "bundle", build(config), config, **FACTS)
    assert bundle.load(tmp_path / "bundle").metrics is None


@pytest.mark.parametrize("content", ["", "{}", '{"notes": [], "left_out": [], "metrics": [{}], "scores": []}'])
def test_metrics_that_hold_no_scores_are_refused(written: Path, content: str) -> None:
    (written / "metrics.json").write_text(content)
    update_digests(written)
    with pytest.raises(BundleError, match=r"metrics\.json doesn't hold scores of validation cases"):
        bundle.load(written)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "1e400"])
def test_a_temperature_that_is_no_positive_number_is_refused(written: Path, temperature: object) -> None:
    section = {**calibration().model_dump(mode="json"), "temperature": temperature}
    update_digests(written, calibration=section)
    with pytest.raises(BundleError, match=r"manifest\.json isn't of format 1 to 4"):
        bundle.load(written)


def test_metrics_that_the_manifest_does_not_list_are_refused(tmp_path: Path, config: Config) -> None:
    bundle.write(tmp_path / "bundle", build(config), config, **FACTS)
    (tmp_path / "bundle/metrics.json").write_text("{}")
    with pytest.raises(BundleError, match=r"holds .*'metrics.json'.*expected exactly"):
        bundle.load(tmp_path / "bundle")


def test_metrics_that_were_removed_are_refused(tmp_path: Path, config: Config) -> None:
    bundle.write(tmp_path / "bundle", build(config), config, metrics=bundle_metrics(), **FACTS)
    (tmp_path / "bundle/metrics.json").unlink()
    with pytest.raises(BundleError, match=r"expected exactly .*metrics\.json"):
        bundle.load(tmp_path / "bundle")


def update_digests(folder: Path, **facts: object) -> None:
    """Write the digests of the changed files into the manifest, as an attacker who knows the format would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {path.name: sha256_of_file(path) for path in folder.iterdir() if path.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": files, **facts}))


class PickleCanary:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml", "sample.safetensors", "metrics.json"])
def test_one_changed_byte_is_refused(written: Path, name: str) -> None:
    content = bytearray((written / name).read_bytes())
    content[len(content) // 2] ^= 1
    (written / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} isn't the file that training wrote; copy the bundle again"):
        bundle.load(written)


def test_extra_file_is_refused(written: Path) -> None:
    (written / "extra.pt").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"holds \['config.yaml', 'extra.pt'.*expected exactly"):
        bundle.load(written)


def test_link_is_refused(written: Path, tmp_path: Path) -> None:
    (written / "config.yaml").rename(tmp_path / "elsewhere.yaml")
    (written / "config.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(BundleError, match=r"config\.yaml isn't the file"):
        bundle.load(written)


def test_a_link_in_the_manifests_place_is_refused(written: Path, tmp_path: Path) -> None:
    (written / "manifest.json").rename(tmp_path / "elsewhere.json")
    (written / "manifest.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match=r"the folder or its manifest\.json is a link; give the folder that training wrote"):
        bundle.load(written)


def test_a_link_to_a_bundle_is_refused(written: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written)
    with pytest.raises(BundleError, match="link: the folder or its"):
        bundle.load(tmp_path / "link")


def test_a_folder_in_a_files_place_is_refused(written: Path) -> None:
    (written / "config.yaml").unlink()
    (written / "config.yaml").mkdir()
    with pytest.raises(BundleError, match=r"config\.yaml isn't the file"):
        bundle.load(written)


@pytest.mark.parametrize("name", ["model.ckpt", "model.pkl", "archive/data.pkl"])
def test_a_pickle_beside_is_refused_and_never_run(written: Path, tmp_path: Path, name: str) -> None:
    (written / name).parent.mkdir(exist_ok=True)
    (written / name).write_bytes(pickle.dumps(PickleCanary(tmp_path / "canary")))
    with pytest.raises(BundleError, match="expected exactly"):
        bundle.load(written)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("as_torch_writes", [True, False])
def test_a_pickle_in_the_weights_place_is_refused_and_never_run(written: Path, tmp_path: Path, as_torch_writes: bool) -> None:
    weights = written / "weights.safetensors"
    if as_torch_writes:
        torch.save(PickleCanary(tmp_path / "canary"), weights)
    else:
        weights.write_bytes(pickle.dumps(PickleCanary(tmp_path / "canary")))
    update_digests(written)
    with pytest.raises(BundleError, match="the weights don't fit the config's network; train again"):
        bundle.load(written)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinite_weights_are_refused(written: Path, value: float) -> None:
    weights = load_file(written / "weights.safetensors")
    weights["head.bias"][0] = value
    save_file(weights, written / "weights.safetensors")
    update_digests(written)
    with pytest.raises(BundleError, match=r"head\.bias holds NaN or infinite values; train again"):
        bundle.load(written)


def _change_shape(weights: dict[str, Tensor]) -> None:
    weights["head.bias"] = torch.zeros(3)


def _add_tensors(weights: dict[str, Tensor]) -> None:
    weights.update({f"extra.{number}": torch.zeros(1) for number in range(10_000)})


def _remove_tensor(weights: dict[str, Tensor]) -> None:
    del weights["head.bias"]


@pytest.mark.parametrize("change", [_change_shape, _add_tensors, _remove_tensor])
def test_weights_of_other_names_or_shapes_are_refused(written: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    weights = load_file(written / "weights.safetensors")
    change(weights)
    save_file(weights, written / "weights.safetensors")
    update_digests(written)
    with pytest.raises(BundleError, match="the weights don't fit the config's network; train again"):
        bundle.load(written)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"patches": torch.zeros(1, 3, 9, 9)}, "doesn't hold patches and their logits; train again"),
        (
            {"patches": torch.zeros(1, 1, 9, 9), "logits": torch.zeros(1, 2, 9, 9)},
            "expected one patch of 3 channels and the logits",
        ),
        (
            {"patches": torch.zeros(1, 3, 9, 9), "logits": torch.zeros(2, 2, 9, 9)},
            "expected one patch of 3 channels and the logits",
        ),
        (
            {"patches": torch.zeros(1, 3, 9, 9), "logits": torch.zeros(1, 2, 9)},
            "expected one patch of 3 channels and the logits of 1 networks",
        ),
        (
            {"patches": torch.full((1, 3, 9, 9), torch.nan), "logits": torch.zeros(1, 2, 9, 9)},
            "patches holds NaN or infinite values",
        ),
    ],
)
def test_an_invalid_sample_is_refused(written: Path, sample: dict[str, Tensor], message: str) -> None:
    save_file(sample, written / "sample.safetensors")
    update_digests(written)
    with pytest.raises(BundleError, match=message):
        bundle.load(written)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 10_000, "a\nb", "a\\b"])
def test_a_name_that_could_leave_the_folder_is_refused(written: Path, name: str) -> None:
    update_digests(written, name=name)
    with pytest.raises(BundleError, match=r"manifest\.json isn't of format 1 to 4"):
        bundle.load(written)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here; give the folder of a finished run, or its bundle/"):
        bundle.load(tmp_path)


def test_the_folder_of_a_run_stands_for_its_bundle(written: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs/first"
    run.mkdir(parents=True)
    (run / "checkpoints").mkdir()
    with pytest.raises(BundleError, match="first: the run isn't finished, so it has no bundle yet; run its overtile train"):
        bundle.load(run)
    shutil.copytree(written, run / "bundle")
    assert bundle.load(run).folder == run / "bundle"
    (run / "bundle/config.yaml").write_text("changed")
    with pytest.raises(BundleError, match=r"first/bundle: config\.yaml isn't the file that training wrote"):
        bundle.load(run)


def test_other_format_is_refused(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    (written / "manifest.json").write_text(json.dumps(manifest | {"format_version": 5}))
    with pytest.raises(BundleError, match=r"manifest\.json isn't of format 1 to 4"):
        bundle.load(written)


def test_weights_of_another_network_are_refused(written: Path, config: Config) -> None:
    other = config.model_copy(update={"model": config.model.model_copy(update={"hidden": 7})})
    (written / "config.yaml").write_text(schema.dump(other))
    manifest = json.loads((written / "manifest.json").read_text())
    manifest["files"]["config.yaml"] = sha256_of_file(written / "config.yaml")
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the weights don't fit the config's network; train again"):
        bundle.load(written)


def test_nothing_is_written_over(written: Path, config: Config) -> None:
    with pytest.raises(FileExistsError):
        bundle.write(written, build(config), config, **FACTS)
