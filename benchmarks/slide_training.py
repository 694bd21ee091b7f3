"""Memory of training on a slide of 20,480 x 20,480 pixels, compared with an image of 1,024 x 1,024.

Both are synthetic and written tile by tile, so that they are never in memory as a whole. The shipped histology_unet trains for
a few steps on each, in a separate process whose peak memory is read at its end. The small image validates both runs, so that
only training differs; a third run also validates on the slide.
"""

import csv
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from tests.phantom import draw_slide

SIDES_PX = {"small": 1_024, "large": 20_480}
RUNS = {"small": ("small", "small"), "large": ("large", "small"), "both": ("large", "large")}  # trains on, validates on
TILE_PX = 512
PATTERNS = 8
LEVELS = 4
STEPS = 20
SPACING_UM = 0.25
ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (f"trainer.max_steps={STEPS}", f"trainer.validate_every_steps={STEPS}", "trainer.workers=0")

Tile = tuple[NDArray[np.uint8], NDArray[np.uint8]]


class SyntheticSlide:
    """Square slide of a few patterns that are turned at random; its tiles are computed one at a time."""

    def __init__(self, side_px: int, patterns: list[Tile], seed: int) -> None:
        self.tiles = side_px // TILE_PX
        self.side_px = side_px
        self._patterns = patterns
        self._choices = np.random.default_rng(seed).integers(0, [len(patterns), 4], (self.tiles, self.tiles, 2))

    def tiles_of(self, level: int, part: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the tiles of a level in TIFF order; part 0 is the image (H, W, 3), part 1 the reference (H, W)."""
        step = 2**level
        for row in range(0, self.tiles, step):
            for column in range(0, self.tiles, step):
                yield np.concatenate([self._row(above, column, step, part) for above in range(row, row + step)])

    def _row(self, row: int, column: int, step: int, part: int) -> NDArray[np.uint8]:
        return np.concatenate(
            [self._tile(row, beside, part)[::step, ::step] for beside in range(column, column + step)], axis=1
        )

    def _tile(self, row: int, column: int, part: int) -> NDArray[np.uint8]:
        pattern, turns = self._choices[row, column]
        return np.rot90(self._patterns[pattern][part], turns)


def main() -> None:
    """Print a table in Markdown."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_s = time.perf_counter()
        write_data(folder)
        writing_s = time.perf_counter() - start_s
        print(heading(writing_s, sum(path.stat().st_size for path in folder.glob("train_large*.tif"))))
        print("| trained on | validated on | peak memory, GiB | more than the first, GiB | s |")
        print("| --- | --- | ---: | ---: | ---: |")
        first_bytes = None
        for run, (trained_on, validated_on) in RUNS.items():
            peak_bytes, seconds = in_own_process(folder, run)
            first_bytes = first_bytes or peak_bytes
            sides = f"{SIDES_PX[trained_on]:,}² | {SIDES_PX[validated_on]:,}²"
            more_bytes = peak_bytes - first_bytes
            print(f"| {sides} | {peak_bytes / 2**30:.2f} | {more_bytes / 2**30:.2f} | {seconds:.0f} |", flush=True)


def write_data(folder: Path) -> None:
    """Write the slides, and a data set for each run: a folder with cases.csv and hard links to the slides."""
    patterns = []
    for seed in range(PATTERNS):
        image, mask = draw_slide((TILE_PX, TILE_PX), seed)
        patterns.append((np.ascontiguousarray(np.moveaxis(image, 0, -1)), mask))
    for seed, (split, size) in enumerate(product(("train", "val"), SIDES_PX)):
        slide, name = SyntheticSlide(SIDES_PX[size], patterns, seed), f"{split}_{size}"
        write_slide(folder / f"{name}.tif", slide)
        write_reference(folder / f"{name}_reference.tif", slide)
    for run, names in RUNS.items():
        (folder / run).mkdir()
        with (folder / run / "cases.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("case", "image", "reference", "split"))
            for split, size in zip(("train", "val"), names, strict=True):
                parts = ("image.tif", f"{split}_{size}.tif"), ("reference.tif", f"{split}_{size}_reference.tif")
                for part, slide_name in parts:
                    (folder / run / f"{split}_{part}").hardlink_to(folder / slide_name)
                table.writerow((split, f"{split}_image.tif", f"{split}_reference.tif", split))


def write_slide(path: Path, slide: SyntheticSlide) -> None:
    """Write a pyramid of JPEG tiles, as scanners do."""
    per_cm = 1e4 / SPACING_UM
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in range(LEVELS if slide.tiles >= 2**LEVELS else 1):
            side = slide.side_px // 2**level
            tiff.write(
                slide.tiles_of(level, 0),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(per_cm / 2**level, per_cm / 2**level),
                resolutionunit="centimeter",
                metadata=None,
            )


def write_reference(path: Path, slide: SyntheticSlide) -> None:
    """Write the labels at the slide's full resolution, in tiles."""
    shape = (slide.side_px, slide.side_px)
    tifffile.imwrite(
        path,
        slide.tiles_of(0, 1),
        shape=shape,
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        compression="zlib",
        bigtiff=True,
        metadata=None,
    )


def heading(writing_s: float, large_bytes: int) -> str:
    """Return a line about the machine, the versions and the slides."""
    import torch

    from evaluation.comparison.measurement import describe_machine

    ran_on = describe_machine(torch.device("cpu"))
    versions = ", ".join(f"{name} {version}" for name, version in ran_on.versions.items())
    return (
        f"{ran_on.processor}, {ran_on.cores} cores, {ran_on.threads} threads, {versions}; histology_unet, {STEPS} steps; "
        f"the slide and its reference are {large_bytes / 2**30:.2f} GiB, all four written in {writing_s:.0f} s\n"
    )


def in_own_process(folder: Path, run: str) -> tuple[int, float]:
    """Return the peak resident bytes and the seconds of a training run in a separate process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(train_here, (folder, run))


def train_here(folder: Path, run: str) -> tuple[int, float]:
    """Train in this process, and return its peak resident bytes and the seconds."""
    from rich.console import Console

    from configs.schema import load
    from disk.process import peak_resident_bytes
    from training.run import train

    start_s = time.perf_counter()
    overrides = [f"data.path={folder / run}", f"run.folder={folder}", f"run.name=run_{run}", *SETTINGS]
    train(load(ROOT / "configs" / "histology_unet.yaml", overrides), Console(quiet=True))
    return peak_resident_bytes(), time.perf_counter() - start_s


if __name__ == "__main__":
    main()
