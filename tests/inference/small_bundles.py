"""Small bundles with random weights, and an image for them, for the tests of inference."""

from pathlib import Path

import numpy as np
import torch
from array_source import ArraySource
from numpy.typing import NDArray

from configs import schema
from inference.plan import AnyPredictor, plan_image
from inference.segment import bands
from models import bundle
from models.architectures import build
from models.calibration import Calibration
from tests.manifest_facts import FACTS

CPU = torch.device("cpu")
UNET = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "inference.tile_size=[48,48]", "model.norm=instance")
WINDOW = ("model.window=9", "model.convolutions=[{features: 4, kernel: 3}]", "inference.tile_size=[40,40]")


def make_bundle(
    folder: Path, seed: int, name: str = "unet", *overrides: str, calibration: Calibration | None = None
) -> bundle.Bundle:
    """Write a small bundle with random weights, and load it."""
    small = UNET if name == "unet" else WINDOW
    config = schema.load(Path(f"configs/histology_{name}.yaml"), (*small, f"run.name={folder.name}", *overrides))
    torch.manual_seed(seed)
    prior = (0.7 + seed / 100, 0.3 - seed / 100)
    bundle.write(folder, build(config), config, class_prior=prior, calibration=calibration, **FACTS)
    return bundle.load(folder)


class Picture(ArraySource):
    """Random RGB image."""

    def __init__(self, height: int = 130, width: int = 70) -> None:
        super().__init__(np.random.default_rng(0).integers(0, 255, (3, height, width)).astype(np.uint8))


def logits_of(predictor: AnyPredictor) -> NDArray[np.float32]:
    """Return the logits (R, *S) of the image."""
    return np.concatenate([band.logits for band in bands(plan_image(Picture(), predictor))], axis=1)
