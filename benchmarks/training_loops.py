"""Training loops for `training_speed.py`: Overtile's, a minimal one written by hand, and MONAI's.

All three train Overtile's network with Dice + cross-entropy. Overtile's is all of `overtile train`, from the config on.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from augmentation import monai_transform
from monai import transforms as monai
from monai.data import CacheDataset, DataLoader, set_track_meta
from monai.losses import DiceCELoss
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from turns import TurnClient

from configs import schema
from configs.schema import Config
from datasets.cases import Case
from inference.predictors.methods import memory_format_of
from models.architectures import build
from training import trainer
from training.data.open_cases import open_training_image
from training.data.splitting import trainable_cases
from training.monitoring.progress_bar import TrainingProgressBar
from training.run import train

Spec = dict[str, Any]
Arrays = tuple[np.ndarray, np.ndarray]
Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterator[tuple[Tensor, Tensor]]
ENDLESS = 10**6  # steps


def main(name: str, spec: Spec) -> None:
    """Train until `TurnClient` ends the process."""
    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    with tempfile.TemporaryDirectory() as folder:
        {"Overtile": overtile, "by hand": by_hand, "MONAI": with_monai}[name](spec, make_config(spec, Path(folder)))


def make_config(spec: Spec, folder: Path) -> Config:
    """Return the config of the network and the training."""
    values = {
        "run": {"name": "speed", "folder": str(folder)},
        "data": {
            "path": spec["data"],
            "dimensions": len(spec["patch"]),
            "channels": ["image"],
            "classes": [{"name": f"class_{number}", "colour": "#000000"} for number in range(spec["classes"])],
        },
        "normalise": {"method": "zscore"},
        "augment": {} if spec["augment"] else {"probability": 0},
        "model": {"name": "unet", "features": spec["features"], "norm": "instance", **spec["model"]},
        "sampling": {"patch_size": spec["patch"]},
        "optimizer": spec["optimizer"],
        "trainer": {
            "max_steps": ENDLESS,
            "validate_every_steps": ENDLESS,
            "batch_size": spec["batch"],
            "workers": spec["workers"],
            **spec["trainer"],
        },
    }
    return schema.parse(values, origin="benchmark")


def overtile(spec: Spec, config: Config) -> None:
    """Run `overtile train`, which waits for its turns where it would update its progress bar."""
    turns = TurnClient(torch.device(spec["device"]))

    class WaitingProgress(TrainingProgressBar):
        def on_train_start(self, *arguments: Any) -> None:
            super().on_train_start(*arguments)
            turns.wait()

        def on_train_batch_end(self, *arguments: Any) -> None:
            super().on_train_batch_end(*arguments)
            turns.wait()

    with mock.patch.object(trainer, "TrainingProgressBar", WaitingProgress):
        train(config, Console(quiet=True))


def by_hand(spec: Spec, config: Config) -> None:
    """Run a minimal loop: patches cut from arrays in memory, and six lines per step."""
    turns = TurnClient(torch.device(spec["device"]))
    cases = [_in_memory(case, config) for case in _training_cases(config)]
    _train(turns, spec, config, _batches(cases, config), _dice_cross_entropy)


def with_monai(spec: Spec, config: Config) -> None:
    """Run a loop with MONAI's dictionary transforms, cache, loader and loss."""
    turns = TurnClient(torch.device(spec["device"]))
    set_track_meta(False)
    keys = ("image", "reference")
    shape = (1, *config.patch_size)
    transform = monai.Compose(
        [
            monai.LoadImaged(keys),
            monai.EnsureChannelFirstd(keys, channel_dim="no_channel"),
            monai.NormalizeIntensityd("image"),
            monai.SpatialPadd(keys, config.patch_size, mode="reflect"),
            monai.RandCropByPosNegLabeld(keys, "reference", config.patch_size, num_samples=1),
            *((monai_transform(shape, config.augment.probability),) if spec["augment"] else ()),
        ]
    )
    files = [{"image": str(case.images[0]), "reference": str(case.reference)} for case in _training_cases(config)]
    cached = CacheDataset(files, transform, progress=False)
    loader = DataLoader(cached, batch_size=spec["batch"], shuffle=True, drop_last=True, num_workers=spec["workers"])
    batches = ((batch["image"], batch["reference"]) for _ in itertools.count() for batch in loader)
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    _train(turns, spec, config, batches, loss)


def _train(turns: TurnClient, spec: Spec, config: Config, batches: Batches, loss: Loss) -> None:
    device, switches = torch.device(spec["device"]), spec["switches"]
    network: Any = build(config).to(device)
    if switches.get("channels_last", True):
        network = network.to(memory_format=memory_format_of(config))
    optimizer = _optimizer(network, config, switches.get("fused", False))
    step = torch.compile(network) if switches.get("compile", False) else network
    half = switches.get("bfloat16", device.type == "cuda")
    while True:
        turns.wait()
        images, reference = (part.to(device, non_blocking=True) for part in next(batches))
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            value = loss(step(images), reference)
        optimizer.zero_grad()
        value.backward()
        if config.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm)
        optimizer.step()


def _optimizer(network: nn.Module, config: Config, fused: bool) -> torch.optim.Optimizer:
    section = config.optimizer
    rates = {"lr": section.learning_rate, "weight_decay": section.weight_decay, "fused": fused}
    if section.name == "adamw":
        return torch.optim.AdamW(network.parameters(), **rates)
    return torch.optim.SGD(network.parameters(), momentum=section.momentum, nesterov=True, **rates)


def _dice_cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the sum of the soft Dice loss of the foreground classes and cross-entropy; the reference is (B, 1, *S)."""
    one_hot = torch.cat([reference == label for label in range(1, logits.shape[1])], dim=1)
    probability, axes = logits.softmax(dim=1)[:, 1:], (0, *range(2, logits.ndim))
    both, either = (probability * one_hot).sum(axes), probability.sum(axes) + one_hot.sum(axes)
    return (1 - (2 * both + 1e-5) / (either + 1e-5)).mean() + functional.cross_entropy(logits, reference[:, 0].long())


def _training_cases(config: Config) -> list[Case]:
    return [case for case in trainable_cases(config.data) if case.split == "train"]


def _in_memory(case: Case, config: Config) -> Arrays:
    """Return the image (1, *S) and reference (1, *S) of a case, padded to the size of a patch."""
    labelled = open_training_image(case, config)
    whole = tuple(slice(0, size) for size in labelled.image.shape)
    image = labelled.statistics.normalise(labelled.image.read(whole))
    reference = labelled.reference.read(whole)
    labelled.close()
    missing = [(0, 0)] + [(0, max(0, patch - size)) for patch, size in zip(config.patch_size, image.shape[1:], strict=True)]
    return np.pad(image, missing, mode="reflect"), np.pad(reference, missing, mode="reflect")


def _batches(cases: list[Arrays], config: Config) -> Batches:
    random = np.random.default_rng(0)
    while True:
        patches = [_patch(*cases[random.integers(len(cases))], config, random) for _ in range(config.trainer.batch_size)]
        images, references = zip(*patches, strict=True)
        yield torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(references))


def _patch(image: np.ndarray, reference: np.ndarray, config: Config, random: np.random.Generator) -> Arrays:
    starts = [random.integers(size - patch + 1) for size, patch in zip(image.shape[1:], config.patch_size, strict=True)]
    place = (slice(None), *(slice(start, start + patch) for start, patch in zip(starts, config.patch_size, strict=True)))
    return image[place], reference[place]


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
