"""Scores of the contest on glands (GlaS, Sirinukunwattana et al. 2017): object F1, object Dice and object Hausdorff.

Each object is compared with the one of the other side that it shares most pixels with; of equals, with the smaller one, or with
the nearer one for the distance. The contest counts the objects of all images together, so that each score also comes as counts
or sums that can be added over cases.
A case without objects on either side has no score (NaN). Where only one side has objects, F1 and Dice are 0, and the Hausdorff
distance is the image's diagonal.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from evaluation.metrics.metric import BinaryCounts
from evaluation.metrics.object_pair import ObjectPair, ObjectPlaces, ObjectSizes
from evaluation.metrics.overlap import dice_of_counts

Values = NDArray[np.float64]


@dataclass(frozen=True)
class AreaSums:
    """Sums over objects of a value times the object's pixels, of one case or of several cases together.

    Args:
        mask: sum over the mask's objects.
        mask_pixels: pixels of the mask's objects.
        reference: sum over the reference's objects.
        reference_pixels: pixels of the reference's objects.
    """

    mask: float
    mask_pixels: int
    reference: float
    reference_pixels: int

    @property
    def mean(self) -> float:
        """Mean of both sides' means weighted by area; of one side where only one has objects, NaN where neither has."""
        sides = ((self.mask, self.mask_pixels), (self.reference, self.reference_pixels))
        means = [total / pixels for total, pixels in sides if pixels]
        return math.fsum(means) / len(means) if means else math.nan


def pooled_f1(cases: Iterable[BinaryCounts]) -> float:
    """Return the F1 of the objects of all cases together, from their counts, as the contest scores its test images."""
    counts = list(cases)
    return dice_of_counts(BinaryCounts(*(sum(numbers) for numbers in zip(*counts, strict=True)))) if counts else math.nan


def pooled_sums(cases: Iterable[AreaSums]) -> AreaSums:
    """Return the sums over the objects of all cases, as the contest scores its test images."""
    sums = list(cases)
    return AreaSums(
        mask=math.fsum(case.mask for case in sums),
        mask_pixels=sum(case.mask_pixels for case in sums),
        reference=math.fsum(case.reference for case in sums),
        reference_pixels=sum(case.reference_pixels for case in sums),
    )


def object_f1(pair: ObjectPair) -> float:
    """Return the F1 of the objects, see `count_glands`."""
    return dice_of_counts(count_glands(pair))


def object_dice(pair: ObjectPair) -> float:
    """Return the object Dice, see `dice_sums`."""
    return dice_sums(pair).mean


def object_hausdorff(pair: ObjectPair) -> float:
    """Return the object Hausdorff distance in the pair's unit, see `hausdorff_sums`."""
    return hausdorff_sums(pair).mean


def count_glands(pair: ObjectPair) -> BinaryCounts:
    """Count objects: one of the mask is right if it covers at least half of the reference's that it shares most pixels with.

    The mask's other objects are false positives, and as many of the reference's objects are missed as there are more of them
    than right ones.
    """
    shared = pair.shared
    best = _best_pairs(shared.mask_index, shared.pixels, shared.reference.pixels[shared.reference_index])
    right = int((2 * shared.pixels[best] >= shared.reference.pixels[shared.reference_index[best]]).sum())
    return BinaryCounts(right, len(shared.mask) - right, max(0, len(shared.reference) - right))


def dice_sums(pair: ObjectPair) -> AreaSums:
    """Sum each object's Dice with the one of the other side that it shares most pixels with; 0 where it shares none."""
    shared = pair.shared
    mask_pixels, reference_pixels = shared.mask.pixels[shared.mask_index], shared.reference.pixels[shared.reference_index]
    dice = 2 * shared.pixels / (mask_pixels + reference_pixels)
    of_mask = _best_pairs(shared.mask_index, shared.pixels, reference_pixels)
    of_reference = _best_pairs(shared.reference_index, shared.pixels, mask_pixels)
    return AreaSums(
        mask=float(dice[of_mask] @ mask_pixels[of_mask]),
        mask_pixels=int(shared.mask.pixels.sum()),
        reference=float(dice[of_reference] @ reference_pixels[of_reference]),
        reference_pixels=int(shared.reference.pixels.sum()),
    )


