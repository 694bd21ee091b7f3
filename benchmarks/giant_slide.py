"""Time and memory of `overtile predict` on a slide of 100,000 x 100,000 pixels that is mostly glass.

    PYTHONPATH=. .venv/bin/python benchmarks/giant_slide.py [--side 100000] [--memory 2GiB] [--bundle BUNDLE]

The slide is synthetic: a pyramid of JPEG tiles with glass, and pieces of tissue on a hundredth of it. It is segmented by the
bundle, or by a U-Net of 16 to 256 features with random weights; `--tissue` skips glass. The mask is a pyramidal OME-TIFF. The
peak is the largest resident memory of the process, including Python and torch.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from imagecodecs import jpeg_encode
from numpy.typing import NDArray
from random_bundle import write_random_bundle
from tifffile import TiffFile, TiffWriter

from configs import schema
from configs.quantities import parse_memory
from evaluation.comparison.measurement import describe_machine

TILE_PX = 512
STEPS = (1, 4, 16, 64)  # downsampling factors of the pyramid's levels
PIECES = 12
SHARE = 0.01  # share of the slide that is tissue


def main() -> None:
    """Print the estimate, the seconds and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=100_000)
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    ran_on = describe_machine(torch.device("cpu"))
    print(f"{ran_on.processor}, {ran_on.cores} cores, torch {ran_on.versions['torch']}, {arguments.side:,} pixels a side")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        draw(place / "slide.tif", arguments.side)
        print(f"slide: {(place / 'slide.tif').stat().st_size / 1e9:.2f} GB", flush=True)
        words = ["predict", str(place / "slide.tif"), "-b", str(arguments.bundle or network(place / "bundle"))]
        command = [
            sys.executable,
            "-m",
            "overtile",
            *words,
            "-o",
            str(place / "masks"),
            "--tissue",
            "--memory",
            arguments.memory,
        ]
        print(subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True).stderr, flush=True)
        start_s = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        peak = wait_for_peak(process)
        messages = process.stderr.read() if process.stderr else ""
        if process.returncode:
            raise RuntimeError(messages)
        seconds = time.perf_counter() - start_s
        print(messages)
        with TiffFile(next((place / "masks").glob("*.tiff"))) as mask:
            levels = [level.shape for level in mask.series[0].levels]
        allowed = parse_memory(arguments.memory)
        print(f"{seconds:.0f} s, peak {peak / 2**20:,.0f} MiB of {allowed / 2**20:,.0f} MiB, levels of the mask: {levels}")


def wait_for_peak(command: "subprocess.Popen[str]") -> int:
    """Return the largest resident memory of a process as the kernel counts it, once it has ended."""
    peak, process = 0, psutil.Process(command.pid)
    while command.poll() is None:
        status = Path(f"/proc/{process.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.2)
    return peak


def draw(path: Path, side: int) -> None:
    """Write a slide with tissue as discs of purple noise on glass."""
    random = np.random.default_rng(0)
    radius = int(np.sqrt(SHARE / PIECES / np.pi) * side)
    discs = [(*random.integers(radius, side - radius, 2).tolist(), radius) for _ in range(PIECES)]
    texture = random.integers(-40, 40, (TILE_PX, TILE_PX, 3)) + np.array([150, 80, 160])
    glass = jpeg_encode(np.full((TILE_PX, TILE_PX, 3), 243, np.uint8), level=90)
    with TiffWriter(path, bigtiff=True) as tiff:
        for step in STEPS:
            size = -(-side // step)
            tiff.write(
                tiles(discs, texture, glass, size, step),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                subfiletype=0 if step == 1 else 1,
                subifds=len(STEPS) - 1 if step == 1 else None,
                resolution=(40_000 / step, 40_000 / step),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


def tiles(discs: list[tuple[int, int, int]], texture: NDArray[Any], glass: bytes, size: int, step: int) -> Iterator[bytes]:
    """Yield the JPEG tiles of one level, row by row."""
    for top in range(0, size, TILE_PX):
        for left in range(0, size, TILE_PX):
            rows, columns = np.ogrid[top : top + TILE_PX, left : left + TILE_PX]
            near = [disc for disc in discs if _touches(disc, top * step, left * step, TILE_PX * step)]
            inside = np.zeros((TILE_PX, TILE_PX), bool)
            for row, column, radius in near:
                inside |= (rows * step - row) ** 2 + (columns * step - column) ** 2 < radius**2
            if not inside.any():
                yield glass
                continue
            pixels = np.where(inside[..., None], texture, 243).astype(np.uint8)
            yield jpeg_encode(pixels, level=90)


def _touches(disc: tuple[int, int, int], top: int, left: int, size: int) -> bool:
    """Return whether a disc may reach into a square."""
    row, column, radius = disc
    return top - radius < row < top + size + radius and left - radius < column < left + size + radius


def network(folder: Path) -> Path:
    """Write a bundle with random weights, and return its folder."""
    config = schema.load(
        Path("configs/histology_unet.yaml"),
        (
            "model.features=[16,32,64,128,256]",
            "run.name=giant",
            "inference.tile_size=null",
            "inference.runtime=openvino_bfloat16",
        ),
    )
    return write_random_bundle(folder, config)


if __name__ == "__main__":
    main()
