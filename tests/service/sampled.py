"""Bundles with samples, of every kind of network and head, for what compares with samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from configs.schema import Config, parse
from inference.predictors.loading import sample_with_logits
from inference.predictors.methods import make_predictor
from models import bundle
from models.architectures import build
from models.bundle import Bundle, Sample
from models.calibration import Calibration

CPU = torch.device("cpu")
UNET: dict[str, Any] = {"name": "unet", "features": [4, 8], "norm": "batch"}
WINDOW: dict[str, Any] = {"name": "sliding_window", "window": 9, "convolutions": [{"features": 4, "kernel": 2}], "hidden": 8}
CLASSES = [{"name": "background", "colour": "#000000"}, {"name": "nucleus", "colour": "#ff0000"}]
FACTS: dict[str, Any] = {
    "created": "2026-01-01T00:00:00+00:00",
    "margin_px": (8, 8),
    "validation": {"dice": 0.5},
    "training_steps": 7,
    "training_seconds": 9.0,
    "training_images": ["a" * 64, "b" * 64],
    "versions": {"torch": "2.13.0"},
    "commit": "0123abcd",
    "intended_use": "tests only",
}


def config_of(name: str, model: dict[str, Any], *, dimensions: int = 2, **sections: Any) -> Config:
    data = {
        "path": "unused",
        "dimensions": dimensions,
        "channels": ["red", "green", "blue"] if dimensions == 2 else ["T1"],
        "classes": CLASSES,
        **sections.pop("data", {}),
    }
    patch = 92 if model.get("padding") == "valid" else 16
    sampling = {"patch_size": [patch] * dimensions} if model["name"] == "unet" else {}
    return parse({"run": {"name": name}, "data": data, "model": model, "sampling": sampling, **sections}, origin="test")


def write_sampled(
    folder: Path,
    name: str,
    model: dict[str, Any],
    *,
    side: int | Sequence[int] = 32,
    seed: int = 0,
    spoilt: float = 0.0,
    calibration: Calibration | None = None,
    **sections: Any,
) -> Path:
    """A bundle with random weights and its answers to random patches; `spoilt` is added to the first output of the answers."""
    config = config_of(name, model, **sections)
    dimensions, classes = config.data.dimensions, len(config.data.classes)
    prior = [0.7, *[0.3 / (classes - 1)] * (classes - 1)] if classes > 1 else [1.0]
    torch.manual_seed(seed)
    network = build(config).eval()
    sides = [side] * dimensions if isinstance(side, int) else side
    patches = torch.randn(1, len(config.data.channels), *sides)
    sample = sample_with_logits(patches, make_predictor(config, network, prior, CPU).members)
    logits = sample.logits.clone()
    logits[:, 0] += spoilt
    sample = Sample(patches, logits)
    bundle.write(folder, network, config, sample=sample, class_prior=prior, calibration=calibration, **FACTS)
    return folder


def write_sampled_ensemble(folder: Path, name: str, members: Sequence[Path], patches_of: Path) -> Path:
    """An ensemble of bundles of one config, and its answers to the patches of one of them."""
    loaded: list[Bundle] = [bundle.load(member) for member in members]
    given = bundle.load(patches_of).sample
    assert given is not None
    config = loaded[0].config.model_copy(update={"run": loaded[0].config.run.model_copy(update={"name": name})})
    predictors = [make_predictor(each.config, each.network, each.manifest.class_prior, CPU) for each in loaded]
    sample: Sample = sample_with_logits(given.patches, predictors)
    bundle.write_ensemble(folder, loaded, config, sample=sample, class_prior=loaded[0].manifest.class_prior, **FACTS)
    return folder
