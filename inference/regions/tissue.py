"""Tissue of a slide, detected at low resolution; tiles without tissue are skipped."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from imaging.errors import UnsuitableImage
from imaging.resample import ResampledSource
from imaging.source import ImageSource, Region

LONGEST_SIDE_PX = 2048  # of the thumbnail in which tissue is detected
BAND_ROWS = 64  # rows of the thumbnail that are read at a time
LEAST_COLOUR = 0.04  # share of the range from black to white; noise on glass has less
DARKNESS = 0.2  # share of that range below glass; for ink and pigment, which have no colour
DILATION_PX = 3  # pixels of the thumbnail, around each piece of tissue


class Tissue:
    """Mask of a slide's tissue at low resolution.

    Args:
        mask: (*S) of at most LONGEST_SIDE_PX a side, true where there is tissue.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask

    @property
    def share(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean())

    def of_rows(self, rows: slice, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return where the pixels (rows, W) of some rows of the slide, whose shape is given, are tissue."""
        row, column = np.arange(rows.start, rows.stop), np.arange(shape[1])
        return self.mask[np.ix_(row * self.mask.shape[0] // shape[0], column * self.mask.shape[1] // shape[1])]

    def misses(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Return whether a region, in the coordinates of an image of that shape, has no tissue."""
        return not self.mask[
            tuple(
                slice(part.start * low // high, -(-part.stop * low // high))
                for part, low, high in zip(region, self.mask.shape, shape, strict=True)
            )
        ].any()


def find_tissue(source: ImageSource) -> Tissue:
    """Return the tissue of a slide: pixels with colour or darker than glass, and DILATION_PX around them.

    Colour is the difference between the strongest and the weakest channel, thresholded by the method of Otsu (1979).

    Raises:
        UnsuitableImage: `tissue_not_findable`: the image isn't a 2D image in 8-bit RGB.
    """
    if len(source.shape) != 2 or source.channels != 3 or source.dtype != np.uint8:
        raise UnsuitableImage(
            "tissue_not_findable",
            f"tissue is detected in 2D images of 8-bit RGB, but this image has {len(source.shape)} dimensions and "
            f"{source.channels} channels of {source.dtype}; leave --tissue out",
        )
    shape = tuple(max(1, round(size * min(1, LONGEST_SIDE_PX / max(source.shape)))) for size in source.shape)
    small = ResampledSource(source, shape)  # not closed: that would close the source
    bands = [slice(first, min(first + BAND_ROWS, shape[0])) for first in range(0, shape[0], BAND_ROWS)]
    pixels = np.concatenate([small.read((rows, slice(0, shape[1]))) for rows in bands], axis=1).astype(np.float32) / 255
    colour, light = np.ptp(pixels, axis=0), pixels.mean(axis=0)
    threshold = max(LEAST_COLOUR, float(threshold_otsu(colour))) if np.ptp(colour) > 0 else LEAST_COLOUR
    tissue = (colour > threshold) | (light < np.percentile(light, 95) - DARKNESS)
    return Tissue(ndimage.binary_dilation(tissue, ndimage.generate_binary_structure(2, 2), DILATION_PX))
