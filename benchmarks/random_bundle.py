"""Bundles with random weights, which are as fast and take as much memory as trained ones."""

from pathlib import Path
from typing import Any

import torch

from configs.schema import Config
from inference.predictors.loading import SAMPLE_SIDE_PX, sample_with_logits
from inference.predictors.methods import make_predictor
from models import bundle
from models.architectures import build
from models.bundle import Sample

FACTS: dict[str, Any] = {
    "created": "2026-01-01T00:00:00+00:00",
    "margin_px": (0, 0),
    "validation": {"dice": 0.5},
    "training_steps": 1,
    "training_seconds": 1.0,
    "training_images": (),
    "versions": {},
    "commit": None,
    "intended_use": "a benchmark",
}


def write_random_bundle(folder: Path, config: Config, *, has_sample: bool = False) -> Path:
    """Write a bundle with random weights, and return its folder.

    Args:
        folder: path of the new bundle.
        config: config of its network.
        has_sample: whether it has a sample, so that its runtime is chosen as for a trained bundle.
    """
    torch.manual_seed(0)
    network, prior = build(config).eval(), (1 / len(config.data.classes),) * len(config.data.classes)
    sample: Sample | None = None
    if has_sample:
        side = SAMPLE_SIDE_PX[config.data.dimensions]
        patches = torch.rand(1, len(config.data.channels), *(side,) * config.data.dimensions) * 2 - 1  # (1, C, *S)
        sample = sample_with_logits(patches, [make_predictor(config, network, prior, torch.device("cpu"))])
    bundle.write(folder, network, config, class_prior=prior, sample=sample, **FACTS)
    return folder
