"""Range of a whole image's intensities, to which augmentation scales its patches."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_PERCENTILE = 99.9  # a few voxels of MRI are often many times as bright as the rest
SAMPLE_SIZE = 2**18  # evenly spaced values per block and channel


@dataclass(frozen=True)
class Limits:
    """Intensities that become 0 and 1, (C,) each. Values outside aren't clipped."""

    low: NDArray[Any]
    high: NDArray[Any]

    def unit(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image (C, *S) with `low` at 0 and `high` at 1. A constant channel becomes 0."""
        low, width = self._broadcastable(image)
        return (image - low) / width

    def back(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the inverse of `unit`."""
        low, width = self._broadcastable(unit)
        return np.ascontiguousarray(unit * width + low)

    def _broadcastable(self, image: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `low` and the width in a shape that broadcasts over the image, (C, 1, ...)."""
        width = np.where(self.high > self.low, self.high - self.low, 1)
        axes = (-1, *(1,) * (image.ndim - 1))
        return self.low.astype(np.float32).reshape(axes), width.astype(np.float32).reshape(axes)


def fit(dtype: np.dtype[Any], channels: int, blocks: Iterable[NDArray[Any]]) -> Limits:
    """Return the limits of an image, in its own units, from its blocks (C, *S).

    For three channels of 8 bits they are 0 and 255, so that colours keep their meaning. For other images they are each
    channel's minimum and 99.9th percentile.
    """
    if dtype == np.uint8 and channels == 3:
        return Limits(np.zeros(channels), np.full(channels, 255.0))
    lows, samples = [], []
    for block in blocks:
        values = block.reshape(channels, -1)
        lows.append(values.min(axis=1))
        samples.append(values[:, :: max(1, values.shape[1] // SAMPLE_SIZE)])
    high = np.percentile(np.concatenate(samples, axis=1), HIGHEST_PERCENTILE, axis=1)
    return Limits(np.min(lows, axis=0), high)
