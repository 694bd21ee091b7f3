"""Two masks of one image -> how far they agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import overlaps


@dataclass(frozen=True)
class Comparison:
    """How far two masks agree.

    Args:
        agreement: share of pixels with the same class.
        dice: between both masks, class name -> 0 to 1 for each foreground class; None where neither mask has it.
        disagreement: (*S) uint8, 1 where the classes differ.
    """

    agreement: float
    dice: dict[str, float | None]
    disagreement: NDArray[np.uint8]


def compare_masks(first: NDArray[np.uint8], second: NDArray[np.uint8], classes: Sequence[str]) -> Comparison:
    """Compares two masks (*S) of labels; `classes` names them, the first is the background."""
    differ = first != second
    values = overlaps(first, second, len(classes)).dice
    dice = {name: None if math.isnan(value) else value for name, value in zip(classes[1:], values, strict=True)}
    return Comparison(float(1 - differ.mean()), dice, differ.astype(np.uint8))


def class_shares(mask: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, float]:
    """Class name -> share of the mask's pixels."""
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    return {name: float(count / mask.size) for name, count in zip(classes, counts, strict=True)}
