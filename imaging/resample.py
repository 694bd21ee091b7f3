"""An image on another grid over the same extent: the best level is read and averaged or interpolated, region by region.

Pixel i of n covers the i-th n-th of the extent, so its centre lies at (i + 0.5) * old / new - 0.5 of the old grid. Weights
fall off linearly over one pixel of the coarser of both grids: bilinear interpolation where the new grid is finer, and an
average without aliasing where it is coarser.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from imaging.source import Geometry, ImageSource, Level, Region


class ResampledSource(ImageSource):
    """A source as if it had been scanned on a grid of another size.

    Any region equals the same part of the whole, bit by bit. Whole numbers are rounded to whole numbers.

    Args:
        source: what is read; closed with this one.
        shape: of the new grid, in S order.
        labels: each pixel gets the label that has the most weight there (the lowest of equals); none is made up.
    """

    def __init__(self, source: ImageSource, shape: tuple[int, ...], *, labels: bool = False) -> None:
        self._source = source
        self._labels = labels
        self._level = _best_level(source.levels, shape)
        self.mask_format = source.mask_format  # type: ignore[misc]  # a wrapper has its source's
        super().__init__(Geometry(shape, spacing_of(source, shape)), source.channels, source.dtype)

    @property
    def held_bytes(self) -> int:
        """The source's."""
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
        wanted: the range, of the new grid.
        new: the new grid's size.
        old: the old grid's size.
    """

    def __init__(self, wanted: slice, new: int, old: int) -> None:
        scale = old / new
        reach = max(1.0, scale)
        centres = (np.arange(wanted.start, wanted.stop) + 0.5) * scale - 0.5
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
    """(C, *needed) -> (C, *wanted), float32."""
    result = pixels.astype(np.float32)
    for number, axis in enumerate(axes, start=1):
        if axis.copies:
            continue
        first = np.moveaxis(result, number, 0)  # (in, rest)
        mixed = axis.matrix @ first.reshape(len(first), -1)
        result = np.moveaxis(mixed.reshape(-1, *first.shape[1:]), 0, number)
    return np.ascontiguousarray(result)


def shape_at(source: ImageSource, spacing_um: tuple[float, ...]) -> tuple[int, ...]:
    """Return the size of the grid that has about this spacing; the source's spacing must be known."""
    spacings = zip(source.shape, source.spacing_um or spacing_um, spacing_um, strict=True)
    return tuple(max(1, round(size * have / wanted)) for size, have, wanted in spacings)


def spacing_of(source: ImageSource, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    """Return the spacing of a grid of that size over the source's extent; None where the source has none."""
    if source.spacing_um is None:
        return None
    return tuple(have * old / new for have, old, new in zip(source.spacing_um, source.shape, shape, strict=True))


def _best_level(levels: tuple[Level, ...], shape: tuple[int, ...]) -> int:
    """Return the coarsest level that has at least the requested pixels, to a percent; the finest where none has."""
    enough = [
        number
        for number, level in enumerate(levels)
        if all(have >= 0.99 * wanted for have, wanted in zip(level.shape, shape, strict=True))
    ]
    return min(enough, key=lambda number: levels[number].shape, default=0)


def _heaviest_label(stored: NDArray[Any], axes: list[Weights]) -> NDArray[Any]:
    values = np.unique(stored)
    result = np.full([len(stored), *(axis.matrix.shape[0] for axis in axes)], values[0], stored.dtype)
    heaviest = resample(stored == values[0], axes)
    for value in values[1:]:
        weight = resample(stored == value, axes)
        heavier = weight > heaviest + 1e-6  # equal but for rounding stays with the lower label
        result[heavier] = value
        heaviest[heavier] = weight[heavier]
    return result
