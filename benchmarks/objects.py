"""Time and memory of finding 300,000 objects in a mask of 20,480 x 20,480 pixels, beside the network's time for those pixels.

    PYTHONPATH=. .venv/bin/python benchmarks/objects.py [--side 20480] [--objects components watershed] [--bundle BUNDLE]

The mask is synthetic: discs of 7 to 16 pixels' radius in cells of 37, a tenth of them as two that overlap, and pinholes. The
image is a TIFF of JPEG tiles with noise. Each way of finding objects runs in a fresh process: without the image, with it (its
channels are measured), and with clean-up. The peak is the largest resident memory of that process, Python included. The network
is the bundle, or a U-Net of 16 to 256 features with random weights; its time is extrapolated from a piece of 4,096 a side.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from giant_slide import network
from imagecodecs import jpeg_encode
from numpy.typing import NDArray
from tifffile import TiffWriter

from configs.inference_section import InferenceSection
from evaluation.comparison.measurement import describe_machine
from imaging.open import open_image
from imaging.source import Geometry, ImageSource, Region
from imaging.writing.row_buffer import BufferFile, RowBuffer
from inference.objects.find import find_objects
from inference.predictors.loading import load_predictor
from inference.segment import segment_array
from models import bundle

CELL_PX = 37
TILE_PX = 512
PIECE_PX = 4096
CLEANUP = {"largest_hole_px": 20, "opening_radius_px": 2, "smallest_object_px": 30}


class Piece(ImageSource):
    """Piece of another image, from its first pixel on."""

    mask_format = "tiff"

    def __init__(self, source: ImageSource, side: int) -> None:
        super().__init__(Geometry((side, side)), source.channels, source.dtype)
        self._source = source

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self._source.read(region, level)


def main() -> None:
    """Print objects, seconds and peak memory of each way, and the network's seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_480)
    parser.add_argument("--objects", nargs="+", default=["components", "watershed"])
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a fresh process measures, as JSON
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(**json.loads(arguments.measure))))
        return
    ran_on = describe_machine(torch.device("cpu"))
    print(f"{ran_on.processor}, {ran_on.cores} cores, torch {ran_on.versions['torch']}, {arguments.side:,} pixels a side")
    with tempfile.TemporaryDirectory() as folder:
        draw_mask(Path(folder, "rows"), arguments.side)
        draw_image(Path(folder, "image.tif"), arguments.side)
        seconds = network_seconds(Path(folder), arguments.side, arguments.bundle)
        print(f"network: {seconds:.0f} s for all pixels", flush=True)
        for objects in arguments.objects:
            for name, is_measured, section in (
                ("without the image", False, {}),
                ("with the image", True, {}),
                ("with the image and clean-up", True, CLEANUP),
            ):
                work = {
                    "folder": folder,
                    "side": arguments.side,
                    "is_measured": is_measured,
                    "section": {"objects": objects, **section},
                }
                command = [sys.executable, __file__, "--measure", json.dumps(work)]
                facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                print(
                    f"{objects}, {name}: {facts['count']:,} objects, {facts['seconds']:.1f} s "
                    f"({facts['seconds'] / seconds:.0%} of the network's), peak {facts['peak_bytes'] / 2**20:,.0f} MiB, "
                    f"{facts['before_bytes'] / 2**20:,.0f} MiB of it before the pass",
                    flush=True,
                )


def measured(folder: str, side: int, is_measured: bool, section: dict[str, Any]) -> dict[str, float]:
    """Return the number of objects, the seconds, and the peak memory of this process before the pass and after it."""
    before_bytes = peak_bytes()
    with (
        RowBuffer(BufferFile(Path(folder, "rows"), side), (side, side), np.dtype(np.uint8)) as mask,
        open_image(Path(folder, "image.tif")) as image,
    ):
        start_s = time.perf_counter()
        count = sum(1 for _ in find_objects(mask, InferenceSection(**section), image=image if is_measured else None))
        seconds = time.perf_counter() - start_s
    return {"count": count, "seconds": seconds, "peak_bytes": peak_bytes(), "before_bytes": before_bytes}


def peak_bytes() -> int:
    """Return the largest resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def network_seconds(folder: Path, side: int, bundle_folder: Path | None) -> float:
    """Return the time of the network for all pixels of the image, extrapolated from a piece of it."""
    predictor = load_predictor(bundle.load(bundle_folder or network(folder / "bundle")), torch.device("cpu"))
    with open_image(folder / "image.tif") as image:
        piece = Piece(image, min(PIECE_PX, side))
        segment_array(Piece(image, min(1024, side)), predictor)  # compiles the network
        start_s = time.perf_counter()
        segment_array(piece, predictor)
        return (time.perf_counter() - start_s) * (side / piece.shape[0]) ** 2


def draw_mask(path: Path, side: int) -> None:
    """Write the rows of the mask."""
    random, cells = np.random.default_rng(0), side // CELL_PX
    cell, column = np.divmod(np.arange(cells * CELL_PX), CELL_PX)
    row = np.arange(CELL_PX)[:, None]
    with RowBuffer(BufferFile(path), (side, side), np.dtype(np.uint8)) as mask:
        for _ in range(cells):
            rows = np.zeros((CELL_PX, side), np.uint8)
            y, x = random.uniform(16, 20, (2, cells))[:, cell]
            radius = random.uniform(7, 16, cells)
            is_double = random.random(cells) < 0.1
            radius, shift = np.where(is_double, 8, radius)[cell], np.where(is_double, 6, 0)[cell]
            for side_shift in (-shift, shift):
                rows[:, : len(cell)] |= (row - y) ** 2 + (column - x - side_shift) ** 2 <= radius**2
            rows[random.random(rows.shape) < 1e-4] = 0
            mask.append(rows)
        mask.append(np.zeros((side - cells * CELL_PX, side), np.uint8))


def draw_image(path: Path, side: int) -> None:
    """Write a TIFF of JPEG tiles, each with the same noise."""
    noise = np.random.default_rng(0).integers(80, 220, (TILE_PX // 4, TILE_PX // 4, 3)).astype(np.uint8)
    tile = jpeg_encode(noise.repeat(4, axis=0).repeat(4, axis=1), level=90)

    def tiles() -> Iterator[bytes]:
        for _ in range((-(-side // TILE_PX)) ** 2):
            yield tile

    with TiffWriter(path, bigtiff=True) as tiff:
        options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
        tiff.write(tiles(), shape=(side, side, 3), dtype=np.uint8, tile=(TILE_PX, TILE_PX), **options)


if __name__ == "__main__":
    main()
