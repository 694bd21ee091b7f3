"""Small bundles with random weights, and a picture, for the tests of inference."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from configs import schema
from imaging.source import Geometry, ImageSource, Region
from inference.plan import AnyPredictor, plan_image
from inference.segment import bands
from models import bundle
from models.architectures import build

CPU = torch.device("cpu")
FACTS: dict[str, Any] = {
    "created": "2026-01-01T00:00:00+00:00",
    "margin_px": (0, 0),
    "validation": {"dice": 0.5},
    "training_steps": 1,
    "training_seconds": 1.0,
    "training_images": (),
    "versions": {},
    "commit": None,
    "intended_use": "tests",
}
UNET = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "inference.tile_size=[48,48]", "model.norm=instance")
WINDOW = ("model.window=9", "model.convolutions=[{features: 4, kernel: 3}]", "inference.tile_size=[40,40]")


def make_bundle(folder: Path, seed: int, name: str = "unet", *overrides: str) -> bundle.Bundle:
    small = UNET if name == "unet" else WINDOW
    config = schema.load(Path(f"configs/histology_{name}.yaml"), (*small, f"run.name={folder.name}", *overrides))
    torch.manual_seed(seed)
    prior = (0.7 + seed / 100, 0.3 - seed / 100)
    bundle.write(folder, build(config), config, class_prior=prior, **FACTS)
    return bundle.load(folder)


class Picture(ImageSource):
    mask_format = "png"

    def __init__(self, height: int = 130, width: int = 70) -> None:
        super().__init__(Geometry((height, width), None), 3, np.dtype(np.uint8))
        self.pixels = np.random.default_rng(0).integers(0, 255, (3, height, width)).astype(np.uint8)

    def _read(self, region: Region, level: int) -> Any:
        return self.pixels[(slice(None), *region)]


def logits_of(predictor: AnyPredictor) -> NDArray[np.float32]:
    return np.concatenate([band.logits for band in bands(plan_image(Picture(), predictor))], axis=1)
