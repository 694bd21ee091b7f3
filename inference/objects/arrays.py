"""Arrays in the forms in which objects are found and measured in them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region
from inference.objects.image_object import Readable


@dataclass(frozen=True)
class InMemory:
    """Array in memory as a `Readable`.

    Args:
        array: (*S), (C, *S) or (K, *S).
        axes: number of axes before S.
    """

    array: NDArray[Any]
    axes: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the array."""
        return self.array.shape

    def read(self, region: Region) -> NDArray[Any]:
        """Return a view of a region of S."""
        return self.array[(slice(None),) * self.axes + region]


@dataclass(frozen=True)
class OneChannel:
    """Mask (*S) as an image (1, *S)."""

    mask: Readable

    @property
    def shape(self) -> tuple[int, ...]:
        """S of the mask."""
        return self.mask.shape

    def read(self, region: Region) -> NDArray[Any]:
        """Return the labels (1, *S') of a region of S."""
        return self.mask.read(region)[np.newaxis]


@dataclass(frozen=True)
class Shares:
    """Probabilities (K, *S), stored as floats from 0 to 1 or as uint8 from 0 to 255, as floats."""

    probabilities: Readable

    def read(self, region: Region) -> NDArray[np.float32]:
        """Return the probabilities (K, *S') of a region of S."""
        stored = self.probabilities.read(region)
        return stored.astype(np.float32) / np.float32(255 if stored.dtype == np.uint8 else 1)
