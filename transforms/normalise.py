"""Intensities -> network inputs; the same object in training and in serving."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import NormaliseSection

Array = NDArray[Any]


class Normalise:
    """A shift and a scale for each channel: (value - centre) / width, applied to any part of the image it was made for.

    Args:
        centre: (C,) in the image's own units.
        width: (C,) in the image's own units, never 0.
    """

    def __init__(self, centre: NDArray[np.float64], width: NDArray[np.float64]) -> None:
        self.centre = centre
        self.width = width

    def __call__(self, pixels: Array) -> NDArray[np.float32]:
        """Normalised (C, *S), float32."""
        axes = (-1, *(1,) * (pixels.ndim - 1))
        scaled = (pixels - self.centre.reshape(axes)) / self.width.reshape(axes)
        return scaled.astype(np.float32)


def fit(section: NormaliseSection, channels: int, blocks: Iterable[Array]) -> Normalise:
    """The normalisation of one image, which is read once, block by block (C, *S), where the method needs it.

    `range` maps lower .. upper to -1 .. 1. `zscore` takes each channel's own mean and standard deviation; a channel
    that is constant becomes 0.
    """
    if section.method == "range":
        centre = np.full(channels, (section.lower + section.upper) / 2)
        return Normalise(centre, np.full(channels, (section.upper - section.lower) / 2))
    return Normalise(*_mean_and_deviation(channels, blocks))


def _mean_and_deviation(channels: int, blocks: Iterable[Array]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both (C,), over all blocks; sums of squares are joined as in Chan, Golub and LeVeque (1979, equation 2.1)."""
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    for block in blocks:
        pixels = block.reshape(channels, -1).astype(np.float64)
        block_mean = pixels.mean(axis=1)
        difference = block_mean - mean
        total = count + pixels.shape[1]
        squares += ((pixels - block_mean[:, None]) ** 2).sum(axis=1) + difference**2 * count * pixels.shape[1] / total
        mean += difference * pixels.shape[1] / total
        count = total
    deviation = np.array([math.sqrt(value / count) for value in squares])
    return mean, np.where(deviation > 0, deviation, 1.0)
