"""The memory that work on one image may take, and the tiles that fit into it."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from configs.quantities import size_text
from imaging.errors import ImageTooLarge
from inference.tiling.grid import Axis, Grid
from inference.tiling.stitch import rows_in_group

SIDES = {2: (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048), 3: (32, 48, 64, 96, 128, 160, 192, 256)}
ENOUGH = 1.05  # times the least work; of tiles that near to it, those that take the least memory
GROUPS = (
    10  # of rows that are alive while a band becomes a mask, counted in bands; probabilities and their logarithms among them
)
READING_BYTES = 48 * 2**20  # while an image is read once for its mean and deviation
SLACK = 1.08  # times what is counted: what lies unused between arrays of different sizes, more of it on a busy machine


@dataclass(frozen=True)
class Pass:
    """What a batch of tiles takes on its way through the network.

    Args:
        fixed_bytes: however large the tiles are.
        pixel_bytes: for each pixel of a tile.
        scattered_bytes: for each pixel, too, but never more than `most_scattered_bytes`.
        most_scattered_bytes: of them.
    """

    fixed_bytes: int
    pixel_bytes: float
    scattered_bytes: float
    most_scattered_bytes: int

    def bytes_of(self, pixels: int) -> int:
        """With tiles of so many pixels."""
        scattered = min(self.scattered_bytes * pixels, self.most_scattered_bytes)
        return round(self.fixed_bytes + self.pixel_bytes * pixels + scattered)


@dataclass(frozen=True)
class Need:
    """What an image takes: `host_bytes` of the process in all, `device_bytes` of a GPU, `scratch_bytes` of the disk."""

    host_bytes: int
    device_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class Room:
    """The memory that a process may take for one image, and what a network takes of it.

    Args:
        memory_bytes: that the process may have in all.
        process_bytes: that it has before an image is opened.
        device_bytes: that the network may have on a GPU; None: it runs on the host.
        network: a pass.
        channels: of the images.
        outputs: R, of the network.
        batch_size: tiles that go through the network together.
        blends: whether tiles overlap.
        shares: images or networks of an ensemble that are worked on together; each may take its share of what is left.
        most_side: pixels that a tile may have at each side, so that nobody waits long for one; None: as many as pay.
    """

    memory_bytes: int
    process_bytes: int
    device_bytes: int | None
    network: Pass
    channels: int
    outputs: int
    batch_size: int
    blends: bool
    shares: int = 1
    most_side: int | None = None

    @property
    def free_bytes(self) -> int:
        """What an image may take beyond what the process has."""
        return (self.memory_bytes - self.process_bytes) // self.shares

    def need(self, grid: Grid) -> Need:
        """What an image takes that is tiled so; logits lie on the disk where they don't fit into memory."""
        pixels = math.prod(grid.tile_size)
        through = self.network.bytes_of(pixels)
        rest = math.prod(grid.shape[1:])
        patches = 4 * self.batch_size * self.channels * pixels * 3 + 24 * pixels  # in use, ahead, stacked; one in float64
        rows = min(grid.shape[0], rows_in_group((self.outputs, *grid.shape)))
        group = GROUPS * 4 * self.outputs * rest * rows
        reading = min(READING_BYTES, 32 * self.channels * math.prod(grid.shape))
        blending = 4 * grid.most_rows * rest + 12 * pixels if self.blends else 0
        logits = 4 * self.outputs * grid.most_rows * rest
        host = patches + group + blending + reading + (through if self.device_bytes is None else 0)
        on_disk = SLACK * (host + logits) > self.free_bytes
        if on_disk:
            host += 4 * self.outputs * pixels  # what a tile touches of it
        return Need(
            host_bytes=round(self.process_bytes + SLACK * (host if on_disk else host + logits)),
            device_bytes=0 if self.device_bytes is None else through,
            scratch_bytes=logits if on_disk else 0,
        )

    def holds(self, need: Need) -> bool:
        """Whether it fits."""
        fits_device = self.device_bytes is None or need.device_bytes <= self.device_bytes
        return need.host_bytes - self.process_bytes <= self.free_bytes and fits_device

    def best_grid(self, shape: tuple[int, ...], axis: Callable[[int, int, int], Axis]) -> Grid:
        """The tiles that cost the network the least among those that fit; the smallest ones where none fit.

        Margins are what is wasted, so that larger tiles cost less, up to an image in one piece.

        Args:
            shape: the image's, (*S).
            axis: the tiles along an axis, by its number, the image's pixels and the largest tile's.
        """
        sides = [side for side in SIDES[len(shape)] if self.most_side is None or side <= self.most_side]
        grids = [(grid, self.need(grid)) for grid in _grids(shape, axis, sides)]
        fitting = [(grid, need) for grid, need in grids if self.holds(need) and not need.scratch_bytes]
        fitting = fitting or [(grid, need) for grid, need in grids if self.holds(need)]
        if not fitting:
            return min(grids, key=lambda each: each[1].host_bytes)[0]
        least = min(_work(grid) for grid, _ in fitting)
        enough = [(grid, need) for grid, need in fitting if _work(grid) <= ENOUGH * least]
        return min(enough, key=lambda each: (each[1].host_bytes + each[1].device_bytes, _work(each[0])))[0]


def check_holds(room: Room, grid: Grid) -> None:
    """Nothing, when the image fits that is tiled so.

    Raises:
        ImageTooLarge: `memory_too_small`: it doesn't, however small the tiles.
    """
    need = room.need(grid)
    if room.holds(need):
        return
    size = " x ".join(map(str, grid.shape))
    if room.device_bytes is not None and need.device_bytes > room.device_bytes:
        raise ImageTooLarge(
            "memory_too_small",
            f"tiles of {grid.tile_size} take {size_text(need.device_bytes)} of the GPU's memory, "
            f"{size_text(room.device_bytes)} are to be had; choose a smaller inference.tile_size",
            room.device_bytes,
        )
    wanted = room.process_bytes + (need.host_bytes - room.process_bytes) * room.shares
    allow = size_text(wanted, up=True)
    raise ImageTooLarge(
        "memory_too_small",
        f"an image of {size} takes {allow} of memory with tiles of {grid.tile_size}, {size_text(room.memory_bytes)} are "
        f"allowed; allow more with --memory {allow.replace(' ', '')} or inference.memory_bytes",
        room.memory_bytes,
    )


def _grids(shape: tuple[int, ...], axis: Callable[[int, int, int], Axis], sides: Sequence[int]) -> Iterator[Grid]:
    """Of tiles as high as they are wide, and of flatter ones, which hold less of a wide image."""
    axes = [{side: axis(number, size, side) for side in sides} for number, size in enumerate(shape)]
    for rows, others in itertools.combinations_with_replacement(sides, 2):
        yield Grid((axes[0][rows], *(along[others] for along in axes[1:])))


def _work(grid: Grid) -> int:
    """Pixels that go through the network."""
    return len(grid) * math.prod(grid.tile_size)
