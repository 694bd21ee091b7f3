"""Logits on the grid that a network was trained at -> logits on the image's own grid, band by band."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from imaging.resample import Weights, resample
from inference.tiling.stitch import Band, rows_in_group


def regrid(bands: Iterable[Band], seen: tuple[int, ...], shape: tuple[int, ...], first_row: int = 0) -> Iterator[Band]:
    """The bands of an image of the size `seen`, carried to a grid of the size `shape` over the same extent.

    Holds one band and the rows that the next one still needs, however long the image; gives back as many rows at a time as
    are worked on at a time. Equal sizes go through untouched.

    Args:
        bands: from row `needed_row(first_row, ...)` on.
        seen: (*S) of the bands' image.
        shape: (*S) wanted.
        first_row: of the grid wanted, that the first band given back begins with.
    """
    if seen == shape:
        yield from bands
        return
    rest = [Weights(slice(0, size), size, old) for old, size in zip(seen[1:], shape[1:], strict=True)]
    held: NDArray[np.float32] | None = None
    held_from, done = needed_row(first_row, seen, shape), first_row
    for band in bands:
        held = band.logits if held is None else np.concatenate([held, band.logits], axis=1)  # (K, rows, *rest)
        known = band.start + band.logits.shape[1]
        for rows in _row_groups(done, _rows_known(known, seen[0], shape[0]), len(held), shape):
            yield Band(rows.start, _carried(held, held_from, Weights(rows, shape[0], seen[0]), rest))
            done = rows.stop
        if done < shape[0]:
            first_needed = Weights(slice(done, done + 1), shape[0], seen[0]).needed.start
            held = held[:, first_needed - held_from :]
            held_from = first_needed


def needed_row(row: int, seen: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """The first row of an image of the size `seen` that the rows from `row` on need on a grid of the size `shape`."""
    return row if seen == shape else Weights(slice(row, row + 1), shape[0], seen[0]).needed.start


def _rows_known(known: int, seen: int, size: int) -> int:
    """How many rows of the image's own grid need no more than the first `known` rows that the network gave."""
    if known == seen:
        return size
    scale = seen / size
    reach = max(1.0, scale)
    count = max(0, min(size, int((known - reach + 0.5) / scale + 0.5)))
    while count and Weights(slice(count - 1, count), size, seen).needed.stop > known:
        count -= 1
    return count


def _row_groups(start: int, stop: int, classes: int, shape: tuple[int, ...]) -> Iterator[slice]:
    step = rows_in_group((classes, *shape))
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


def _carried(held: NDArray[np.float32], held_from: int, rows: Weights, rest: list[Weights]) -> NDArray[np.float32]:
    needed = slice(rows.needed.start - held_from, rows.needed.stop - held_from)
    return resample(held[:, needed], [rows, *rest])  # (K, rows, *rest)
