"""Accuracy of the predicted memory of training steps and tiles (training/planning and inference) on this machine.

Each network runs in separate processes that measure the rise of their resident memory since before the network was built;
imports and what PyTorch loads at its first step are left out. The figure is the median of REPEATS processes: two runs of one
network differ by up to a tenth, depending on how the C library reuses memory. On CUDA the peak is
torch.cuda.max_memory_allocated.

    PYTHONPATH=. .venv/bin/python benchmarks/memory_model.py          # networks that the constants weren't fitted to
    PYTHONPATH=. .venv/bin/python benchmarks/memory_model.py --fit    # networks for the fit, and the best constants
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from configs import schema
from configs.schema import Config
from disk.process import peak_resident_bytes, reset_peak, resident_bytes
from evaluation.comparison.measurement import describe_machine
from imaging.source import Geometry, ImageSource
from inference.plan import plan_image
from inference.predictors.methods import make_predictor
from inference.predictors.pass_memory import BYTES, count_inference, inference_bytes
from inference.predictors.predictor import Predictor, best_device
from inference.segment import bands
from models.architectures import build, count_parameters
from training.objective.losses import make_loss
from training.objective.targets import empty_targets
from training.planning.step_memory import count_training, training_bytes

Spec = dict[str, Any]


def unet(patch: list[int], features: list[int], norm: str, batch: int, **more: Any) -> Spec:
    """Return the config of a U-Net."""
    model = {"name": "unet", "features": features, "norm": norm, **more.pop("model", {})}
    return _spec(len(patch), model, batch, {"patch_size": patch}, **more)


def sliding(dimensions: int, window: int, kernels: list[int], batch: int, **more: Any) -> Spec:
    """Return the config of a sliding window."""
    convolutions = [{"features": 32, "kernel": kernel} for kernel in kernels]
    model = {"name": "sliding_window", "window": window, "convolutions": convolutions, **more.pop("model", {})}
    return _spec(dimensions, model, batch, {}, **more)


def _spec(dimensions: int, model: Spec, batch: int, sampling: Spec, channels: int = 1, classes: int = 2) -> Spec:
    return {
        "run": {"name": "memory"},
        "data": {
            "path": "none",
            "dimensions": dimensions,
            "channels": [f"channel_{number}" for number in range(channels)],
            "classes": [{"name": f"class_{number}", "colour": "#000000"} for number in range(classes)],
        },
        "normalise": {"method": "range"},
        "model": model,
        "sampling": sampling,
        "trainer": {"batch_size": batch},
    }


FITTED = [
    unet([128, 128], [16, 32, 64, 128], "batch", 8, channels=3),
    unet([128, 128], [16, 32, 64, 128], "instance", 8, channels=3),
    unet([256, 256], [32, 64, 128, 256], "none", 4),
    unet([64, 64], [32, 64, 128, 256, 512], "batch", 2),
    unet([320, 256], [16, 32, 64, 128, 256], "instance", 4),
    unet([32, 40, 32], [16, 32, 64], "batch", 4),
    unet([48, 48, 48], [32, 64, 128], "instance", 2),
    unet([64, 64, 64], [16, 32, 64, 128], "group", 2, classes=3),
    sliding(2, 35, [4, 4, 3], 256, channels=3, model={"norm": "batch"}),
    sliding(2, 65, [4, 4, 3, 3], 128),
    sliding(3, 19, [4, 3], 96),
    sliding(3, 25, [4, 4, 3], 48, model={"norm": "batch"}),
]
RESIDUAL = {"blocks": "residual", "down": "strided", "deep_supervision": True}
HELD_OUT = [
    unet([256, 256], [16, 32, 64, 128], "batch", 4, channels=3),
    unet([96, 160], [32, 64, 128], "none", 8),
    unet([192, 192], [16, 32, 64, 128, 256], "instance", 6, channels=3),
    unet([300, 300], [16, 32, 64, 128], "none", 2, model={"padding": "valid"}),
    unet([56, 64, 56], [16, 32, 64, 128], "instance", 2, classes=3),
    unet([48, 64, 48], [16, 32, 64], "batch", 6),
    unet([40, 48, 48], [32, 64, 128], "group", 2),
    unet([256, 256], [16, 32, 64, 128], "instance", 4, model=RESIDUAL),
    unet([24, 64, 64], [16, 32, 64], "instance", 2, model={**RESIDUAL, "strides": [[1, 2, 2], [2, 2, 2]]}),
    unet([128, 128], [32, 64, 128], "batch", 4, model={"up": "linear"}),
    sliding(2, 55, [4, 4, 3], 160),
    sliding(2, 75, [4, 4, 4, 4], 64, model={"norm": "batch", "hidden": 100}),
    sliding(3, 23, [4, 4, 2], 72),
]
REPEATS = 3
IMAGES = {2: (900, 1000), 3: (100, 120, 110)}  # shapes of the images that are segmented
TILES = {2: [400, 400], 3: [64, 64, 64]}


class ConstantImage(ImageSource):
    """Image of one grey level, whose pixels are generated when they are read."""

    mask_format = "tiff"

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        super().__init__(Geometry(shape), channels, np.dtype(np.uint8))

    def _read(self, region: tuple[slice, ...], level: int) -> np.ndarray[Any, Any]:
        return np.full((self.channels, *(axis.stop - axis.start for axis in region)), 7, np.uint8)


def main() -> None:
    """Print a table of predictions and measurements in Markdown, with `--fit` also the constants that fit best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fit", action="store_true")
    fitting = parser.parse_args().fit
    ran_on, device = describe_machine(best_device()), best_device()
    versions = f"torch {ran_on.versions['torch']}, float32, {device.type}"
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, {versions}\n")
    print("| network | batch | what | predicted, MB | measured, MB | predicted / measured |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    columns: dict[str, list[list[float]]] = {"training": [], "inference": []}
    for spec in FITTED if fitting else HELD_OUT:
        for tile in (None, TILES[spec["data"]["dimensions"]]):
            columns["inference" if tile else "training"].append(row(spec, tile, device))
    for phase, rows in columns.items() if fitting else ():
        print(f"| fitted | | {phase} | | | {fit(rows)} |")


def row(spec: Spec, tile: list[int] | None, device: torch.device) -> list[float]:
    """Print a network's row, and return the columns of the fit with the measured bytes last."""
    config = schema.parse({**spec, "inference": {"tile_size": tile}}, origin="benchmark")
    shape = IMAGES[config.data.dimensions]
    predicted = inference_bytes(config, shape, device) if tile else training_bytes(config, device)
    counted = count_inference(config, shape) if tile else count_training(config)
    measured = statistics.median(measure_apart(spec, tile) for _ in range(REPEATS))
    model = config.model
    sizes = tile or list(config.patch_size)
    what = f"tile {sizes}" if tile else f"step {sizes}"
    levels = getattr(model, "features", None) or [part.features for part in model.convolutions]
    print(
        f"| {model.name} {config.data.dimensions}D {list(levels)}, {model.norm} | {config.trainer.batch_size} | {what} "
        f"| {predicted / 1e6:.0f} | {measured / 1e6:.0f} | {predicted / measured:.2f} |",
        flush=True,
    )
    scattered = [counted.heap_bytes, 0] if model.norm != "instance" else [0, counted.heap_bytes]
    weights = BYTES * count_parameters(build(config))
    return [2**20, counted.peak_bytes, weights, counted.convolution_bytes, *scattered, measured]


def fit(rows: list[list[float]]) -> str:
    """Return the constants of CpuOverhead by least squares of the relative error."""
    table = np.array(rows)
    constants = np.linalg.lstsq(table[:, :-1] / table[:, -1:], np.ones(len(table)), rcond=None)[0]
    names = ("fixed MiB", "tensors", "weights", "convolutions", "scattered", "scattered by instance norm")
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(names, constants, strict=True))


