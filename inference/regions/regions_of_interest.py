"""Regions of interest: only tiles that touch one are segmented, and pixels outside of all regions are background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.source import Region
from inference.tiling.stitch import Band


@dataclass(frozen=True)
class Regions:
    """Regions of interest of one image, as boxes.

    Args:
        boxes: at least one box, in pixels of the image's own grid, inside the image.
        shape: (*S) of the image.
    """

    boxes: tuple[Region, ...]
    shape: tuple[int, ...]

    def misses(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Return whether a region, in the coordinates of an image of that shape, touches no box."""
        scales = [other / own for other, own in zip(shape, self.shape, strict=True)]
        return not any(
            all(
                part.start < side.stop * scale and side.start * scale < part.stop
                for part, side, scale in zip(region, box, scales, strict=True)
            )
            for box in self.boxes
        )

    def clear(self, band: Band, background: NDArray[np.float32]) -> None:
        """Set the pixels outside of all boxes to the logits `background` (R,), in a band on the image's own grid."""
        outside = np.ones(band.logits.shape[1:], bool)
        for box in self.boxes:
            rows = slice(max(0, box[0].start - band.start), max(0, box[0].stop - band.start))
            outside[(rows, *box[1:])] = False
        band.logits[:, outside] = background[:, None]


def regions_of(numbers: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> Regions:
    """Return the regions with these boxes, each the first pixel and the size in S order: top, left, height, width.

    Raises:
        UnsuitableImage: `region_outside`: a box has the wrong number of values, or isn't inside the image.
    """
    boxes = []
    for each in numbers:
        starts, sizes = each[: len(shape)], each[len(shape) :]
        fits = len(each) == 2 * len(shape) and all(
            start >= 0 and size > 0 and start + size <= whole for start, size, whole in zip(starts, sizes, shape, strict=True)
        )
        if not fits:
            raise UnsuitableImage(
                "region_outside",
                f"region {','.join(map(str, each))} doesn't lie in an image of {' x '.join(map(str, shape))}; give the place "
                f"of its first pixel and its size, {2 * len(shape)} numbers, "
                f"{'top,left,height,width' if len(shape) == 2 else 'front,top,left,depth,height,width'}",
            )
        boxes.append(tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))
    return Regions(tuple(boxes), shape)
