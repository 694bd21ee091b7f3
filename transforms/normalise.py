"""Intensities -> network inputs; the same object in training and in serving."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import NormaliseSection

PART_VALUES = 2**20  # that are worked on in float64 at a time

Array = NDArray[Any]


@dataclass(frozen=True)
class Normalise:
    """A shift and a scale for each channel: (clipped value - centre) / width, for any part of the image it was made for.

    Args:
        centre: (C,) in the image's own units.
        width: (C,) in the image's own units, never 0.
        limits: what values are clipped to, in the image's own units; None leaves them as they are.
    """

    centre: NDArray[np.float64]
    width: NDArray[np.float64]
    limits: tuple[float, float] | None = None

    def __call__(self, pixels: Array) -> NDArray[np.float32]:
        """Normalised (C, *S), float32."""
        normalised = np.empty(pixels.shape, np.float32)
        for out, channel, centre, width in zip(normalised, pixels, self.centre, self.width, strict=True):
            values = channel if self.limits is None else np.clip(channel.astype(np.float64), *self.limits)
            out[...] = (values - centre) / width
        return normalised


def fit(section: NormaliseSection, channels: int, blocks: Iterable[Array]) -> Normalise:
    """The normalisation of one image, which is read once, block by block (C, *S), where the method needs it.

    `range` maps lower .. upper to -1 .. 1. `zscore` takes each channel's own mean and standard deviation; a channel
    that is constant becomes 0. `ct` clips to lower .. upper and goes by the data set's mean and deviation, since
    Hounsfield units mean the same in every image (Isensee et al. 2021, nnU-Net).
    """
    if section.method == "range":
        return _fixed(channels, (section.lower + section.upper) / 2, (section.upper - section.lower) / 2)
    if section.method == "ct" and section.mean is not None and section.deviation is not None:
        return _fixed(channels, section.mean, section.deviation, (section.lower, section.upper))
    return Normalise(*_mean_and_deviation(channels, blocks))


def _fixed(channels: int, centre: float, width: float, limits: tuple[float, float] | None = None) -> Normalise:
    """The same for every channel and image."""
    return Normalise(np.full(channels, centre), np.full(channels, width), limits)


def _mean_and_deviation(channels: int, blocks: Iterable[Array]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both (C,), over all blocks; sums of squares are joined as in Chan, Golub and LeVeque (1979, equation 2.1)."""
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    for part in _parts(channels, blocks):
        pixels = part.astype(np.float64)
        block_mean = pixels.mean(axis=1)
        difference = block_mean - mean
        total = count + pixels.shape[1]
        squares += ((pixels - block_mean[:, None]) ** 2).sum(axis=1) + difference**2 * count * pixels.shape[1] / total
        mean += difference * pixels.shape[1] / total
        count = total
    deviation = np.array([math.sqrt(value / count) for value in squares])
    return mean, np.where(deviation > 0, deviation, 1.0)


def _parts(channels: int, blocks: Iterable[Array]) -> Iterator[Array]:
    """The blocks as (C, values), cut so that what is made of one in float64 stays small."""
    for block in blocks:
        flat = block.reshape(channels, -1)
        step = max(1, PART_VALUES // channels)
        for first in range(0, flat.shape[1], step):
            yield flat[:, first : first + step]
