"""Two masks of one image -> how far they agree, all at once or band by band."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.overlap import confusion, overlaps_from_counts


class MaskComparison:
    """What is counted of two masks of labels.

    Args:
        classes: their names; the first is the background.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self._counts = np.zeros((len(classes), len(classes)), np.int64)  # (first's label, second's)

    def add(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Counts a band of both (rows, *rest); gives it back as 1 where they differ, 0 elsewhere."""
        self._counts += confusion(second, first, len(self.classes))
        return np.asarray(first != second, np.uint8)

    @property
    def agreement(self) -> float:
        """The share of pixels with the same class."""
        return float(self._counts.trace() / max(1, self._counts.sum()))

    @property
    def dice(self) -> dict[str, float | None]:
        """Between both masks, of each foreground class; None where neither has it."""
        values = zip(self.classes[1:], overlaps_from_counts(self._counts).dice, strict=True)
        return {name: None if math.isnan(value) else value for name, value in values}

    @property
    def shares(self) -> tuple[dict[str, float], dict[str, float]]:
        """Of each mask, class name -> share of its pixels."""
        first, second = (self._counts.sum(axis) / max(1, self._counts.sum()) for axis in (1, 0))
        return dict(zip(self.classes, first.tolist(), strict=True)), dict(zip(self.classes, second.tolist(), strict=True))

    def answer(self, models: Sequence[str]) -> dict[str, Any]:
        """As JSON; `models` names the two."""
        parts = [{"name": name, "class_shares": shares} for name, shares in zip(models, self.shares, strict=True)]
        return {"models": parts, "agreement": self.agreement, "dice": self.dice}
