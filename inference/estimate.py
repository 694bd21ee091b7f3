"""Estimates: the memory, disk and time that an image takes, before anything runs."""

import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs.quantities import size_text
from imaging.errors import ImageTooLarge
from inference.plan import ImagePlan


@dataclass(frozen=True)
class Estimate:
    """Memory, disk and time that an image takes.

    Args:
        shape: (*S) of the image.
        tiles: number and size of the segmented tiles, for each bundle.
        host_bytes: memory that the whole process needs.
        memory_bytes: memory that the process may take.
        device_bytes: memory that is needed on a GPU.
        disk_bytes: disk space for the outputs and, until they are complete, for unfinished rows.
        seconds: time of the networks; None if it was not measured.
    """

    shape: tuple[int, ...]
    tiles: tuple[tuple[int, tuple[int, ...]], ...]
    host_bytes: int
    memory_bytes: int
    device_bytes: int
    disk_bytes: int
    seconds: float | None = None

    @property
    def text(self) -> str:
        """The estimate in one line."""
        tiles = " and ".join(f"{count:,} tile{'s' if count > 1 else ''} of {_by(size)}" for count, size in self.tiles)
        on_gpu = f", {size_text(self.device_bytes)} of the GPU's" if self.device_bytes else ""
        takes = "" if self.seconds is None else f", about {_duration(self.seconds)}"
        return (
            f"{_by(self.shape)} pixels in {tiles}: {size_text(self.host_bytes)} of memory ({size_text(self.memory_bytes)} are "
            f"allowed){on_gpu}, {size_text(self.disk_bytes)} of the disk{takes}"
        )


def estimate(plan: ImagePlan, pixel_bytes: int) -> Estimate:
    """Return the memory and disk space that the plan takes.

    Args:
        plan: plan of the image, whose predictors come from loaded bundles.
        pixel_bytes: bytes on the disk for each pixel, for the outputs and, until they are complete, for unfinished rows.

    Raises:
        ValueError: a predictor has no memory budget, since it was not loaded by `load_predictor`.
    """
    uses, budgets = [], []
    for member in plan.members:
        if member.predictor.memory_budget is None:
            raise ValueError("the predictor has no memory budget; load it with load_predictor")
        budgets.append(member.predictor.memory_budget)
        uses.append(budgets[-1].use(member.grid))
    process_bytes = budgets[0].process_bytes
    return Estimate(
        shape=plan.source.shape,
        tiles=tuple((member.tile_count, member.grid.tile_size) for member in plan.members),
        host_bytes=process_bytes + sum(use.host_bytes - process_bytes for use in uses),
        memory_bytes=budgets[0].memory_bytes,
        device_bytes=sum(use.device_bytes for use in uses),
        disk_bytes=pixel_bytes * math.prod(plan.source.shape) + sum(use.scratch_bytes for use in uses),
    )


def with_seconds(estimated: Estimate, plan: ImagePlan) -> Estimate:
    """Return the estimate with the seconds of the networks, which are measured on one tile of each."""
    seconds = 0.0
    for member, (count, tile_size) in zip(plan.members, estimated.tiles, strict=True):
        patches = np.zeros((1, len(member.predictor.config.data.channels), *tile_size), np.float32)
        member.predictor(patches)  # the first pass includes setting up the network
        start_s = time.perf_counter()
        member.predictor(patches)
        seconds += count * (time.perf_counter() - start_s)
    return replace(estimated, seconds=seconds)


def check_disk(required: Estimate, folder: Path) -> None:
    """Check that the outputs fit onto the folder's disk.

    Raises:
        ImageTooLarge: `disk_too_small`: they don't fit.
    """
    free = shutil.disk_usage(folder).free
    if required.disk_bytes > free:
        raise ImageTooLarge(
            "disk_too_small",
            f"an image of {_by(required.shape)} takes {size_text(required.disk_bytes)} of the disk while it is segmented, but "
            f"{size_text(free)} are free; free some, or choose a folder on another disk",
            free,
        )


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in size)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
