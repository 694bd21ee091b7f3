"""Overlap scores, such as Dice and IoU, of each class of one case, from one pass over the pixels of mask and reference.

Conventions, because libraries disagree: the labels 1 .. K - 1 are foreground; 0 is background and never scored. A class that
is in neither the mask nor the reference has no Dice (NaN); means leave it out, and it is counted separately. The macro mean of
a case is over its classes that have a value. Nothing is averaged over batches.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.metric import BinaryCounts
from imaging.errors import DataError

CHUNK_PX = 2**22  # pixels counted at once, so that a slide is not copied as int64

Labels = NDArray[Any]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Overlaps:
    """Dice and IoU of one case or of pooled cases, one value for each label from 1 on; NaN where neither side has it."""

    dice: tuple[float, ...]
    iou: tuple[float, ...]

    @property
    def macro_dice(self) -> float:
        """Mean over the foreground classes that have a value; NaN where none has."""
        return nan_mean(self.dice)

    @property
    def macro_iou(self) -> float:
        """Mean over the foreground classes that have a value; NaN where none has."""
        return nan_mean(self.iou)


def dice(mask: Labels, reference: Labels, label: int) -> float:
    """Return the Dice of one label, 2TP / (2TP + FP + FN) (Dice 1945); NaN where neither array (*S) has it.

    Raises:
        DataError: `shape_mismatch`.
    """
    return overlaps_from_counts(confusion(mask == label, reference == label, 2)).dice[0]


def iou(mask: Labels, reference: Labels, label: int) -> float:
    """Return the IoU of one label, TP / (TP + FP + FN) (Jaccard 1912); NaN where neither array (*S) has it.

    Raises:
        DataError: `shape_mismatch`.
    """
    return overlaps_from_counts(confusion(mask == label, reference == label, 2)).iou[0]


def overlaps(mask: Labels, reference: Labels, classes: int) -> Overlaps:
    """Return the Dice and IoU of every class of one case, from arrays (*S) of labels below `classes`.

    Raises:
        DataError: `shape_mismatch`, or `label_unknown`: a label that is no class.
    """
    return overlaps_from_counts(confusion(mask, reference, classes))


def confusion(mask: Labels, reference: Labels, classes: int, *, ignore_label: int | None = None) -> Counts:
    """Return the confusion matrix (K, K): pixels by the reference's label (rows) and the mask's label (columns).

    Args:
        mask: labels (*S).
        reference: labels (*S).
        classes: K, background included.
        ignore_label: label of the reference's pixels that are not counted.

    Raises:
        DataError: `shape_mismatch`, or `label_unknown`: a label that is no class.
    """
    check_same_shape(mask, reference)
    flat_mask, flat_reference = mask.reshape(-1), reference.reshape(-1)
    counts = np.zeros(classes**2, np.int64)
    for start in range(0, flat_mask.size, CHUNK_PX):
        mask_chunk, reference_chunk = flat_mask[start : start + CHUNK_PX], flat_reference[start : start + CHUNK_PX]
        if ignore_label is not None:
            is_scored = reference_chunk != ignore_label
            mask_chunk, reference_chunk = mask_chunk[is_scored], reference_chunk[is_scored]
        rows, columns = as_labels(reference_chunk, classes, "reference"), as_labels(mask_chunk, classes, "mask")
        counts += np.bincount(rows * classes + columns, minlength=classes**2)
    return counts.reshape(classes, classes)


def check_same_shape(mask: Labels, reference: Labels) -> None:
    """Refuse a mask and a reference of different shapes.

    Raises:
        DataError: `shape_mismatch`.
    """
    if mask.shape != reference.shape:
        raise DataError(
            "shape_mismatch",
            f"mask has shape {mask.shape}, reference has shape {reference.shape}; give both on the same pixels",
        )


def as_labels(values: Labels, classes: int, what: str) -> NDArray[np.int64]:
    """Convert label values to int64, same shape; `what` names them in the error.

    Raises:
        DataError: `label_unknown`: a value that isn't one of 0 .. classes - 1.
    """
    is_label = (values >= 0) & (values < classes)
    labels = np.where(is_label, values, 0).astype(np.int64)
    is_label &= labels == values
    if not is_label.all():
        unknown = ", ".join(f"{value:g}" for value in np.unique(values[~is_label])[:5])
        raise DataError(
            "label_unknown",
            f"{what} has the labels {unknown}, the classes are 0 to {classes - 1}; "
            "relabel it, or use bundles that were trained with those classes",
        )
    return labels


def dice_of_counts(counts: BinaryCounts) -> float:
    """Return the Dice of one class; NaN where neither side has it."""
    hits, false_positives, false_negatives = counts
    return _ratio(2 * hits, 2 * hits + false_positives + false_negatives)


def iou_of_counts(counts: BinaryCounts) -> float:
    """Return the IoU of one class; NaN where neither side has it."""
    return _ratio(counts.true_positives, sum(counts))


def sensitivity_of_counts(counts: BinaryCounts) -> float:
    """Return the share of the reference's pixels that the mask has (recall); NaN where neither side has the class.

    It is 0 where only the mask has the class, as precision is where only the reference has it, so that a class that is missed
    or invented counts in the mean of both.
    """
    hits, _, false_negatives = counts
    return hits / (hits + false_negatives) if hits else _ratio(0, sum(counts))


def precision_of_counts(counts: BinaryCounts) -> float:
    """Return the share of the mask's pixels that the reference has; NaN where neither side has the class, see sensitivity."""
    hits, false_positives, _ = counts
    return hits / (hits + false_positives) if hits else _ratio(0, sum(counts))


def volume_difference_of_counts(counts: BinaryCounts) -> float:
    """Return by how many percent of the reference's volume the mask's is larger; NaN where the reference lacks the class."""
    return 100 * _ratio(counts.false_positives - counts.false_negatives, counts.true_positives + counts.false_negatives)


def binary_counts(counts: Counts, label: int) -> BinaryCounts:
    """Return the counts of one label against all others, from a confusion matrix (K, K)."""
    hits = int(counts[label, label])
    return BinaryCounts(hits, int(counts[:, label].sum()) - hits, int(counts[label].sum()) - hits)


def overlaps_from_counts(counts: Counts) -> Overlaps:
    """Return the overlaps of one confusion matrix (K, K), of a case or summed over cases."""
    classes = [binary_counts(counts, label) for label in range(1, len(counts))]
    return Overlaps(dice=tuple(map(dice_of_counts, classes)), iou=tuple(map(iou_of_counts, classes)))


def pooled_overlaps(confusions: Iterable[Counts]) -> Overlaps:
    """Return the overlaps of all cases' pixels together: counts are summed first, so that a large case weighs more.

    Raises:
        ValueError: there are no cases.
    """
    counts = list(confusions)
    if not counts:
        raise ValueError("no cases to pool; give at least one")
    return overlaps_from_counts(np.sum(counts, axis=0))


def nan_mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
