"""The bundle: what is written loads, and nothing else does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import schema
from configs.schema import Config
from models import bundle
from models.errors import BundleError
from models.networks import build

FACTS: dict[str, Any] = {
    "created": "2026-01-01T00:00:00+00:00",
    "margin_px": (0, 0),
    "class_prior": (0.9, 0.1),
    "validation": {"dice": 0.5},
    "training_steps": 1,
    "training_seconds": 1.0,
    "training_images": (),
    "versions": {},
    "commit": None,
    "intended_use": "tests",
}


@pytest.fixture
def config() -> Config:
    return schema.load(Path("configs/histology_sliding_window.yaml"))


@pytest.fixture
def written(tmp_path: Path, config: Config) -> Path:
    bundle.write(tmp_path / "bundle", build(config), config, **FACTS)
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
    assert {path.name for path in written.iterdir()} == {"weights.safetensors", "config.yaml", "manifest.json"}


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml"])
def test_one_changed_byte_is_refused(written: Path, name: str) -> None:
    content = bytearray((written / name).read_bytes())
    content[len(content) // 2] ^= 1
    (written / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} isn't the file that training wrote; copy the bundle anew"):
        bundle.load(written)


def test_extra_file_is_refused(written: Path) -> None:
    (written / "extra.pt").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"holds \['config.yaml', 'extra.pt'.*allowed are exactly"):
        bundle.load(written)


def test_link_is_refused(written: Path, tmp_path: Path) -> None:
    (written / "config.yaml").rename(tmp_path / "elsewhere.yaml")
    (written / "config.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(BundleError, match=r"config\.yaml isn't the file"):
        bundle.load(written)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here; give the bundle/ folder of a finished run"):
        bundle.load(tmp_path)


def test_other_format_is_refused(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    (written / "manifest.json").write_text(json.dumps(manifest | {"format_version": 4}))
    with pytest.raises(BundleError, match=r"manifest\.json isn't one of format 1 to 3"):
        bundle.load(written)


def test_weights_of_another_network_are_refused(written: Path, config: Config) -> None:
    other = config.model_copy(update={"model": config.model.model_copy(update={"hidden": 7})})
    (written / "config.yaml").write_text(schema.dump(other))
    manifest = json.loads((written / "manifest.json").read_text())
    manifest["files"]["config.yaml"] = bundle.sha256_of(written / "config.yaml")
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the weights don't fit the config's network; train again"):
        bundle.load(written)


def test_nothing_is_written_over(written: Path, config: Config) -> None:
    with pytest.raises(FileExistsError):
        bundle.write(written, build(config), config, **FACTS)
