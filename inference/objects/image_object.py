"""Measured objects of an image, and the arrays that they are found in."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region

Runs = NDArray[np.int32]


class Readable(Protocol):
    """Array that is read region by region: a mask (*S), an image (C, *S) or probabilities (K, *S).

    `RowBuffer`, `VolumeOfPlane`, `ImageSource` and `InMemory` are such. The shape of an `ImageSource` is S.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the whole array."""

    def read(self, region: Region) -> NDArray[Any]:
        """Return a copy or a view of a region of S: (*S'), (C, *S') or (K, *S')."""


@dataclass(frozen=True)
class ImageObject:
    """Object of an image: connected pixels of one label, or the centre of a detection, which is one pixel.

    Positions are indices of pixels in S order, and count from the image's first pixel; the centre of pixel 0 is at 0. What
    is measured equals `skimage.measure.regionprops`, up to the order of sums.

    Args:
        number: 1, 2, .. in the order in which objects are found.
        label: index of its class.
        runs: its pixels (n, dimensions + 1): the position of a line along the last axis (the row in 2D, slice and row in
            3D), and the first pixel in it and the one after the last; in the order of the pixels.
        box: the smallest region that contains it.
        area_px: number of its pixels; voxels in 3D.
        centroid_px: mean position of its pixels.
        equivalent_diameter_px: diameter of the disc or ball of the same area.
        eccentricity: of the ellipse with equal second moments, 0 (a circle) to 1; None in 3D.
        solidity: share of the convex hull's pixels that belong to it; None in 3D.
        channel_means: mean of each channel of the image; empty without an image.
        channel_deviations: standard deviation of each channel (of the population); empty without an image.
        mean_probability: mean probability of its class; None without probabilities.
        score: of a detection: the smoothed probability at its centre; None of objects with an extent.
    """

    number: int
    label: int
    runs: Runs
    box: Region
    area_px: int
    centroid_px: tuple[float, ...]
    equivalent_diameter_px: float
    eccentricity: float | None
    solidity: float | None
    channel_means: tuple[float, ...] = ()
    channel_deviations: tuple[float, ...] = ()
    mean_probability: float | None = None
    score: float | None = None

    @property
    def is_point(self) -> bool:
        """Whether it is the centre of a detection, whose area and shape mean nothing."""
        return self.score is not None

    @cached_property
    def pixels(self) -> NDArray[np.bool_]:
        """Whether each pixel of the box belongs to it."""
        first = np.array([axis.start for axis in self.box])
        shape = tuple(axis.stop - axis.start for axis in self.box)
        pixels = np.zeros(shape, np.bool_)
        lines = pixels.reshape(-1, shape[-1])
        indices = np.ravel_multi_index(tuple((self.runs[:, :-2] - first[:-1]).T), shape[:-1])
        for line, start, stop in zip(indices, self.runs[:, -2] - first[-1], self.runs[:, -1] - first[-1], strict=True):
            lines[line, start:stop] = True
        return pixels
