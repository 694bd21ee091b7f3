"""Normalisation of intensities, by the same object in training and in inference."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import NormaliseSection

PART_VALUES = 2**20  # values that are converted to float64 at a time

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalise:
    """Normalisation of one image: (clipped value - centre) / width in each channel, for any region of it.

    Args:
        centre: (C,), in the image's own units.
        width: (C,), in the image's own units, never 0.
        limits: lower and upper limit of values, in the image's own units; None doesn't clip.
    """

    centre: NDArray[np.float64]
    width: NDArray[np.float64]
    limits: tuple[float, float] | None = None

    def __call__(self, pixels: Array) -> NDArray[np.float32]:
        """Return the normalised pixels (C, *S), float32."""
        normalised = np.empty(pixels.shape, np.float32)
        for out, channel, centre, width in zip(normalised, pixels, self.centre, self.width, strict=True):
            values = channel if self.limits is None else np.clip(channel.astype(np.float64), *self.limits)
            out[...] = (values - centre) / width
        return normalised


def fit(section: NormaliseSection, channels: int, blocks: Iterable[Array]) -> Normalise:
    """Return the normalisation of one image. Its blocks (C, *S) are read once, if the method needs them.

    `range` maps lower .. upper to -1 .. 1. `zscore` uses each channel's own mean and standard deviation; a constant channel
    becomes 0. `ct` clips to lower .. upper and uses the data set's mean and standard deviation, since Hounsfield units mean
    the same in every image (Isensee et al. 2021, nnU-Net).
    """
    if section.method == "range":
        return _fixed(channels, (section.lower + section.upper) / 2, (section.upper - section.lower) / 2)
    if section.method == "ct" and section.mean is not None and section.deviation is not None:
        return _fixed(channels, section.mean, section.deviation, (section.lower, section.upper))
    return Normalise(*_mean_and_deviation(channels, blocks))


def _fixed(channels: int, centre: float, width: float, limits: tuple[float, float] | None = None) -> Normalise:
    """Return a normalisation that is the same for every channel and image."""
    return Normalise(np.full(channels, centre), np.full(channels, width), limits)


def _mean_and_deviation(channels: int, blocks: Iterable[Array]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation over all blocks, (C,) each; a deviation of 0 becomes 1.

    Sums of squares are merged as in Chan, Golub and LeVeque (1979, equation 2.1).
    """
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    step = max(1, PART_VALUES // channels)
    for block in blocks:
        flat = block.reshape(channels, -1)
        for first in range(0, flat.shape[1], step):
            pixels = flat[:, first : first + step].astype(np.float64)
            part_mean = pixels.mean(axis=1)
            difference = part_mean - mean
            total = count + pixels.shape[1]
            squares += ((pixels - part_mean[:, None]) ** 2).sum(axis=1) + difference**2 * count * pixels.shape[1] / total
            mean += difference * pixels.shape[1] / total
            count = total
    deviation = np.array([math.sqrt(value / count) for value in squares])
    return mean, np.where(deviation > 0, deviation, 1.0)
