"""What an image will take: memory, disk and time, said before anything runs."""

import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs.quantities import size_text
from imaging.errors import ImageTooLarge
from imaging.source import ImageSource
from inference.compatibility import as_trained, check_suitable
from inference.predictors.ensemble import Ensemble, predictors_of
from inference.predictors.predictor import Predictor
from inference.request import WHOLE, Part
from inference.segment import count_tiles
from inference.tiling.grid import Grid
from inference.tiling.memory_budget import Room, check_holds


@dataclass(frozen=True)
class Estimate:
    """What an image takes.

    Args:
        shape: the image's.
        tiles: of each bundle how many are looked at, and their size.
        host_bytes: of memory, the process in all.
        memory_bytes: that it may have.
        device_bytes: of a GPU.
        disk_bytes: while it works and afterwards.
        seconds: of the networks; None where they weren't timed.
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
        """In a line."""
        tiles = " and ".join(f"{count:,} tile{'s' if count > 1 else ''} of {_by(size)}" for count, size in self.tiles)
        on_gpu = f", {size_text(self.device_bytes)} of the GPU's" if self.device_bytes else ""
        takes = "" if self.seconds is None else f", about {_duration(self.seconds)}"
        return (
            f"{_by(self.shape)} pixels in {tiles}: {size_text(self.host_bytes)} of memory ({size_text(self.memory_bytes)} are "
            f"allowed){on_gpu}, {size_text(self.disk_bytes)} of the disk{takes}"
        )


def estimate(source: ImageSource, predictor: Predictor | Ensemble, pixel_bytes: int, part: Part = WHOLE) -> Estimate:
    """What the image takes with the tiles that it will be worked on with.

    Args:
        source: an open image.
        predictor: of a bundle, or of several, from where bundles are loaded.
        pixel_bytes: that the outputs hold for each pixel.
        part: of the image.

    Raises:
        UnsuitableImage: the image's dimensions, channels or spacing aren't what the network was trained for.
    """
    check_suitable(source, predictor.config)
    members = predictors_of(predictor)
    tiled = [_tiled(source, each) for each in members]
    needs = [room.need(grid) for room, grid in tiled]
    first = tiled[0][0]
    return Estimate(
        shape=source.shape,
        tiles=tuple((count_tiles(source, each, part), grid.tile_size) for each, (_, grid) in zip(members, tiled, strict=True)),
        host_bytes=first.process_bytes + sum(need.host_bytes - first.process_bytes for need in needs),
        memory_bytes=first.memory_bytes,
        device_bytes=sum(need.device_bytes for need in needs),
        disk_bytes=2 * pixel_bytes * math.prod(source.shape) + sum(need.scratch_bytes for need in needs),
    )


def timed(taken: Estimate, predictor: Predictor | Ensemble) -> Estimate:
    """The same with seconds: a tile goes through each network, twice, since the first one sets things up."""
    members = zip(predictors_of(predictor), taken.tiles, strict=True)
    return replace(taken, seconds=sum(count * _tile_s(member, size) for member, (count, size) in members))


def check_memory(source: ImageSource, predictor: Predictor | Ensemble) -> None:
    """Nothing, when the image fits.

    Raises:
        ImageTooLarge: `memory_too_small`: it doesn't, however small the tiles.
    """
    for each in predictors_of(predictor):
        check_holds(*_tiled(source, each))


def _tiled(source: ImageSource, predictor: Predictor) -> tuple[Room, Grid]:
    if predictor.room is None:
        raise ValueError("a predictor without a room; take it from where bundles are loaded")
    return predictor.room, predictor.grid(as_trained(source, predictor.config.data).shape)


def check_disk(wanted: Estimate, folder: Path) -> None:
    """Nothing, when the outputs fit onto the folder's disk.

    Raises:
        ImageTooLarge: `disk_too_small`: they don't.
    """
    free = shutil.disk_usage(folder).free
    if wanted.disk_bytes > free:
        raise ImageTooLarge(
            "disk_too_small",
            f"an image of {_by(wanted.shape)} takes {size_text(wanted.disk_bytes)} of the disk while it is worked on, "
            f"{size_text(free)} are free; free some, or choose a folder on another disk",
            free,
        )


def _tile_s(predictor: Predictor, tile_size: tuple[int, ...]) -> float:
    """Of one tile, once what is set up at the first one is there."""
    patches = np.zeros((1, len(predictor.config.data.channels), *tile_size), np.float32)
    predictor(patches)
    began = time.perf_counter()
    predictor(patches)
    return time.perf_counter() - began


def _by(size: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in size)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
