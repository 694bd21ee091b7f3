"""Images on another grid over the same extent: the best level is read and averaged or interpolated, region by region.

Pixel i of n covers the i-th of n equal parts of the extent, so its centre lies at (i + 0.5) * old / new - 0.5 of the old
grid. Weights fall off linearly over one pixel of the coarser of both grids: bilinear interpolation where the new grid is
finer, and an average without aliasing where it is coarser.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imaging.source import Geometry, ImageSource, Region


class ResampledSource(ImageSource):
    """An image resampled to a grid of another size.

    Any region equals the same part of the whole, bit by bit. Integers are rounded to integers.

    Args:
        source: image that is resampled; closed with this one.
        shape: size of the new grid in S order.
        labels: each pixel gets the label of the largest weight there, the lowest of several; no label is interpolated.
    """

    def __init__(self, source: ImageSource, shape: tuple[int, ...], *, labels: bool = False) -> None:
        self._source = source
        self._labels = labels
        fine_enough = [  # levels with at least the requested pixels, within 1 percent
            number
            for number, level in enumerate(source.levels)
            if all(size >= 0.99 * least for size, least in zip(level.shape, shape, strict=True))
        ]
        self._level = min(fine_enough, key=lambda number: source.levels[number].shape, default=0)  # the coarsest of them
        self.mask_format = source.mask_format  # type: ignore[misc]  # that of its source
        super().__init__(Geometry(shape, spacing_of(source, shape)), source.channels, source.dtype)

    @property
    def held_bytes(self) -> int:
        """Upper limit of the memory that the source keeps between reads."""
        return self._source.held_bytes

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        sizes = self._source.levels[self._level].shape
        axes = [Weights(axis, new, old) for axis, new, old in zip(region, self.shape, sizes, strict=True)]
        stored = self._source.read(tuple(axis.needed for axis in axes), self._level)
        if self._labels:
            return _heaviest_label(stored, axes)
        resampled = resample(stored, axes)
        return resampled if self.dtype.kind == "f" else np.rint(resampled).astype(self.dtype)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class Weights:
    """Weights of old pixels in a range of new pixels along one axis.

    Args:
        pixels: range of pixels of the new grid.
        new: size of the new grid.
        old: size of the old grid.
    """

    def __init__(self, pixels: slice, new: int, old: int) -> None:
        scale = old / new
        reach = max(1.0, scale)
        centres = (np.arange(pixels.start, pixels.stop) + 0.5) * scale - 0.5
        taps = np.floor(centres - reach).astype(np.int64)[:, None] + 1 + np.arange(int(np.ceil(2 * reach)))  # (out, taps)
        weights = np.maximum(0.0, 1 - np.abs(taps - centres[:, None]) / reach)
        weights[(taps < 0) | (taps >= old)] = 0
        weights /= weights.sum(axis=1, keepdims=True)
        rows, places = np.nonzero(weights)
        columns = taps[rows, places]
        self.needed = slice(int(columns.min()), int(columns.max()) + 1)
        self.copies = new == old
        shape = (len(centres), self.needed.stop - self.needed.start)
        values = weights[rows, places].astype(np.float32)
        self.matrix = sparse.csr_array((values, (rows, columns - self.needed.start)), shape)  # (out, in)


def resample(pixels: NDArray[Any], axes: list[Weights]) -> NDArray[np.float32]:
    """Return the new pixels (C, *S), float32, from the old pixels that `axes` need."""
    result = pixels.astype(np.float32)
    for number, axis in enumerate(axes, start=1):
        if axis.copies:
            continue
        first = np.moveaxis(result, number, 0)  # (in, rest)
        mixed = axis.matrix @ first.reshape(len(first), -1)
        result = np.moveaxis(mixed.reshape(-1, *first.shape[1:]), 0, number)
    return np.ascontiguousarray(result)


def shape_at(source: ImageSource, spacing_um: tuple[float, ...]) -> tuple[int, ...]:
    """Return the size of the grid that has about this spacing; a source without a spacing keeps its own size."""
    spacings = zip(source.shape, source.spacing_um or spacing_um, spacing_um, strict=True)
    return tuple(max(1, round(size * old_um / new_um)) for size, old_um, new_um in spacings)


def spacing_of(source: ImageSource, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    """Return the spacing of a grid of that size over the source's extent; None where the source has none."""
    if source.spacing_um is None:
        return None
    return tuple(um * old / new for um, old, new in zip(source.spacing_um, source.shape, shape, strict=True))


def _heaviest_label(stored: NDArray[Any], axes: list[Weights]) -> NDArray[Any]:
    """Return the label of the largest weight at each new pixel, the lowest of several with equal weights."""
    values = np.unique(stored)
    result = np.full([len(stored), *(axis.matrix.shape[0] for axis in axes)], values[0], stored.dtype)
    heaviest = resample(stored == values[0], axes)
    for value in values[1:]:
        weight = resample(stored == value, axes)
        heavier = weight > heaviest + 1e-6  # weights that differ by rounding keep the lower label
        result[heavier] = value
        heaviest[heavier] = weight[heavier]
    return result
