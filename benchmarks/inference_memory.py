"""Peak memory of a process that segments an image, by the image's length, the memory limit and the number of classes.

    PYTHONPATH=. .venv/bin/python benchmarks/inference_memory.py [lengths] [budgets] [classes] [spacing]

Each row is a separate process that loads a bundle and writes the mask. The peak is its largest resident memory, with Python and
torch. `lengths`: RGB images of 1,024 pixels' width and 1 to 8 times 2,048 pixels' length, all with the same tile size.
`budgets`: an image of 4,096 x 4,096 pixels with limits from 512 MiB on. `classes`: a volume of 512 x 512 x 400 with 2 to 100
classes within 4 GiB, whose logits alone would take up to 42 GB. `spacing`: a volume whose mask has half the spacing of the
network's input.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from random_bundle import write_random_bundle

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

MIB = 2**20


class RandomImage(ImageSource):
    """Image whose random pixels are generated when they are read, so that it takes no memory."""

    mask_format = "tiff"

    def __init__(self, shape: tuple[int, ...], channels: int, spacing_um: tuple[float, ...] | None = None) -> None:
        super().__init__(Geometry(shape, spacing_um), channels, np.dtype(np.uint8))

    def _read(self, region: Region, level: int) -> NDArray[np.uint8]:
        size = [axis.stop - axis.start for axis in region]
        random = np.random.default_rng(region[0].start)
        return random.integers(0, 256, (self.channels, *size), np.uint8)


def main() -> None:
    """Print a table in Markdown for each name on the command line, or for all."""
    ran_on = describe_machine(torch.device("cpu"))
    print(f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, torch {ran_on.versions['torch']}")
    tables: dict[str, Callable[[], None]] = {"lengths": lengths, "budgets": budgets, "classes": classes, "spacing": spacing}
    for name in sys.argv[1:] or tables:
        print(f"\n{name}\n", flush=True)
        tables[name]()


def lengths() -> None:
    """Print the peak for several lengths, and its ratio to that of the shortest image."""
    print("| image | runtime | peak, MB | ratio to the first | s |")
    print("| --- | --- | ---: | ---: | ---: |")
    for runtime in ("torch", "openvino_bfloat16"):
        first = 0
        for times in (1, 2, 4, 8):
            shape = (2048 * times, 1024)
            peak, seconds, _ = measure("histology_unet", shape, runtime, None, "inference.tile_size=[512,512]")
            first = first or peak
            print(
                f"| {shape[0]:,} x {shape[1]:,} | {runtime} | {peak / 1e6:.0f} | {peak / first:.3f} | {seconds:.1f} |",
                flush=True,
            )


def budgets() -> None:
    """Print the peak and its share of the limit, for several limits."""
    print("| limit, MiB | runtime | peak, MiB | share of the limit | s |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for mib, runtime in (
        (512, "torch"),
        (1024, "torch"),
        (1024, "openvino_bfloat16"),
        (2048, "openvino_bfloat16"),
        (4096, "openvino_bfloat16"),
    ):
        peak, seconds, _ = measure("histology_unet", (4096, 4096), runtime, mib * MIB, "inference.tile_size=null")
        print(f"| {mib:,} | {runtime} | {peak / MIB:,.0f} | {peak / MIB / mib:.0%} | {seconds:.1f} |", flush=True)


def classes() -> None:
    """Print the peak for several numbers of classes."""
    print("| classes | the logits alone, GB | peak, GB | s |")
    print("| ---: | ---: | ---: | ---: |")
    for count in (2, 20, 100):
        sections = ",".join(f"{{name: c{number}, colour: '#000000'}}" for number in range(count))
        overrides = (f"data.classes=[{sections}]", "model.features=[8,16,32]", "inference.tile_size=[96,96,96]")
        peak, seconds, _ = measure(
            "mri_unet", (512, 512, 400), "openvino_bfloat16", 4096 * MIB, *overrides, "inference.overlap=0.25"
        )
        alone = 4 * count * 512 * 512 * 400 / 1e9
        print(f"| {count} | {alone:.1f} | {peak / 1e9:.2f} | {seconds:.0f} |", flush=True)


def spacing() -> None:
    """Print the time of resampling logits to the image's spacing beside that of the network."""
    print("| image, voxels | input of the network | s in all | s of the network | s of the rest |")
    print("| --- | --- | ---: | ---: | ---: |")
    overrides = ("data.spacing_um=[1000,1000,1000]", "model.features=[16,32,64,128]", "inference.tile_size=[96,96,96]")
    _, seconds, network_s = measure("mri_unet", (320, 320, 320), "openvino_bfloat16", None, *overrides)
    print(f"| 320 x 320 x 320 | 160 x 160 x 160 | {seconds:.1f} | {network_s:.1f} | {seconds - network_s:.1f} |", flush=True)


def measure(
    name: str, shape: Sequence[int], runtime: str, memory_bytes: int | None, *overrides: str
) -> tuple[int, float, float]:
    """Return the peak bytes of a separate process, its seconds from the first tile to the last row, and the network's share."""
    words = [name, ",".join(map(str, shape)), runtime, str(memory_bytes or 0), *overrides]
    command = [sys.executable, __file__, "apart", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
    peak, seconds, network_s = result.stdout.split()
    return int(peak), float(seconds), float(network_s)


def apart(name: str, size: str, runtime: str, memory: str, *overrides: str) -> None:
    """Segment an image in this process, and print its peak bytes, its seconds and the network's seconds."""
    shape = tuple(int(side) for side in size.split(","))
    config = schema.load(Path(f"configs/{name}.yaml"), (*overrides, "run.name=benchmark", *RANGE))
    with tempfile.TemporaryDirectory() as folder:
        loaded = bundle.load(write_random_bundle(Path(folder) / "bundle", config))
        predictor = load_predictor(loaded, torch.device("cpu"), runtime, int(memory) or None)
        network_pass, network_s = predictor.run, 0.0

        def timed(patches: torch.Tensor) -> torch.Tensor:
            nonlocal network_s
            start_s = time.perf_counter()
            logits = network_pass(patches)
            network_s += time.perf_counter() - start_s
            return logits

        predictor = predictor.with_passes(lambda _: timed)
        spacing_um = (500.0,) * 3 if config.data.spacing_um == (1000.0,) * 3 else None
        source = RandomImage(shape, len(config.data.channels), spacing_um)
        with open_writer(Path(folder) / "mask.tiff", source.geometry, format="tiff", classes=config.data.classes) as writer:
            result = segment(plan_image(source, predictor, scratch_folder=Path(folder)), Writers([writer]))
        print(peak_resident_bytes(), result.seconds, network_s)


RANGE = ("normalise.method=range", "normalise.lower=0", "normalise.upper=255")

if __name__ == "__main__":
    if sys.argv[1:2] == ["apart"]:
        apart(*sys.argv[2:])
    else:
        main()