def hausdorff_sums(pair: ObjectPair) -> AreaSums:
    """Sum each object's Hausdorff distance from the one of the other side that it shares most pixels with.

    An object that shares no pixel counts with the distance from the nearest object of the other side, in the sense of the
    Hausdorff distance, and with the image's diagonal where the other side has no objects. The distance is between the sets of
    pixels, in micrometres, or in pixels where the spacing is unknown. Time grows with objects times their pixels, memory with
    the pixels of the two largest objects.
    """
    shared = pair.shared
    mask = _Side(pair.mask, shared.mask, pair.mask_places, pair.steps)
    reference = _Side(pair.reference, shared.reference, pair.reference_places, pair.steps)
    of_mask = _partner_distances(mask, reference, shared.mask_index, shared.reference_index, shared.pixels)
    of_reference = _partner_distances(reference, mask, shared.reference_index, shared.mask_index, shared.pixels)
    return AreaSums(
        mask=float(of_mask @ shared.mask.pixels),
        mask_pixels=int(shared.mask.pixels.sum()),
        reference=float(of_reference @ shared.reference.pixels),
        reference_pixels=int(shared.reference.pixels.sum()),
    )


def _best_pairs(own: NDArray[np.int64], pixels: NDArray[np.int64], partner_pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the pair with the most pixels for each object that overlaps any; of equals the smaller partner's."""
    order = np.lexsort((partner_pixels, -pixels, own))
    _, first = np.unique(own[order], return_index=True)
    return order[first]


@dataclass(frozen=True)
class _Side:
    """Objects of one side: numbers (*S), sizes, places, and the distance between pixels along each axis."""

    objects: NDArray[Any]
    sizes: ObjectSizes
    places: ObjectPlaces
    steps: Values

    def points_without(self, index: int, other: "_Side", other_index: int) -> Values:
        """Return the pixels (P, D) of an object that an object of the other side does not share."""
        box = self.places.box(index)
        is_own = self.objects[box] == self.sizes.numbers[index]
        is_own &= other.objects[box] != other.sizes.numbers[other_index]
        return np.asarray((np.argwhere(is_own) + self.places.first[index]) * self.steps)

    def rim(self, index: int) -> Values:
        """Return the pixels (P, D) of an object that have a side in common with another one's or with the border."""
        is_own = self.objects[self.places.box(index)] == self.sizes.numbers[index]
        is_own &= ~ndimage.binary_erosion(is_own)
        return np.asarray((np.argwhere(is_own) + self.places.first[index]) * self.steps)


def _partner_distances(
    side: _Side, other: _Side, own: NDArray[np.int64], partner: NDArray[np.int64], pixels: NDArray[np.int64]
) -> Values:
    """Return the Hausdorff distance (N,) of each object of a side from its partner; diagonals without any partner."""
    if not len(other.sizes):
        return np.full(len(side.sizes), math.hypot(*(side.objects.shape * side.steps)))
    most = np.zeros(len(side.sizes), np.int64)
    np.maximum.at(most, own, pixels)
    is_best = pixels == most[own]
    partners: dict[int, list[int]] = {index: [] for index in range(len(side.sizes))}
    for index, other_index in zip(own[is_best].tolist(), partner[is_best].tolist(), strict=True):
        partners[index].append(other_index)
    distances = np.zeros(len(side.sizes))
    for index, equals in partners.items():
        if equals:
            distances[index] = min(_hausdorff(side, index, other, other_index) for other_index in equals)
        else:
            distances[index] = _nearest_distance(side, index, other)
    return distances


def _nearest_distance(side: _Side, index: int, other: _Side) -> float:
    """Return the smallest Hausdorff distance of an object from any object of the other side, which has some.

    No distance is below the largest difference of the boxes' ends, so that few of the objects are looked at.
    """
    ends = np.maximum(
        np.abs(other.places.first - side.places.first[index]), np.abs(other.places.last - side.places.last[index])
    )  # (N, D)
    least = (ends * side.steps).max(axis=1)
    nearest = math.inf
    for candidate in np.argsort(least):
        if least[candidate] >= nearest:
            break
        nearest = min(nearest, _hausdorff(side, index, other, int(candidate)))
    return nearest


def _hausdorff(side: _Side, index: int, other: _Side, other_index: int) -> float:
    """Return the Hausdorff distance between the pixels of two objects of different sides."""
    to_other = KDTree(other.rim(other_index)).query(side.points_without(index, other, other_index))[0]
    to_side = KDTree(side.rim(index)).query(other.points_without(other_index, side, index))[0]
    return float(max(to_other.max(initial=0), to_side.max(initial=0)))
