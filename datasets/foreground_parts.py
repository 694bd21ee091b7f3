"""Connected parts of a reference's foreground: their sides, the holes between them, and what an opening leaves of them."""

from math import ceil, prod

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from imaging.source import Region
from transforms.opening import opening

OBJECT_PIXELS = 2**24  # larger foregrounds are subsampled before connected parts are found
OPENING_RADII = {2: (1, 2, 3), 3: (1,)}  # by dimensions


class ForegroundParts:
    """Sides of the connected parts of the foreground, of the whole image (subsampled where it is large) or of blocks."""

    def __init__(self, shape: tuple[int, ...], in_blocks: bool) -> None:
        self.in_blocks = in_blocks
        self.step = 1 if in_blocks else ceil((prod(shape) / OBJECT_PIXELS) ** (1 / len(shape)))
        self.sides: list[tuple[int, ...]] = []
        self.slabs: list[NDArray[np.bool_]] = []

    def add(self, foreground: NDArray[np.bool_], region: Region) -> None:
        """Add a block, or the next slab of the whole image."""
        if self.in_blocks:
            for part in _connected_parts(foreground):
                if not any(axis.start == 0 or axis.stop == size for axis, size in zip(part, foreground.shape, strict=True)):
                    self.sides.append(_sides(part))  # the block does not cut it
            return
        first = slice(-region[0].start % self.step, None, self.step)
        self.slabs.append(foreground[(first, *[slice(None, None, self.step)] * (foreground.ndim - 1))])

    def median_sides(self) -> tuple[float, ...] | None:
        """Return the median side on each axis, in pixels; None where there is no part."""
        sides = self.sides
        if self.slabs:
            sides = [_sides(part) for part in _connected_parts(np.concatenate(self.slabs))]
        return tuple(float(side) * self.step for side in np.median(sides, axis=0)) if sides else None

    def small_hole_px(self) -> float | None:
        """Return the size that a hundredth of the foreground's holes don't exceed; None without any, or if it is subsampled."""
        if not self._is_complete:
            return None
        foreground = np.concatenate(self.slabs)
        free, count = ndimage.label(~foreground)
        sizes = np.bincount(free.reshape(-1), minlength=count + 1)
        for axis in range(free.ndim):
            sizes[free.take([0, -1], axis)] = 0  # open to the image's border
        holes = sizes[1:][sizes[1:] > 0]
        return float(np.percentile(holes, 1, method="lower")) if len(holes) else None

    def opening_shares(self) -> tuple[float, ...]:
        """Return the shares of the foreground that remain after openings, see `CaseFacts`; empty if it is subsampled."""
        if not self._is_complete or not any(slab.any() for slab in self.slabs):
            return ()
        foreground = np.concatenate(self.slabs)
        remaining = [np.count_nonzero(opening(foreground, radius)) for radius in OPENING_RADII[foreground.ndim]]
        return tuple(count / np.count_nonzero(foreground) for count in remaining)

    @property
    def _is_complete(self) -> bool:
        return self.step == 1 and bool(self.slabs)


def _connected_parts(foreground: NDArray[np.bool_]) -> list[Region]:
    return list(ndimage.find_objects(ndimage.label(foreground)[0]))


def _sides(part: Region) -> tuple[int, ...]:
    return tuple(axis.stop - axis.start for axis in part)
