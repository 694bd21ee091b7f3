"""Object scores: panoptic quality and F1 of the objects in a mask, matched to the reference's at an IoU above 0.5.

An IoU above 0.5 makes the matching unique: no object has two partners, and the order of matching does not matter. A case
without objects on either side has no score (NaN); means leave it out, and it is counted separately. Where only one side has
objects, or no objects match, every score is 0. Label 0 is background.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import overlap
from imaging.errors import DataError

MIN_IOU = 0.5  # a lower threshold would let one object match two
LARGEST_NUMBER = 2**32 - 1

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """Matched objects of one case, or of several cases together.

    Args:
        ious: IoU of each matched pair, in the reference's order.
        in_mask: number of objects in the mask, matched or not.
        in_reference: number of objects in the reference, matched or not.
    """

    ious: tuple[float, ...]
    in_mask: int
    in_reference: int

    @property
    def sq(self) -> float:
        """Segmentation quality: the mean IoU of the matched objects."""
        return self._value(math.fsum(self.ious), len(self.ious))

    @property
    def rq(self) -> float:
        """Recognition quality: TP / (TP + FP / 2 + FN / 2)."""
        return self._value(2 * len(self.ious), self.in_mask + self.in_reference)

    @property
    def f1(self) -> float:
        """F1 of object detection; the same number as the recognition quality."""
        return self.rq

    @property
    def pq(self) -> float:
        """Panoptic quality: sum of the matched IoUs / (TP + FP / 2 + FN / 2) (Kirillov et al. 2019, equation 1)."""
        return self._value(2 * math.fsum(self.ious), self.in_mask + self.in_reference)

    def _value(self, part: float, whole: int) -> float:
        if self.in_mask + self.in_reference == 0:
            return math.nan
        return part / whole if whole else 0.0


@dataclass(frozen=True)
class NumberPairs:
    """Pairs of object numbers that occur at the same pixel of a mask and its reference, and the pixels of each pair."""

    mask: NDArray[np.int64]
    reference: NDArray[np.int64]
    pixels: Counts


def match_objects(mask: NDArray[Any], reference: NDArray[Any]) -> Matches:
    """Match the objects of a mask and a reference, both (*S) object numbers; 0 is background, and numbers may have gaps.

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`.
    """
    pairs = count_pairs(mask, reference)
    mask_sizes, mask_index = sum_pixels_by_number(pairs.mask, pairs.pixels)
    reference_sizes, reference_index = sum_pixels_by_number(pairs.reference, pairs.pixels)
    union = mask_sizes[mask_index] + reference_sizes[reference_index] - pairs.pixels
    iou = pairs.pixels / np.maximum(union, 1)
    is_match = (iou > MIN_IOU) & (pairs.mask > 0) & (pairs.reference > 0)
    return Matches(
        ious=tuple(iou[is_match].tolist()),
        in_mask=np.unique(pairs.mask[pairs.mask > 0]).size,
        in_reference=np.unique(pairs.reference[pairs.reference > 0]).size,
    )


def pooled_matches(cases: Iterable[Matches]) -> Matches:
    """Combine the objects of all cases, so that a case with many objects weighs more.

    Raises:
        ValueError: there are no cases.
    """
    matches = list(cases)
    if not matches:
        raise ValueError("no cases to pool; give at least one")
    return Matches(
        ious=tuple(itertools.chain.from_iterable(case.ious for case in matches)),
        in_mask=sum(case.in_mask for case in matches),
        in_reference=sum(case.in_reference for case in matches),
    )


def count_pairs(mask: NDArray[Any], reference: NDArray[Any]) -> NumberPairs:
    """Count the pairs of numbers that occur, sorted by the reference's and then by the mask's number.

    Memory grows with the pairs that occur, not with objects times objects.

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`: numbers that aren't whole, or not within 0 .. 2^32 - 1.
    """
    overlap.check_same_shape(mask, reference)
    flat_mask, flat_reference = mask.reshape(-1), reference.reshape(-1)
    keys, pixels = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for start in range(0, flat_mask.size, overlap.CHUNK_PX):
        chunk = slice(start, start + overlap.CHUNK_PX)
        both = _as_numbers(flat_reference[chunk], "reference") << np.uint64(32) | _as_numbers(flat_mask[chunk], "mask")
        new_keys, new_pixels = np.unique(both, return_counts=True)
        keys, index = np.unique(np.concatenate([keys, new_keys]), return_inverse=True)
        pixels = _sum_by(index, np.concatenate([pixels, new_pixels]))
    return NumberPairs((keys & np.uint64(LARGEST_NUMBER)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64), pixels)


def sum_pixels_by_number(numbers: NDArray[np.int64], pixels: Counts) -> tuple[Counts, NDArray[np.int64]]:
    """Return the pixels of each number that occurs, in rising order, and the index of each pair's number in that array."""
    _, index = np.unique(numbers, return_inverse=True)
    return _sum_by(index, pixels), index


def _sum_by(index: NDArray[np.int64], pixels: Counts) -> Counts:
    sums = np.zeros(index.max(initial=-1) + 1, np.int64)
    np.add.at(sums, index, pixels)
    return sums


def _as_numbers(values: NDArray[Any], what: str) -> NDArray[np.uint64]:
    is_valid = (values >= 0) & (values <= LARGEST_NUMBER)
    numbers = np.where(is_valid, values, 0).astype(np.uint64)
    is_valid &= numbers == values
    if not is_valid.all():
        invalid = ", ".join(f"{value:g}" for value in np.unique(values[~is_valid])[:5])
        raise DataError(
            "numbers_invalid",
            f"{what} has the object numbers {invalid}; allowed are whole numbers from 0 (background) to {LARGEST_NUMBER}",
        )
    return numbers
