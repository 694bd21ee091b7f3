"""The range of intensities of a whole image, in which its patches' intensities are counted by augmentation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIGHEST_PERCENTILE = 99.9  # a few voxels of MRI are often many times as bright as the rest
SAMPLED = 2**18  # values of a block and channel, evenly spaced


@dataclass(frozen=True)
class Limits:
    """What counts as 0 and as 1, (C,) each; nothing is clipped."""

    low: NDArray[Any]
    high: NDArray[Any]

    def unit(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Image (C, *S) -> 0 .. 1, about; a constant channel becomes 0."""
        low, width = self._shaped(image)
        return (image - low) / width

    def back(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `unit`."""
        low, width = self._shaped(unit)
        return np.ascontiguousarray(unit * width + low)

    def _shaped(self, image: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width = np.where(self.high > self.low, self.high - self.low, 1)
        axes = (-1, *(1,) * (image.ndim - 1))
        return self.low.astype(np.float32).reshape(axes), width.astype(np.float32).reshape(axes)


def fit(dtype: np.dtype[Any], channels: int, blocks: Iterable[NDArray[Any]]) -> Limits:
    """The limits of an image, in its own units, that is read block by block (C, *S).

    Three channels of 8 bits: 0 and 255, so that colours stay colours. Others: each channel's lowest value and its 99.9th
    percentile.
    """
    if dtype == np.uint8 and channels == 3:
        return Limits(np.zeros(channels), np.full(channels, 255.0))
    lows, samples = [], []
    for block in blocks:
        values = block.reshape(channels, -1)
        lows.append(values.min(axis=1))
        samples.append(values[:, :: max(1, values.shape[1] // SAMPLED)])
    high = np.percentile(np.concatenate(samples, axis=1), HIGHEST_PERCENTILE, axis=1)
    return Limits(np.min(lows, axis=0), high)
