"""How much memory a process takes in all while an image is segmented: over lengths, budgets and numbers of classes.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_memory.py [lengths] [budgets] [classes] [spacing]

Each row is a process of its own that loads a bundle and writes the mask, and whose peak is its largest resident memory, Python
and torch included. `lengths`: RGB images of 1,024 pixels' width and 1 to 8 times 2,048 pixels' length, with the tiles of the
first. `budgets`: one of 4,096 x 4,096 pixels within 512 MiB and more. `classes`: a volume of 512 x 512 x 400 with 2 to 100
classes within 4 GiB, whose logits alone would take up to 42 GB. `spacing`: a volume whose mask comes back at half the spacing
that the network sees.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from configs import schema
from disk.process import peak_resident_bytes
from evaluation.comparison.measurement import describe_machine
from imaging.source import Geometry, ImageSource, Region
from imaging.writing.band_writer import open_writer
from inference.plan import plan_image
from inference.predictors.loading import load_predictor
from inference.request import Writers
from inference.segment import segment
from models import bundle
from models.architectures import build

MIB = 2**20
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


class Noise(ImageSource):
    """An image that is made when it is read: what is measured isn't the image."""

    mask_format = "tiff"

    def __init__(self, shape: tuple[int, ...], channels: int, spacing_um: tuple[float, ...] | None = None) -> None:
        super().__init__(Geometry(shape, spacing_um), channels, np.dtype(np.uint8))

    def _read(self, region: Region, level: int) -> NDArray[np.uint8]:
        size = [axis.stop - axis.start for axis in region]
        random = np.random.default_rng(region[0].start)
        return random.integers(0, 256, (self.channels, *size), np.uint8)


def main() -> None:
    """Prints a table in Markdown for each that is asked for."""
    ran_on = describe_machine(torch.device("cpu"))
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}")
    tables: dict[str, Callable[[], None]] = {"lengths": lengths, "budgets": budgets, "classes": classes, "spacing": spacing}
    for name in sys.argv[1:] or tables:
        print(f"\n{name}\n", flush=True)
        tables[name]()


def lengths() -> None:
    """Peak over the length, and beside the shortest image's."""
    print("| image | runtime | peak, MB | beside the first | s |")
    print("| --- | --- | ---: | ---: | ---: |")
    for runtime in ("torch", "openvino_bfloat16"):
        first = 0
        for times in (1, 2, 4, 8):
            shape = (2048 * times, 1024)
            peak, seconds, _ = measured("histology_unet", shape, runtime, None, "inference.tile_size=[512,512]")
            first = first or peak
            print(
                f"| {shape[0]:,} x {shape[1]:,} | {runtime} | {peak / 1e6:.0f} | {peak / first:.3f} | {seconds:.1f} |",
                flush=True,
            )


def budgets() -> None:
    """Peak beside what is allowed."""
    print("| allowed, MiB | runtime | peak, MiB | of what is allowed | s |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for mib, runtime in (
        (512, "torch"),
        (1024, "torch"),
        (1024, "openvino_bfloat16"),
        (2048, "openvino_bfloat16"),
        (4096, "openvino_bfloat16"),
    ):
        peak, seconds, _ = measured("histology_unet", (4096, 4096), runtime, mib * MIB, "inference.tile_size=null")
        print(f"| {mib:,} | {runtime} | {peak / MIB:,.0f} | {peak / MIB / mib:.0%} | {seconds:.1f} |", flush=True)


def classes() -> None:
    """Peak over classes."""
    print("| classes | the logits alone, GB | peak, GB | s |")
    print("| ---: | ---: | ---: | ---: |")
    for count in (2, 20, 100):
        named = ",".join(f"{{name: c{number}, colour: '#000000'}}" for number in range(count))
        overrides = (f"data.classes=[{named}]", "model.features=[8,16,32]", "inference.tile_size=[96,96,96]")
        peak, seconds, _ = measured(
            "mri_unet", (512, 512, 400), "openvino_bfloat16", 4096 * MIB, *overrides, "inference.overlap=0.25"
        )
        alone = 4 * count * 512 * 512 * 400 / 1e9
        print(f"| {count} | {alone:.1f} | {peak / 1e9:.2f} | {seconds:.0f} |", flush=True)


def spacing() -> None:
    """What bringing a mask back to the image's own spacing takes beside the network."""
    print("| image, voxels | of which the network sees | s in all | s of the network | s of the rest |")
    print("| --- | --- | ---: | ---: | ---: |")
    overrides = ("data.spacing_um=[1000,1000,1000]", "model.features=[16,32,64,128]", "inference.tile_size=[96,96,96]")
    _, seconds, network_s = measured("mri_unet", (320, 320, 320), "openvino_bfloat16", None, *overrides)
    print(f"| 320 x 320 x 320 | 160 x 160 x 160 | {seconds:.1f} | {network_s:.1f} | {seconds - network_s:.1f} |", flush=True)


def measured(
    name: str, shape: Sequence[int], runtime: str, memory_bytes: int | None, *overrides: str
) -> tuple[int, float, float]:
    """Peak bytes of a process, its seconds from the first tile to the last row, and the network's of them."""
    words = [name, ",".join(map(str, shape)), runtime, str(memory_bytes or 0), *overrides]
    done = subprocess.run([sys.executable, __file__, "apart", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    peak, seconds, network_s = done.stdout.split()
    return int(peak), float(seconds), float(network_s)


def apart(name: str, size: str, runtime: str, memory: str, *overrides: str) -> None:
    """The process' whole life."""
    shape = tuple(int(side) for side in size.split(","))
    config = schema.load(Path(f"configs/{name}.yaml"), (*overrides, "run.name=benchmark", *RANGE))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        prior = (1 / len(config.data.classes),) * len(config.data.classes)
        bundle.write(Path(folder) / "bundle", build(config), config, class_prior=prior, **FACTS)
        loaded = bundle.load(Path(folder) / "bundle")
        predictor = load_predictor(loaded, torch.device("cpu"), runtime, int(memory) or None)
        by_network, network_s = predictor.run, 0.0

        def timed(patches: torch.Tensor) -> torch.Tensor:
            nonlocal network_s
            start_s = time.perf_counter()
            answer = by_network(patches)
            network_s += time.perf_counter() - start_s
            return answer

        predictor = predictor.with_passes(lambda _: timed)
        spacing_um = (500.0,) * 3 if config.data.spacing_um == (1000.0,) * 3 else None
        source = Noise(shape, len(config.data.channels), spacing_um)
        with open_writer(Path(folder) / "mask.tiff", source.geometry, format="tiff", classes=config.data.classes) as writer:
            result = segment(plan_image(source, predictor, scratch_folder=Path(folder)), Writers([writer]))
        print(peak_resident_bytes(), result.seconds, network_s)


RANGE = ("normalise.method=range", "normalise.lower=0", "normalise.upper=255")

if __name__ == "__main__":
    if sys.argv[1:2] == ["apart"]:
        apart(*sys.argv[2:])
    else:
        main()
