"""Scores of one case: a mask against the case's reference, band by band where the metrics allow it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.metrics.calibration import NEAR_PX, CalibrationCounts, near_foreground
from evaluation.metrics.membranes import MembranePair
from evaluation.metrics.metric import Metric
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.overlap import binary_counts, confusion
from evaluation.metrics.surface_distance import StructurePair
from evaluation.scoring.selection import Selection
from evaluation.scoring.table import Score
from evaluation.scoring.whole_case import MOST_HELD_PX, ObjectFinder, WholeCase
from imaging.errors import DataError
from imaging.source import ImageSource, Region

WHOLE_CASE = ("structure", "membranes", "objects")  # kinds of metrics that need the whole mask
TOO_LARGE = "too_large"  # remark: the case or the structure is too large for the metric
CONNECTED_PARTS = "connected_parts"  # remark: one side does not number its objects, so that they are its connected parts

Pixels = NDArray[Any]
Pair = StructurePair | MembranePair | ObjectPair  # both sides of a comparison


@dataclass(frozen=True)
class CaseMask:
    """Mask of a case, as open sources of the image's shape.

    Args:
        labels: labels of the classes (1, *S); where classes overlap also (K - 1, *S), above 0 for the class.
        objects: numbers of the objects (1, *S), 0 for background; None: the objects of a class are its connected parts.
        probabilities: probability of each class (K, *S); None: metrics of calibration are left out.
    """

    labels: ImageSource
    objects: ImageSource | None = None
    probabilities: ImageSource | None = None


def score_case(case: Case, mask: CaseMask, selection: Selection) -> tuple[Score, ...]:
    """Return the scores of a mask against its case's reference: of each selected metric, and of each class.

    Pixels with the case's `ignore_label` count nowhere: they are left out of counts, and for metrics of structures and objects
    both sides are empty there.

    Raises:
        DataError: the image or the reference can't be read, the mask has another shape (`shape_mismatch`) or a label that is no
            class (`label_unknown`); the message names the case.
    """
    with prefix_errors(case):
        with open_case_image(case) as image:
            spacing_um = image.spacing_um
        with open_reference(case, numbered=case.instances) as reference:
            check_mask(mask.labels, reference)
            scorer = CaseScorer(case, reference, selection, spacing_um)
            for block in reference.blocks():
                rows = scorer.next_rows(block.shape[1])
                scorer.add(
                    mask.labels.read(rows),
                    block,
                    objects=mask.objects.read(rows) if mask.objects else None,
                    probabilities=mask.probabilities.read(rows) if mask.probabilities else None,
                )
            return tuple(scorer.scores())


def check_mask(mask: ImageSource, reference: ImageSource) -> None:
    """Refuse a mask of another shape than its reference, and one with a channel for each class if classes do not overlap.

    Raises:
        DataError: `shape_mismatch`, `mask_channels`.
    """
    if mask.shape != reference.shape:
        raise DataError(
            "shape_mismatch",
            f"mask has shape {mask.shape}, reference has shape {reference.shape}; export the mask on the image's own grid",
        )
    if mask.channels > 1 == reference.channels:
        raise DataError(
            "mask_channels",
            f"mask has {mask.channels} channels or layers, but the classes of the reference do not overlap; write labels",
        )


class CaseScorer:
    """Scores of one case, collected from bands of its mask and its reference.

    Args:
        case: the case.
        reference: its open reference, with the numbers of objects where it has them.
        selection: the metrics.
        spacing_um: distance between the image's pixels in S order; None where it is unknown.
        find_objects: finds the objects of a mask that does not number them; None: they are its connected parts.
    """

    def __init__(
        self,
        case: Case,
        reference: ImageSource,
        selection: Selection,
        spacing_um: tuple[float, ...] | None,
        *,
        find_objects: ObjectFinder | None = None,
    ) -> None:
        self.case = case
        self.reference = reference
        self.selection = selection
        self.spacing_um = spacing_um
        self._row = 0
        self._classes, self._overlap = len(selection.classes), reference.channels > 1
        self._counts = np.zeros((reference.channels, *(2 if self._overlap else self._classes,) * 2), np.int64)
        self._calibration: CalibrationCounts | None = None
        self._whole: WholeCase | None = None
        if self._metrics(*WHOLE_CASE) and math.prod(reference.shape) <= MOST_HELD_PX:
            self._whole = WholeCase(
                reference.shape,
                reference.channels,
                self._classes,
                spacing_um=spacing_um,
                tolerance=selection.tolerance,
                find_objects=find_objects,
            )

    def next_rows(self, count: int) -> Region:
        """Return the region of the next rows, in the image's coordinates."""
        return (slice(self._row, self._row + count), *(slice(0, size) for size in self.reference.shape[1:]))

    def add(
        self, labels: Pixels, reference: Pixels, *, objects: Pixels | None = None, probabilities: Pixels | None = None
    ) -> None:
        """Add the next rows.

        Args:
            labels: labels of the mask (1, rows, *rest), or of overlapping classes (K - 1, rows, *rest).
            reference: the reference (channels, rows, *rest); numbers of objects where the case has instances.
            objects: numbers of the mask's objects (1, rows, *rest); None where it does not number them.
            probabilities: probability of each class (K, rows, *rest), for metrics of calibration; None leaves them out.

        Raises:
            DataError: `label_unknown`.
        """
        is_scored = self._is_scored(reference)
        classes = (reference > 0).astype(np.uint8) if self.case.instances or self._overlap else reference
        if self._overlap:
            channels = np.arange(1, self._classes).reshape(-1, *[1] * (labels.ndim - 1))
            labels = (labels > 0 if len(labels) > 1 else labels == channels).astype(np.uint8)  # (K - 1, rows, *rest)
        for counts, of_mask, of_reference, here in zip(self._counts, labels, classes, is_scored, strict=True):
            counts += confusion(of_mask[here], of_reference[here], len(counts))
        if probabilities is not None and not self._overlap and self._metrics("calibration"):
            self._add_probabilities(probabilities, classes[0])
        if self._whole:
            self._whole.add(self._row, labels, classes, is_scored)
            self._whole.add_objects(
                self._row,
                None if objects is None else (objects * is_scored)[0],
                (np.maximum(reference, 0) * is_scored)[0] if self.case.instances else None,
            )
        self._row += reference.shape[1]

    def _is_scored(self, reference: Pixels) -> NDArray[np.bool_]:
        if self.case.ignore_label is None:
            return np.ones(reference.shape, np.bool_)
        return np.asarray(reference != self.case.ignore_label)

    def _add_probabilities(self, probabilities: Pixels, classes: Pixels) -> None:
        """Count the probabilities (K, rows, *rest) of pixels in and near the reference's foreground."""
        first, last = max(0, self._row - NEAR_PX), min(self._row + len(classes) + NEAR_PX, self.reference.shape[0])
        around = self.reference.read((slice(first, last), *(slice(0, size) for size in self.reference.shape[1:])))
        is_scored = self._is_scored(around)[0]
        near = near_foreground(around[0] * is_scored, self.spacing_um) & is_scored
        self._calibration = self._calibration or CalibrationCounts()
        self._calibration.add(probabilities, classes, near[self._row - first : self._row - first + len(classes)])

    def scores(self) -> Iterator[Score]:
        """Yield the scores of the case after its last row: first by metric, and then by class."""
        yield from sorted(self._scores(), key=lambda score: self.selection.names.index(score.metric))

    def _scores(self) -> Iterator[Score]:
        """Yield the scores in the order of their computation, in which a structure is in memory once."""
        whole = self._whole
        for metric in () if self._overlap else self._metrics("ordinal"):
            yield self._score(metric, "", metric.function(self._counts[0]))
        for metric in self._metrics("calibration") if self._calibration else ():
            yield self._score(metric, "", metric.function(self._calibration))
        for index, name in enumerate(self.selection.classes[1:]):
            for metric in self._metrics("overlap"):
                counts = binary_counts(self._counts[index], 1) if self._overlap else binary_counts(self._counts[0], index + 1)
                yield self._score(metric, name, metric.function(counts))
            yield from self._pair_scores("structure", name, partial(whole.structure, index) if whole else None)
            yield from self._pair_scores("membranes", name, whole.membranes if whole else None) if index == 0 else ()
            yield from self._pair_scores("objects", name, partial(whole.objects, index) if whole else None)

    def _metrics(self, *kinds: str) -> list[Metric]:
        return [metric for metric in self.selection.metrics if metric.kind in kinds]

    def _pair_scores(self, kind: str, name: str, read_pair: Callable[[], Pair | None] | None) -> Iterator[Score]:
        """Yield the scores of a class by the metrics of one kind, which compare a pair that is read only if it is needed."""
        metrics = self._metrics(kind)
        pair = read_pair() if read_pair and metrics else None
        for metric in metrics:
            if pair is None:
                yield self._score(metric, name, math.nan, TOO_LARGE)
                continue
            value = metric.function(pair)
            remark = "" if isinstance(pair, MembranePair) else pair.remark
            if isinstance(pair, ObjectPair) and self._whole and not self._whole.are_numbered:
                remark = remark or CONNECTED_PARTS
            yield self._score(metric, name, value, remark)

    def _score(self, metric: Metric, class_name: str, value: float, remark: str = "") -> Score:
        unit: str = metric.unit
        if unit == "distance":
            unit = "px" if self.spacing_um is None else "um"
        return Score(self.case.name, self.case.group, metric.name, class_name, value, unit, remark)