def measure_apart(spec: Spec, tile: list[int] | None) -> int:
    """Return the bytes by which the memory of a separate process rises."""
    command = [sys.executable, __file__, json.dumps(spec), json.dumps(tile)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(spec: Spec, tile: list[int] | None) -> int:
    """Return the bytes by which the memory of this process rises in three training steps, or while it segments an image."""
    device = best_device()
    config = schema.parse({**spec, "inference": {"tile_size": tile}}, origin="benchmark")
    _warm_up(config, device)
    run = _segment if tile else _train
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        run(config, device)
        return torch.cuda.max_memory_allocated()
    reset_peak()
    before = resident_bytes()
    run(config, device)
    return peak_resident_bytes() - before


def _train(config: Config, device: torch.device) -> None:
    images = torch.randn(config.trainer.batch_size, len(config.data.channels), *config.patch_size, device=device)
    network = _predictor(config, device).network.train()
    loss, optimizer = make_loss(config), torch.optim.AdamW(network.parameters())
    reference, weights = (part.zero_() for part in empty_targets(config, device))
    for _ in range(3):
        loss(network.outputs(images).logits, reference, weights).backward()
        optimizer.step()
        optimizer.zero_grad()


def _segment(config: Config, device: torch.device) -> None:
    source = ConstantImage(IMAGES[config.data.dimensions], len(config.data.channels))
    for _ in bands(plan_image(source, _predictor(config, device))):
        pass


def _predictor(config: Config, device: torch.device) -> Predictor:
    return make_predictor(config, build(config).eval(), (1.0,) * len(config.data.classes), device)


def _warm_up(config: Config, device: torch.device) -> None:
    """Run a small training step, in which PyTorch loads its libraries."""
    small = unet([16] * config.data.dimensions, [2, 2], "none", 1)
    _train(schema.parse(small, origin="benchmark"), device)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(measure(json.loads(sys.argv[1]), json.loads(sys.argv[2])))
    else:
        main()
