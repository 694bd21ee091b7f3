"""Resampling of logits from the grid that a network was trained at to the image's own grid, band by band."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from imaging.resample import Weights, resample
from inference.tiling.stitch import Band, rows_per_group


def resample_bands(
    bands: Iterable[Band], trained_shape: tuple[int, ...], shape: tuple[int, ...], first_row: int = 0
) -> Iterator[Band]:
    """Yield the bands of an image on another grid over the same extent.

    Holds one band and the rows that the next one still needs, however long the image. New bands have the number of rows that
    are processed at a time. If the shapes are equal, the bands pass through unchanged.

    Args:
        bands: bands from row `first_needed_row(first_row, ...)` on.
        trained_shape: (*S) of the bands' grid.
        shape: (*S) of the new grid.
        first_row: row of the new grid at which the first band begins.
    """
    if trained_shape == shape:
        yield from bands
        return
    other_axes = [Weights(slice(0, size), size, old) for old, size in zip(trained_shape[1:], shape[1:], strict=True)]
    buffer: NDArray[np.float32] | None = None
    buffer_start, next_row = first_needed_row(first_row, trained_shape, shape), first_row
    for band in bands:
        buffer = band.logits if buffer is None else np.concatenate([buffer, band.logits], axis=1)  # (K, rows, *rest)
        stop = _computable_rows(band.start + band.logits.shape[1], trained_shape[0], shape[0])
        step = rows_per_group((len(buffer), *shape))
        for first in range(next_row, stop, step):
            rows = Weights(slice(first, min(first + step, stop)), shape[0], trained_shape[0])
            needed = slice(rows.needed.start - buffer_start, rows.needed.stop - buffer_start)
            yield Band(first, resample(buffer[:, needed], [rows, *other_axes]))  # (K, rows, *rest)
        next_row = max(next_row, stop)
        if next_row < shape[0]:
            first_needed = first_needed_row(next_row, trained_shape, shape)
            buffer = buffer[:, first_needed - buffer_start :]
            buffer_start = first_needed


def first_needed_row(row: int, trained_shape: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return the first row of the trained grid that is needed for the rows from `row` on of the new grid."""
    return row if trained_shape == shape else Weights(slice(row, row + 1), shape[0], trained_shape[0]).needed.start


def _computable_rows(finished: int, trained_size: int, size: int) -> int:
    """Return the number of rows on the new grid that need only the first `finished` rows of the trained grid."""
    if finished == trained_size:
        return size
    scale = trained_size / size
    reach = max(1.0, scale)
    count = max(0, min(size, int((finished - reach + 0.5) / scale + 0.5)))
    while count and Weights(slice(count - 1, count), size, trained_size).needed.stop > finished:
        count -= 1
    return count
