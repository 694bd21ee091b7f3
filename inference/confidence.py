"""Confidence in an image's foreground: the mean probability of the likeliest class where the mask has foreground."""

import math
from math import prod

import numpy as np

from inference.tiling.stitch import Band
from models.head import Head

MOST_PIXELS = 2**22  # of an image that are looked at; a larger one is sampled on a regular grid
UNITS = 2**16  # of a confidence of 1; sums of whole numbers don't depend on the order of the bands


class ForegroundConfidence:
    """Accumulator of the confidence in one image's foreground, band by band.

    Nothing is computed if the head has no threshold.

    Args:
        head: meaning of the logits, with the threshold `low_confidence`.
        shape: (*S) of the image.

    Attributes:
        counts: sum of the confidences in units of 1 / UNITS, and the number of foreground pixels; resumed work sets those of
            the rows of the earlier run.
    """

    def __init__(self, head: Head, shape: tuple[int, ...]) -> None:
        self.head = head
        self.counts = (0, 0)
        self._step = max(1, math.ceil((prod(shape) / MOST_PIXELS) ** (1 / len(shape))))

    def add(self, band: Band) -> None:
        """Add finished rows."""
        if self.head.low_confidence is None:
            return
        first, step = -band.start % self._step, slice(None, None, self._step)
        logits = band.logits[(slice(None), slice(first, None, self._step), *(step,) * (band.logits.ndim - 2))]
        foreground = logits[:, self.head.mask(logits) > 0]  # (R, N)
        confidence = self.head.probabilities(foreground).max(axis=0)  # (N,)
        units, pixels = self.counts
        self.counts = units + int(np.rint(confidence * UNITS).astype(np.int64).sum()), pixels + confidence.size

    @property
    def mean(self) -> float:
        """Mean confidence over the foreground, NaN without foreground."""
        units, pixels = self.counts
        return units / UNITS / pixels if pixels else math.nan

    @property
    def is_low(self) -> bool:
        """True if the mean confidence is below the head's threshold."""
        return self.head.low_confidence is not None and self.mean < self.head.low_confidence
