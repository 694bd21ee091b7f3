"""Memory budget of one image: the memory that its tiles take, and the tiles that fit."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from configs.quantities import size_text
from imaging.errors import ImageTooLarge
from inference.tiling.grid import Axis, Grid
from inference.tiling.stitch import rows_per_group

TILE_SIDES_PX = {2: (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048), 3: (32, 48, 64, 96, 128, 160, 192, 256)}
WORK_TOLERANCE = 1.05  # factor of the least work; of all tiles within it, those that take the least memory are chosen
BANDS_ALIVE = 10  # arrays of a band's size while it becomes a mask, such as probabilities and their logarithms
STATISTICS_BYTES = 48 * 2**20  # while an image is read once for its mean and deviation
FRAGMENTATION = 1.08  # factor for unused memory between arrays of different sizes


@dataclass(frozen=True)
class PassMemory:
    """Memory that a batch of tiles takes in the network, beyond the loaded weights.

    Args:
        fixed_bytes: memory that doesn't depend on the tiles.
        pixel_bytes: memory per pixel of a tile.
        scattered_bytes: unused memory between arrays, per pixel of a tile.
        most_scattered_bytes: limit of that unused memory.
    """

    fixed_bytes: int
    pixel_bytes: float
    scattered_bytes: float
    most_scattered_bytes: int

    def bytes_of(self, pixels: int) -> int:
        """Return the memory of a batch of tiles with that many pixels each."""
        scattered = min(self.scattered_bytes * pixels, self.most_scattered_bytes)
        return round(self.fixed_bytes + self.pixel_bytes * pixels + scattered)


@dataclass(frozen=True)
class MemoryUse:
    """Memory that an image takes: `host_bytes` of the whole process, `device_bytes` of a GPU, `scratch_bytes` of the disk."""

    host_bytes: int
    device_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class MemoryBudget:
    """Memory that a process may take for one image, and that its network takes.

    Args:
        memory_bytes: limit of the whole process.
        process_bytes: memory of the process before an image is opened.
        device_bytes: memory that the network may take on a GPU; None if it runs on the CPU.
        network: memory of a pass.
        channels: channels of the images.
        outputs: outputs of the network, R.
        batch_size: tiles that go through the network together.
        blends: whether tiles overlap.
        shares: number of images, or members of an ensemble, that are processed together and share the free memory equally.
        most_side_px: largest side of a tile, which limits the time that one takes; None: unlimited.
    """

    memory_bytes: int
    process_bytes: int
    device_bytes: int | None
    network: PassMemory
    channels: int
    outputs: int
    batch_size: int
    blends: bool
    shares: int = 1
    most_side_px: int | None = None

    @property
    def free_bytes(self) -> int:
        """Memory that an image may take beyond that of the process."""
        return (self.memory_bytes - self.process_bytes) // self.shares

    def use(self, grid: Grid) -> MemoryUse:
        """Return the memory that an image with this grid takes. Logits that don't fit into memory are on the disk."""
        pixels = math.prod(grid.tile_size)
        network_bytes = self.network.bytes_of(pixels)
        row_pixels = math.prod(grid.shape[1:])
        # three batches, in use, prefetched and being stacked, and a channel in float64 with its temporary arrays
        patch_bytes = 3 * 4 * self.batch_size * self.channels * pixels + 24 * pixels
        band_rows = min(grid.shape[0], rows_per_group((self.outputs, *grid.shape)))
        band_bytes = BANDS_ALIVE * 4 * self.outputs * row_pixels * band_rows
        statistics_bytes = min(STATISTICS_BYTES, 32 * self.channels * math.prod(grid.shape))
        blending_bytes = 4 * grid.most_rows * row_pixels + 12 * pixels if self.blends else 0
        logits_bytes = 4 * self.outputs * grid.most_rows * row_pixels
        host_bytes = patch_bytes + band_bytes + blending_bytes + statistics_bytes
        if self.device_bytes is None:
            host_bytes += network_bytes
        is_on_disk = FRAGMENTATION * (host_bytes + logits_bytes) > self.free_bytes
        host_bytes += 4 * self.outputs * pixels if is_on_disk else logits_bytes  # on the disk: only those that a tile touches
        return MemoryUse(
            host_bytes=round(self.process_bytes + FRAGMENTATION * host_bytes),
            device_bytes=0 if self.device_bytes is None else network_bytes,
            scratch_bytes=logits_bytes if is_on_disk else 0,
        )

    def allows(self, use: MemoryUse) -> bool:
        """Return whether that memory is within the budget."""
        fits_device = self.device_bytes is None or use.device_bytes <= self.device_bytes
        return use.host_bytes - self.process_bytes <= self.free_bytes and fits_device

    def best_grid(self, shape: tuple[int, ...], axis: Callable[[int, int, int], Axis]) -> Grid:
        """Return the tiles with the least work among those that fit, or with the least memory if none fit.

        Margins are computed and dropped, so that larger tiles need less work in all, up to an image in one piece.

        Args:
            shape: (*S) of the image.
            axis: returns the tiles along an axis; takes its number, the image's size and the largest tile size.
        """
        sides = [side for side in TILE_SIDES_PX[len(shape)] if self.most_side_px is None or side <= self.most_side_px]
        axes = [{side: axis(number, size, side) for side in sides} for number, size in enumerate(shape)]
        grids = [  # tiles as high as they are wide, and flatter ones, which need less memory in a wide image
            Grid((axes[0][rows], *(along[others] for along in axes[1:])))
            for rows, others in itertools.combinations_with_replacement(sides, 2)
        ]
        uses = [(grid, self.use(grid)) for grid in grids]
        fitting = [(grid, use) for grid, use in uses if self.allows(use) and not use.scratch_bytes]
        fitting = fitting or [(grid, use) for grid, use in uses if self.allows(use)]
        if not fitting:
            return min(uses, key=lambda each: each[1].host_bytes)[0]
        least_work = min(network_pixels(grid) for grid, _ in fitting)
        good = [(grid, use) for grid, use in fitting if network_pixels(grid) <= WORK_TOLERANCE * least_work]
        return min(good, key=lambda each: (each[1].host_bytes + each[1].device_bytes, network_pixels(each[0])))[0]

    def check(self, grid: Grid) -> None:
        """Check that an image with this grid fits into the budget.

        Raises:
            ImageTooLarge: `memory_too_small`: it doesn't fit, however small the tiles.
        """
        use = self.use(grid)
        if self.allows(use):
            return
        if self.device_bytes is not None and use.device_bytes > self.device_bytes:
            raise ImageTooLarge(
                "memory_too_small",
                f"tiles of {grid.tile_size} take {size_text(use.device_bytes)} of the GPU's memory, but "
                f"{size_text(self.device_bytes)} are available; choose a smaller inference.tile_size",
                self.device_bytes,
            )
        required = size_text(self.process_bytes + (use.host_bytes - self.process_bytes) * self.shares, up=True)
        raise ImageTooLarge(
            "memory_too_small",
            f"an image of {' x '.join(map(str, grid.shape))} takes {required} of memory with tiles of {grid.tile_size}, but "
            f"{size_text(self.memory_bytes)} are allowed; allow more with --memory {required.replace(' ', '')} or "
            "inference.memory_bytes",
            self.memory_bytes,
        )


def network_pixels(grid: Grid) -> int:
    """Return the number of pixels that go through the network."""
    return len(grid) * math.prod(grid.tile_size)
