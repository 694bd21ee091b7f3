"""Scores of one case: a mask against the case's reference, band by band where the metrics allow it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case, prefix_errors
from datasets.references import open_reference
from evaluation.metrics.metric import BinaryCounts, Metric
from evaluation.metrics.overlap import binary_counts, confusion
from evaluation.scoring.selection import Selection
from evaluation.scoring.table import Score
from imaging.errors import DataError
from imaging.source import ImageSource

Pixels = NDArray[Any]


@dataclass(frozen=True)
class CaseMask:
    """Mask of a case, as open sources of the image's shape.

    Args:
        labels: labels of the classes (1, *S); where classes overlap also (K - 1, *S), above 0 for the class.
        objects: numbers of the objects (1, *S), 0 for background; None: the objects of a class are its connected parts.
    """

    labels: ImageSource
    objects: ImageSource | None = None


def score_case(case: Case, mask: CaseMask, selection: Selection) -> tuple[Score, ...]:
    """Return the scores of a mask against its case's reference: of each selected metric, and of each class.

    Pixels with the case's `ignore_label` count nowhere.

    Raises:
        DataError: the reference can't be read, the mask has another shape (`shape_mismatch`) or a label that is no class
            (`label_unknown`); the message names the case.
    """
    with prefix_errors(case), open_reference(case) as reference:
        scorer = CaseScorer(case, reference, selection)
        row = 0
        check_mask_shape(mask.labels, reference)
        for block in reference.blocks():
            rows = (slice(row, row + block.shape[1]), *(slice(0, size) for size in reference.shape[1:]))
            scorer.add(mask.labels.read(rows), block)
            row = rows[0].stop
        return tuple(scorer.scores())


def check_mask_shape(mask: ImageSource, reference: ImageSource) -> None:
    """Refuse a mask of another shape than its reference.

    Raises:
        DataError: `shape_mismatch`.
    """
    if mask.shape != reference.shape:
        raise DataError(
            "shape_mismatch",
            f"mask has shape {mask.shape}, reference has shape {reference.shape}; export the mask on the image's own grid",
        )


class CaseScorer:
    """Scores of one case, collected from bands of its mask and its reference.

    Args:
        case: the case.
        reference: its open reference.
        selection: the metrics.
    """

    def __init__(self, case: Case, reference: ImageSource, selection: Selection) -> None:
        self.case = case
        self.selection = selection
        self._classes = len(selection.classes)
        self._overlapping = reference.channels > 1
        shape = (self._classes - 1, 2, 2) if self._overlapping else (1, self._classes, self._classes)
        self._counts = np.zeros(shape, np.int64)

    def add(self, labels: Pixels, reference: Pixels) -> None:
        """Add the next rows: the mask's labels (channels, rows, *rest) and their reference (channels, rows, *rest)."""
        ignored = self.case.ignore_label
        if not self._overlapping:
            self._counts[0] += confusion(labels[0], reference[0], self._classes, ignore_label=ignored)
            return
        for index, (counts, channel) in enumerate(zip(self._counts, reference, strict=True)):
            is_class = labels[index] > 0 if len(labels) > 1 else labels[0] == index + 1
            counts += confusion(is_class, channel, 2, ignore_label=ignored)

    def scores(self) -> Iterator[Score]:
        """Yield the scores of the rows so far, in the order of the metrics and of the classes."""
        for metric in self.selection.metrics:
            if metric.kind == "overlap":
                for index, name in enumerate(self.selection.classes[1:]):
                    yield self._score(metric, name, metric.function(self._binary_counts(index)))
            elif metric.kind == "ordinal" and not self._overlapping:
                yield self._score(metric, "", metric.function(self._counts[0]))

    def _binary_counts(self, index: int) -> BinaryCounts:
        """Return the counts of a foreground class by its index from 0."""
        return binary_counts(self._counts[index], 1) if self._overlapping else binary_counts(self._counts[0], index + 1)

    def _score(self, metric: Metric, class_name: str, value: float, remark: str = "") -> Score:
        unit = "" if metric.unit == "distance" else metric.unit
        return Score(self.case.name, self.case.group, metric.name, class_name, value, unit, remark)
