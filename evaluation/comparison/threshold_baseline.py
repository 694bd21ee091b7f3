"""Otsu's threshold as a baseline: a method that does not beat it is not worth its cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.bootstrap_interval import unit_means
from evaluation.metrics.overlap import Counts, confusion, nan_mean, overlaps_from_counts, pooled_overlaps
from imaging.source import ImageSource

BINS = 256


@dataclass(frozen=True)
class ThresholdBaseline:
    """Dice of Otsu's threshold on each case (NaN where it has none) and over all pixels together.

    Args:
        foreground: "darker" or "brighter", the side of the threshold that counts as foreground.
        dice: one value for each case.
        groups: group of each case; None where it is unknown.
        pooled_dice: Dice over the pixels of all cases.
    """

    foreground: str
    dice: tuple[float, ...]
    groups: tuple[str | None, ...]
    pooled_dice: float

    @property
    def mean_dice(self) -> float:
        """Mean over the groups of cases, or over cases without groups, that have a Dice."""
        return nan_mean(unit_means(self.dice, self.groups))


def score_threshold_baseline(cases: Sequence[Case]) -> ThresholdBaseline:
    """Score Otsu's threshold on each case's grey image (mean of the channels), one side of it being foreground.

    One side is chosen for the whole data set, by the pooled Dice on the same references, which favours the threshold.

    Raises:
        DataError: an image or reference can't be read, with the case's name.
    """
    darker = [_confusion_of_darker(case) for case in cases]
    sides = {"darker": darker, "brighter": [counts[:, ::-1] for counts in darker]}  # 0 and 1 of the mask swapped
    scores = {name: pooled_overlaps(counts).macro_dice for name, counts in sides.items()}
    name = max(sides, key=lambda side: (np.nan_to_num(scores[side]), side))
    dice = tuple(overlaps_from_counts(counts).macro_dice for counts in sides[name])
    return ThresholdBaseline(name, dice, tuple(case.group for case in cases), scores[name])


def otsu_threshold(histogram: NDArray[np.int64]) -> int:
    """Return the last bin of the lower class, at the split with the most variance between both classes (Otsu 1979).

    Args:
        histogram: pixels in each bin, in rising order of intensity.
    """
    counts = histogram.astype(np.float64)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    moments = np.cumsum(counts * np.arange(len(counts)))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = moments[:-1] / below - (moments[-1] - moments[:-1]) / above
        between = np.nan_to_num(below * above * distance**2, nan=0.0)
    best = np.flatnonzero(between == between.max())
    return int(best[(len(best) - 1) // 2])  # all splits within an empty valley are equal: take its middle


def _confusion_of_darker(case: Case) -> Counts:
    """Return the confusion matrix (2, 2) of one case with the pixels up to the threshold as foreground."""
    with prefix_errors(case), open_case_image(case) as image, open_reference(case) as reference:
        ends = [(float(grey.min()), float(grey.max())) for grey in _grey_blocks(image)]
        low, high = min(smallest for smallest, _ in ends), max(largest for _, largest in ends)
        scale = (BINS - 1) / (high - low) if high > low else 0.0
        histogram = np.zeros(BINS, np.int64)
        for grey in _grey_blocks(image):
            histogram += np.bincount(_to_bins(grey, low, scale).ravel(), minlength=BINS)
        threshold = otsu_threshold(histogram)
        counts = np.zeros((2, 2), np.int64)
        row = 0
        for grey in _grey_blocks(image):
            rows = (slice(row, row + len(grey)), *(slice(0, size) for size in image.shape[1:]))
            darker = _to_bins(grey, low, scale) <= threshold
            counts += confusion(darker, reference.read(rows)[0], 2, ignore_label=case.ignore_label)
            row += len(grey)
    return counts


def _grey_blocks(image: ImageSource) -> Iterator[NDArray[np.float32]]:
    for block in image.blocks():
        grey: NDArray[np.float32] = block.mean(axis=0, dtype=np.float32)  # (rows, *rest)
        yield grey


def _to_bins(grey: NDArray[np.float32], low: float, scale: float) -> NDArray[np.int64]:
    bins: NDArray[np.int64] = np.clip(np.rint((grey - low) * scale), 0, BINS - 1).astype(np.int64)
    return bins
