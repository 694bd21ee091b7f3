"""Where a slide holds tissue, found at a low level; the rest needs no network."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from imaging.errors import UnsuitableImage
from imaging.resample import ResampledSource
from imaging.source import ImageSource, Region

LONGEST_PX = 2048  # of the picture that tissue is looked for in
BAND_ROWS = 64  # of it that are read at a time
LEAST_COLOUR = 0.04  # of the range from black to white; noise on glass has less
DARKER = 0.2  # of that range below glass; ink and pigment have no colour
AROUND_PX = 3  # of that picture, that count as tissue around each piece


class Tissue:
    """A picture of the slide, (*S) of at most LONGEST_PX a side, that is true where there is tissue.

    Args:
        mask: the picture.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask

    @property
    def share(self) -> float:
        """Of the slide."""
        return float(self.mask.mean())

    def misses(self, region: Region, shape: tuple[int, ...]) -> bool:
        """Whether no tissue lies in a region of the slide, seen as an image of that shape."""
        return not self.mask[
            tuple(
                slice(part.start * low // high, -(-part.stop * low // high))
                for part, low, high in zip(region, self.mask.shape, shape, strict=True)
            )
        ].any()


def find_tissue(source: ImageSource) -> Tissue:
    """What has colour, or is darker than glass, and a little around it: rather too much than too little.

    Colour is the difference between the strongest and the weakest channel; Otsu (1979) says how much of it is much.

    Raises:
        UnsuitableImage: `tissue_not_findable`: not a picture in 8 bit RGB.
    """
    if len(source.shape) != 2 or source.channels != 3 or source.dtype != np.uint8:
        raise UnsuitableImage(
            "tissue_not_findable",
            f"tissue is looked for in 2D pictures of 8 bit RGB; this one has {len(source.shape)} dimensions, {source.channels} "
            f"channels of {source.dtype}; leave --tissue out",
        )
    shape = tuple(max(1, round(size * min(1, LONGEST_PX / max(source.shape)))) for size in source.shape)
    small = ResampledSource(source, shape)  # isn't closed: that would close the source
    bands = [slice(first, min(first + BAND_ROWS, shape[0])) for first in range(0, shape[0], BAND_ROWS)]
    pixels = np.concatenate([small.read((rows, slice(0, shape[1]))) for rows in bands], axis=1).astype(np.float32) / 255
    colour, light = np.ptp(pixels, axis=0), pixels.mean(axis=0)
    much = max(LEAST_COLOUR, float(threshold_otsu(colour))) if np.ptp(colour) > 0 else LEAST_COLOUR
    found = (colour > much) | (light < np.percentile(light, 95) - DARKER)
    return Tissue(ndimage.binary_dilation(found, ndimage.generate_binary_structure(2, 2), AROUND_PX))
