"""Parts of large images and volumes that a picture shows, and the size of small pictures."""

import math

import numpy as np
from numpy.typing import NDArray

from imaging.source import ImageSource, Region

WINDOW_PX = 384  # part of a slide that a picture shows one to one
SMALLEST_PX = 256  # smaller pictures are enlarged by whole numbers


def enlarge(picture: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Repeat the pixels of a small picture, and in true proportions to whole numbers."""
    times = max(1, math.ceil(SMALLEST_PX / max(picture.shape[:2])))
    down, across = max(1, round(times * max(1.0, aspect))), max(1, round(times * max(1.0, 1 / aspect)))
    return picture.repeat(down, axis=0).repeat(across, axis=1)


def region_with_most_foreground(reference: ImageSource) -> Region:
    """Return the slice of a volume, or the window of a large 2D image, that has the most foreground."""
    shape = reference.shape
    if len(shape) == 3:
        slices = np.concatenate([(block[0] > 0).sum(axis=(1, 2)) for block in reference.blocks()])  # (D,)
        best = int(slices.argmax()) if slices.any() else shape[0] // 2
        return (slice(best, best + 1), slice(0, shape[1]), slice(0, shape[2]))
    window_sums = np.zeros([math.ceil(size / WINDOW_PX) for size in shape], np.int64)
    row = 0
    for block in reference.blocks():
        foreground = np.add.reduceat(block[0] > 0, np.arange(0, shape[1], WINDOW_PX), axis=1, dtype=np.int64)
        np.add.at(window_sums, (np.arange(row, row + len(foreground)) // WINDOW_PX), foreground)
        row += len(foreground)
    best_window = np.unravel_index(int(window_sums.argmax()), window_sums.shape)
    starts = [min(int(index) * WINDOW_PX, max(0, size - WINDOW_PX)) for index, size in zip(best_window, shape, strict=True)]
    return tuple(slice(start, min(start + WINDOW_PX, size)) for start, size in zip(starts, shape, strict=True))


def describe_region(region: Region, shape: tuple[int, ...]) -> str:
    """Describe where a slice of a volume or a part of a 2D image lies, for a caption."""
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}"
    rows, columns = region
    if (rows.stop - rows.start, columns.stop - columns.start) == shape:
        return f"the whole image, {shape[0]} x {shape[1]} pixels"
    return f"rows {rows.start} to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1} of {shape[0]} x {shape[1]}"
