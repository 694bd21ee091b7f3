"""Objects of a mask and of the reference -> which are the same: panoptic quality, and F1 at an IoU above one half.

Conventions: an object of the mask and one of the reference are the same where their IoU is above .5, so that none has two
partners and no order of matching matters. A case without any object on either side has no value: NaN, left out of means, and
counted. Where only one side has objects, and where nothing matches, every value is 0. Background is no object.
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

LEAST_IOU = 0.5  # to be the same object; no less, or one object may match two
LARGEST_NUMBER = 2**32 - 1

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Matches:
    """The objects of one case, or of several together.

    Args:
        ious: of the objects that were matched, in the reference's order.
        in_mask: objects of the mask, matched or not.
        in_reference: objects of the reference, matched or not.
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
        """F1 of finding the objects: the recognition quality's other name."""
        return self.rq

    @property
    def pq(self) -> float:
        """Panoptic quality: the sum of the matched IoUs / (TP + FP / 2 + FN / 2) (Kirillov et al. 2019, equation 1)."""
        return self._value(2 * math.fsum(self.ious), self.in_mask + self.in_reference)

    def _value(self, part: float, whole: int) -> float:
        if self.in_mask + self.in_reference == 0:
            return math.nan
        return part / whole if whole else 0.0


@dataclass(frozen=True)
class Pairs:
    """Which numbers occur at one place in a mask and in its reference: one row a pair that occurs, and its pixels."""

    mask: NDArray[np.int64]
    reference: NDArray[np.int64]
    pixels: Counts


def match(mask: NDArray[Any], reference: NDArray[Any]) -> Matches:
    """The objects that two arrays (*S) of object numbers share; 0 is no object, and numbers may have gaps.

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`.
    """
    pairs = pairs_of(mask, reference)
    of_mask, mask_index = sizes_of(pairs.mask, pairs.pixels)
    of_reference, reference_index = sizes_of(pairs.reference, pairs.pixels)
    union = of_mask[mask_index] + of_reference[reference_index] - pairs.pixels
    iou = pairs.pixels / np.maximum(union, 1)
    same = (iou > LEAST_IOU) & (pairs.mask > 0) & (pairs.reference > 0)
    return Matches(
        ious=tuple(iou[same].tolist()),
        in_mask=np.unique(pairs.mask[pairs.mask > 0]).size,
        in_reference=np.unique(pairs.reference[pairs.reference > 0]).size,
    )


def pooled_matches(cases: Iterable[Matches]) -> Matches:
    """All cases' objects together, so that a case with many objects weighs more.

    Raises:
        ValueError: no case was given.
    """
    found = list(cases)
    if not found:
        raise ValueError("no cases to pool; give at least one")
    return Matches(
        ious=tuple(itertools.chain.from_iterable(case.ious for case in found)),
        in_mask=sum(case.in_mask for case in found),
        in_reference=sum(case.in_reference for case in found),
    )


def pairs_of(mask: NDArray[Any], reference: NDArray[Any]) -> Pairs:
    """The pairs of numbers that occur, by reference and then by mask; memory goes by them and not by n x m.

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`: numbers that aren't whole, or not within 0 .. 2^32 - 1.
    """
    overlap.check_shapes(mask, reference)
    flat_mask, flat_reference = mask.reshape(-1), reference.reshape(-1)
    keys, pixels = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for start in range(0, flat_mask.size, overlap.CHUNK_PX):
        chunk = slice(start, start + overlap.CHUNK_PX)
        both = _whole(flat_reference[chunk], "reference") << np.uint64(32) | _whole(flat_mask[chunk], "mask")
        new_keys, new_pixels = np.unique(both, return_counts=True)
        keys, index = np.unique(np.concatenate([keys, new_keys]), return_inverse=True)
        pixels = _sum_by(index, np.concatenate([pixels, new_pixels]))
    return Pairs((keys & np.uint64(LARGEST_NUMBER)).astype(np.int64), (keys >> np.uint64(32)).astype(np.int64), pixels)


def sizes_of(numbers: NDArray[np.int64], pixels: Counts) -> tuple[Counts, NDArray[np.int64]]:
    """The pixels of each number that occurs, and each pair's place among them."""
    _, index = np.unique(numbers, return_inverse=True)
    return _sum_by(index, pixels), index


def _sum_by(index: NDArray[np.int64], pixels: Counts) -> Counts:
    sums = np.zeros(index.max(initial=-1) + 1, np.int64)
    np.add.at(sums, index, pixels)
    return sums


def _whole(values: NDArray[Any], what: str) -> NDArray[np.uint64]:
    valid = (values >= 0) & (values <= LARGEST_NUMBER)
    numbers = np.where(valid, values, 0).astype(np.uint64)
    valid &= numbers == values
    if not valid.all():
        found = ", ".join(f"{value:g}" for value in np.unique(values[~valid])[:5])
        raise DataError(
            "numbers_invalid",
            f"{what} has the object numbers {found}; allowed are whole numbers from 0, no object, to {LARGEST_NUMBER}",
        )
    return numbers
