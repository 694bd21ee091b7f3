"""Numbered objects of a mask and its reference, and what metrics share: pixels in common, sizes, centres and boxes.

Memory grows with the objects and with the pairs of objects that overlap, not with objects times objects; the pixels are read in
pieces, so that the arrays may be memory maps.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import overlap
from evaluation.metrics.metric import ONE_SIDED
from imaging.errors import DataError

LARGEST_NUMBER = 2**32 - 1

Counts = NDArray[np.int64]
Places = NDArray[np.float64]


@dataclass(frozen=True)
class NumberPairs:
    """Pairs of object numbers that occur at the same pixel of a mask and its reference, and the pixels of each pair."""

    mask: NDArray[np.int64]
    reference: NDArray[np.int64]
    pixels: Counts


@dataclass(frozen=True, eq=False)
class ObjectPair:
    """Objects of one class in a mask and in its reference.

    Args:
        mask: numbers (*S) of the mask's objects; 0 is background, and numbers may have gaps.
        reference: numbers (*S) of the reference's objects.
        spacing_um: distance between pixels in micrometres, in S order; None: unknown, and distances are in pixels.

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid` on the first use.
        ValueError: the spacing has another number of axes.
    """

    mask: NDArray[Any]
    reference: NDArray[Any]
    spacing_um: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        overlap.check_same_shape(self.mask, self.reference)
        if self.spacing_um is not None and len(self.spacing_um) != self.mask.ndim:
            raise ValueError(
                f"spacing {self.spacing_um} has {len(self.spacing_um)} axes, the mask has {self.mask.ndim}; "
                "give one number an axis"
            )

    @property
    def unit(self) -> str:
        """Unit of distances: "um", or "px" where the spacing is unknown."""
        return "px" if self.spacing_um is None else "um"

    @property
    def remark(self) -> str:
        """Remark of the scores, see `scoring.table.Score`: `one_sided` where only one side has objects, or empty."""
        return ONE_SIDED if bool(len(self.shared.mask)) != bool(len(self.shared.reference)) else ""

    @property
    def steps(self) -> Places:
        """Distance between pixels along each axis (D,), in `unit`."""
        return np.array(self.spacing_um or (1.0,) * self.mask.ndim)

    @cached_property
    def shared(self) -> "SharedPixels":
        """Sizes of all objects, and the pixels that those of the mask share with those of the reference."""
        pairs = count_pairs(self.mask, self.reference)
        mask, mask_index = _sizes_without_background(pairs.mask, pairs.pixels)
        reference, reference_index = _sizes_without_background(pairs.reference, pairs.pixels)
        both = (pairs.mask > 0) & (pairs.reference > 0)
        return SharedPixels(mask, reference, mask_index[both], reference_index[both], pairs.pixels[both])

    @cached_property
    def mask_places(self) -> "ObjectPlaces":
        """Centres and boxes of the mask's objects, in the order of `shared.mask`."""
        return measure_places(self.mask, self.shared.mask.numbers)

    @cached_property
    def reference_places(self) -> "ObjectPlaces":
        """Centres and boxes of the reference's objects, in the order of `shared.reference`."""
        return measure_places(self.reference, self.shared.reference.numbers)


@dataclass(frozen=True)
class ObjectSizes:
    """Numbers (N,) of the objects of one side, rising, and their sizes (N,) in pixels."""

    numbers: NDArray[np.int64]
    pixels: Counts

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class SharedPixels:
    """Sizes of the objects of both sides, and the pairs of objects that overlap.

    Args:
        mask: the mask's M objects.
        reference: the reference's N objects.
        mask_index: index (P,) of each pair's object in `mask`.
        reference_index: index (P,) of each pair's object in `reference`; pairs are sorted by it.
        pixels: pixels (P,) that the objects of a pair have in common, 1 or more.
    """

    mask: ObjectSizes
    reference: ObjectSizes
    mask_index: NDArray[np.int64]
    reference_index: NDArray[np.int64]
    pixels: Counts

    @property
    def union(self) -> Counts:
        """Pixels (P,) that at least one object of each pair has."""
        return self.mask.pixels[self.mask_index] + self.reference.pixels[self.reference_index] - self.pixels


@dataclass(frozen=True)
class ObjectPlaces:
    """Places of N objects, in pixels.

    Args:
        centres: centroids (N, D).
        first: lowest index (N, D) of each object along each axis.
        last: highest index (N, D).
    """

    centres: Places
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def box(self, index: int) -> tuple[slice, ...]:
        """Return the box of one object, as a slice for each axis."""
        return tuple(slice(low, high + 1) for low, high in zip(self.first[index], self.last[index], strict=True))


def measure_places(objects: NDArray[Any], numbers: NDArray[np.int64]) -> ObjectPlaces:
    """Return the places of the objects (*S) with the numbers (N,), which are all that occur, in rising order."""
    sizes, sums = np.zeros(len(numbers)), np.zeros((objects.ndim, len(numbers)))
    first, last = np.full(sums.shape, np.iinfo(np.int64).max), np.full(sums.shape, -1)
    height = max(1, overlap.CHUNK_PX * len(objects) // max(1, objects.size))  # rows read at once
    for start in range(0, len(objects), height):
        rows = objects[start : start + height]
        coordinates = np.nonzero(rows)
        index = np.searchsorted(numbers, rows[coordinates])
        sizes += np.bincount(index, minlength=len(numbers))
        for axis, offset in enumerate((start, *(0,) * (objects.ndim - 1))):
            places = coordinates[axis] + offset
            sums[axis] += np.bincount(index, weights=places, minlength=len(numbers))
            np.minimum.at(first[axis], index, places)
            np.maximum.at(last[axis], index, places)
    return ObjectPlaces((sums / sizes).T, first.T, last.T)


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


def _sizes_without_background(numbers: NDArray[np.int64], pixels: Counts) -> tuple[ObjectSizes, NDArray[np.int64]]:
    """Return the sizes of the objects, and the index of each pair's object among them, -1 for background."""
    sizes, index = sum_pixels_by_number(numbers, pixels)
    background = int(0 in numbers)  # it comes first
    return ObjectSizes(np.unique(numbers)[background:], sizes[background:]), index - background


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
