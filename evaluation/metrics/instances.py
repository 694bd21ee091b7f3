"""Object scores by overlap: panoptic quality, F1 at several IoUs, and the Data Science Bowl's average precision.

Objects match where their IoU is above a threshold of one half or more. That makes the matching unique: no object has two
partners, and the order of matching does not matter. A case without objects on either side has no score (NaN); means leave it
out, and it is counted separately. Where only one side has objects, or no objects match, every score is 0.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from evaluation.metrics.object_pair import ObjectPair

LEAST_IOU_PERCENT = 50  # a lower threshold would let one object match two
BOWL_IOU_PERCENTS = range(50, 100, 5)  # thresholds of the Data Science Bowl of 2018


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
    def accuracy(self) -> float:
        """TP / (TP + FP + FN)."""
        return self._value(len(self.ious), self.in_mask + self.in_reference - len(self.ious))

    @property
    def pq(self) -> float:
        """Panoptic quality: sum of the matched IoUs / (TP + FP / 2 + FN / 2) (Kirillov et al. 2019, equation 1)."""
        return self._value(2 * math.fsum(self.ious), self.in_mask + self.in_reference)

    def _value(self, part: float, whole: int) -> float:
        if self.in_mask + self.in_reference == 0:
            return math.nan
        return part / whole if whole else 0.0


def match_objects(pair: ObjectPair, iou_percent: int = LEAST_IOU_PERCENT) -> Matches:
    """Match the objects whose IoU is above a threshold in percent, 50 or more; it is compared without rounding.

    Raises:
        DataError: `numbers_invalid`.
        ValueError: the threshold is below one half.
    """
    if iou_percent < LEAST_IOU_PERCENT:
        raise ValueError(f"an IoU threshold of {iou_percent} % lets an object match two; give {LEAST_IOU_PERCENT} % or more")
    shared = pair.shared
    is_match = 100 * shared.pixels > iou_percent * shared.union
    ious = shared.pixels[is_match] / shared.union[is_match]
    return Matches(ious=tuple(ious.tolist()), in_mask=len(shared.mask), in_reference=len(shared.reference))


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


def panoptic_quality(pair: ObjectPair) -> float:
    """Return the panoptic quality (Kirillov et al. 2019) of objects that match at an IoU above one half."""
    return match_objects(pair).pq


def segmentation_quality(pair: ObjectPair) -> float:
    """Return the mean IoU of the objects that match at an IoU above one half."""
    return match_objects(pair).sq


def f1_at_iou(pair: ObjectPair, iou_percent: int = LEAST_IOU_PERCENT) -> float:
    """Return the F1 of objects that match at an IoU above a threshold; at one half it is the recognition quality."""
    return match_objects(pair, iou_percent).f1


def average_precision(pair: ObjectPair) -> float:
    """Return the mean of TP / (TP + FP + FN) over the thresholds .5, .55 .. .95 of the IoU (Data Science Bowl of 2018)."""
    return fmean(match_objects(pair, percent).accuracy for percent in BOWL_IOU_PERCENTS)
