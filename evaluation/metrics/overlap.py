"""Mask and reference -> overlap: Dice and IoU of one case, of each class, from one pass over the pixels.

Conventions, since libraries disagree: the labels 1 .. K - 1 are foreground, 0 is background and never scored. A class that
is in neither the mask nor the reference has no Dice: NaN, left out of means, and counted. The macro mean of a case goes
over its classes that have a value. Nothing is averaged over batches.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError

CHUNK_PX = 2**22  # pixels counted at once, so that a slide needs no copy of itself in int64

Labels = NDArray[Any]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Overlaps:
    """Dice and IoU of one case (or of pooled cases), a value for each label from 1 on; NaN where a class is in neither."""

    dice: tuple[float, ...]
    iou: tuple[float, ...]

    @property
    def macro_dice(self) -> float:
        """Mean over the foreground classes that have a value; NaN where none has."""
        return mean_of(self.dice)

    @property
    def macro_iou(self) -> float:
        """Mean over the foreground classes that have a value; NaN where none has."""
        return mean_of(self.iou)


def dice(mask: Labels, reference: Labels, label: int) -> float:
    """2TP / (2TP + FP + FN) of one label (Dice 1945); NaN where neither array (*S) has it.

    Raises:
        DataError: `shape_mismatch`.
    """
    return overlaps_of(confusion(mask == label, reference == label, 2)).dice[0]


def iou(mask: Labels, reference: Labels, label: int) -> float:
    """TP / (TP + FP + FN) of one label (Jaccard 1912); NaN where neither array (*S) has it.

    Raises:
        DataError: `shape_mismatch`.
    """
    return overlaps_of(confusion(mask == label, reference == label, 2)).iou[0]


def overlaps(mask: Labels, reference: Labels, classes: int) -> Overlaps:
    """All overlaps of one case, arrays (*S) of labels below `classes`.

    Raises:
        DataError: `shape_mismatch`, or `label_unknown`: a label that is no class.
    """
    return overlaps_of(confusion(mask, reference, classes))


def confusion(mask: Labels, reference: Labels, classes: int, *, ignore_label: int | None = None) -> Counts:
    """Pixels by the reference's label (rows) and the mask's label (columns), (K, K).

    Args:
        mask: labels (*S).
        reference: labels (*S).
        classes: K, background included.
        ignore_label: of the reference's pixels that aren't counted.

    Raises:
        DataError: `shape_mismatch`, or `label_unknown`: a label that is no class.
    """
    check_shapes(mask, reference)
    flat_mask, flat_reference = mask.reshape(-1), reference.reshape(-1)
    counts = np.zeros(classes**2, np.int64)
    for start in range(0, flat_mask.size, CHUNK_PX):
        of_mask, of_reference = flat_mask[start : start + CHUNK_PX], flat_reference[start : start + CHUNK_PX]
        if ignore_label is not None:
            counted = of_reference != ignore_label
            of_mask, of_reference = of_mask[counted], of_reference[counted]
        rows, columns = labels_of(of_reference, classes, "reference"), labels_of(of_mask, classes, "mask")
        counts += np.bincount(rows * classes + columns, minlength=classes**2)
    return counts.reshape(classes, classes)


def check_shapes(mask: Labels, reference: Labels) -> None:
    """Nothing, when both lie on the same pixels.

    Raises:
        DataError: `shape_mismatch`.
    """
    if mask.shape != reference.shape:
        raise DataError(
            "shape_mismatch",
            f"mask has shape {mask.shape}, reference has shape {reference.shape}; give both on the same pixels",
        )


def labels_of(values: Labels, classes: int, what: str) -> NDArray[np.int64]:
    """The values as whole numbers, same shape.

    Raises:
        DataError: `label_unknown`: a value that isn't one of 0 .. classes - 1.
    """
    known = (values >= 0) & (values < classes)
    labels = np.where(known, values, 0).astype(np.int64)
    known &= labels == values
    if not known.all():
        found = ", ".join(f"{value:g}" for value in np.unique(values[~known])[:5])
        raise DataError(
            "label_unknown",
            f"{what} has the labels {found}, the classes are 0 to {classes - 1}; "
            "relabel it, or use bundles that were trained with those classes",
        )
    return labels


def overlaps_of(counts: Counts) -> Overlaps:
    """Overlaps from a case's `confusion` (K, K), or from the sum over cases."""
    both = counts.diagonal()[1:]
    either = counts.sum(axis=0)[1:] + counts.sum(axis=1)[1:]  # 2TP + FP + FN
    return Overlaps(
        dice=tuple(_share(2 * int(hit), int(all_)) for hit, all_ in zip(both, either, strict=True)),
        iou=tuple(_share(int(hit), int(all_ - hit)) for hit, all_ in zip(both, either, strict=True)),
    )


def pooled(confusions: Iterable[Counts]) -> Overlaps:
    """Overlaps of all cases' pixels together: counts are summed first, so that a large case weighs more.

    Raises:
        ValueError: no case was given.
    """
    counts = list(confusions)
    if not counts:
        raise ValueError("no cases to pool; give at least one")
    return overlaps_of(np.sum(counts, axis=0))


def mean_of(values: Iterable[float]) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
