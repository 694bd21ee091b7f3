"""Comparison of two masks of one image, of whole masks or band by band."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.overlap import confusion, overlaps_from_counts


class MaskComparison:
    """Confusion matrix of two masks of labels, to which bands are added, and the values that follow from it.

    Args:
        classes: names of the classes; the first one is the background.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._counts = np.zeros((len(classes), len(classes)), np.int64)  # pixels by (first's label, second's label)

    def add(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Count a band (rows, *rest) of both masks; return 1 where they differ, and 0 elsewhere."""
        self._counts += confusion(second, first, len(self.classes))
        return np.asarray(first != second, np.uint8)

    @property
    def agreement(self) -> float:
        """Share of the pixels that have the same class in both masks."""
        return float(self._counts.trace() / max(1, self._counts.sum()))

    @property
    def dice(self) -> dict[str, float | None]:
        """Dice between both masks by the name of each foreground class; None where neither mask has the class."""
        values = zip(self.classes[1:], overlaps_from_counts(self._counts).dice, strict=True)
        return {name: None if math.isnan(value) else value for name, value in values}

    @property
    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """Share of the pixels by class name, of the first and of the second mask."""
        first, second = (self._counts.sum(axis) / max(1, self._counts.sum()) for axis in (1, 0))
        return dict(zip(self.classes, first.tolist(), strict=True)), dict(zip(self.classes, second.tolist(), strict=True))

    def report(self, models: Sequence[str]) -> dict[str, Any]:
        """Return the comparison as JSON; `models` are the names of the two models."""
        parts = [{"name": name, "class_shares": shares} for name, shares in zip(models, self.shares, strict=True)]
        return {"models": parts, "agreement": self.agreement, "dice": self.dice}
