"""The denoising autoencoder: its inputs, that it learns, and that a training starts with its encoder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from configs import schema
from configs.network_sections import UNetSection
from configs.schema import Config, ConfigError
from configs.sections import PretrainSection
from imaging.errors import DataError
from models import bundle
from models.architectures import build
from tests.phantom import draw_slide, write_slide_dataset
from training.errors import NumericError
from training.pretraining.denoising import Autoencoder, corrupt, pretrain
from training.pretraining.unlabelled import UnlabelledPatches, unlabelled_cases

CHECKOUT = Path(__file__).parents[3]
STEPS = 60


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    for seed, shape in enumerate(((60, 70), (40, 20))):  # the second is smaller than a patch
        Image.fromarray(np.moveaxis(draw_slide(shape, seed)[0], 0, -1).copy()).save(folder / f"{seed}.png")
    (folder / ".hidden").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide_dataset(tmp_path_factory.mktemp("slides"), cases=3, shape=(60, 60)).parent


def words(folder: Path, images: Path) -> list[str]:
    network = ("model.features=[4,8]", "sampling.patch_size=[32,32]", "trainer.batch_size=4", "optimizer.learning_rate=0.01")
    return [f"run.folder={folder}", f"pretrain.images={images}", f"pretrain.max_steps={STEPS}", *network]


def config_of(folder: Path, images: Path, *overrides: str) -> Config:
    return schema.load(Path("configs/histology_unet.yaml"), [*words(folder, images), *overrides])


def overtile(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overtile", *map(str, arguments)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.9]), st.integers(1, 7))
def test_blanks_whole_blocks_with_the_mean(seed: int, masked: float, side: int) -> None:
    random = torch.Generator().manual_seed(seed)
    clean = torch.randn(3, 2, 21, 14, generator=random)
    corrupted = corrupt(clean, PretrainSection(noise=0, masked=masked), (side, side), random)
    changed = corrupted != clean
    mean = clean.mean((0, 2, 3), keepdim=True)
    assert corrupted.where(changed, mean).equal(mean.expand_as(clean))
    assert changed[:, 0].equal(changed[:, 1])
    for rows in changed[:, 0].split(side, dim=1):
        for block in rows.split(side, dim=2):
            assert block.flatten(1).any(1).equal(block.flatten(1).all(1))


def test_amounts_of_noise_and_blanks_are_those_of_the_config() -> None:
    random = torch.Generator().manual_seed(0)
    clean = torch.randn(4, 1, 16, 128, 128, generator=random) * torch.tensor(7.0)
    noise = corrupt(clean, PretrainSection(noise=0.2, masked=0), (4, 4, 4), random) - clean
    assert float(noise.std()) == pytest.approx(0.2 * 7, rel=0.01)
    corrupted = corrupt(clean, PretrainSection(noise=0, masked=0.3), (4, 4, 4), random)
    assert float((corrupted != clean).float().mean()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("{name: unet, features: [4, 8, 8], padding: valid, norm: none}", (44, 44)),
        ("{name: unet, features: [4, 8, 8], blocks: residual, down: strided, strides: [[1, 2], [2, 2]]}", (24, 32)),
    ],
)
def test_restores_the_centre_of_the_patch(tmp_path: Path, model: str, shape: tuple[int, int]) -> None:
    config = config_of(tmp_path, tmp_path, f"model={model}", f"sampling.patch_size={list(shape)}")
    assert isinstance(config.model, UNetSection)
    autoencoder = Autoencoder(build(config), config, config.model)
    restored = autoencoder(torch.zeros(2, 3, *shape))
    lost = [before - after for before, after in zip(shape, restored.shape[2:], strict=True)]
    assert restored.shape[:2] == (2, 3)
    assert all(side % 2 == 0 for side in lost)
    assert any(lost) == (config.model.padding == "valid")


def test_patches_depend_on_the_seed_alone_and_come_from_every_image(tmp_path: Path, images: Path) -> None:
    config = config_of(tmp_path, images)
    patches = UnlabelledPatches(unlabelled_cases(images)[0], config)
    assert len(patches.images.cases) == 2  # hidden files are skipped
    first = [patches[index] for index in range(20)]
    again = UnlabelledPatches(unlabelled_cases(images)[0], config)
    assert all(again[index].equal(first[index]) for index in (19, 3, 0))
    assert {patch.shape for patch in first} == {(3, 32, 32)}
    mirrored = [patch for patch in first if patch[:, :, 20:].equal(patch[:, :, 7:19].flip(2))]
    assert 0 < len(mirrored) < 20  # those of the image of 20 columns


def test_a_training_starts_with_the_pretrained_encoder(tmp_path: Path, images: Path, data: Path) -> None:
    config = "configs/histology_unet.yaml"
    for name in ("a.geojson", "b.xml", "Thumbs.db"):
        (images / name).write_text("{}")
    result = overtile("pretrain", config, *words(tmp_path, images))
    assert result.returncode == 0, result.stderr
    assert "Skipped 3 files that are no images: Thumbs.db, a.geojson, b.xml" in result.stderr
    weights = tmp_path / "histology_unet" / "pretrained.safetensors"
    assert f"use it: overtile train {config} warm_start.weights={weights}" in result.stderr
    assert (tmp_path / "histology_unet" / "pretrained.png").read_bytes()[:4] == b"\x89PNG"
    frozen = (f"warm_start.weights={weights}", "warm_start.frozen_steps=2", "trainer.max_steps=2", f"data.path={data}")
    trained = overtile("train", config, *words(tmp_path, images), *frozen)
    assert trained.returncode == 0, trained.stderr
    encoder = load_file(weights)
    assert f"starts with {len(encoder)} of {len(encoder)} tensors of {weights} (encoder)" in trained.stderr
    network = bundle.load(tmp_path / "histology_unet" / "bundle").network.state_dict()
    assert {name for name, value in network.items() if name in encoder and value.equal(encoder[name])} == set(encoder)
    again = overtile("pretrain", config, *words(tmp_path, images))
    assert again.returncode == 2
    assert "pretrained.safetensors exists; start from it with warm_start.weights=" in again.stderr


def test_the_loss_falls_and_equal_runs_give_equal_weights(tmp_path: Path, images: Path) -> None:
    progress_calls: list[tuple[object, int, int]] = []
    first, second = (
        pretrain(
            config_of(tmp_path / name, images, "optimizer.clip_norm=12"), lambda *progress: progress_calls.append(progress)
        )
        for name in ("first", "second")
    )
    assert progress_calls[STEPS - 1] == ("steps", STEPS, STEPS)
    assert sum(first.losses[-10:]) < 0.5 * sum(first.losses[:10])
    assert first.losses == second.losses
    assert all(value.equal(load_file(second.weights)[name]) for name, value in load_file(first.weights).items())


@pytest.fixture
def refused(tmp_path: Path, images: Path) -> Iterator[tuple[Path, Path]]:
    yield tmp_path, images
    assert not (tmp_path / "histology_unet" / "pretrained.safetensors").exists()


def test_refuses_invalid_configs_and_images(refused: tuple[Path, Path]) -> None:
    folder, images = refused
    window = schema.load(Path("configs/histology_sliding_window.yaml"), [f"pretrain.images={images}"])
    for config, kind, message in (
        (
            window,
            ConfigError,
            "model.name: overtile pretrain trains the encoder of a unet, but this config is of a sliding_window",
        ),
        (config_of(folder, images, "pretrain.images=null"), ConfigError, "pretrain.images: missing; set it to the folder"),
        (config_of(folder, images, f"pretrain.images={folder}"), DataError, "holds no image; set pretrain.images to a folder"),
        (config_of(folder, images, "data.channels=[a]", "augment.stain=0"), DataError, "case 0: image has 3 channels"),
        (config_of(folder, images, "optimizer.learning_rate=1e30", "model.norm=none"), NumericError, "loss is nan at step"),
    ):
        with pytest.raises(kind, match=message):
            pretrain(config, lambda *_: None)
