"""Otsu's threshold: what a method has to beat before its number means anything."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case, about, open_case_image
from datasets.references import open_reference
from evaluation.metrics.overlap import Counts, confusion, mean_of, overlaps_of, pooled
from imaging.source import ImageSource

BINS = 256


@dataclass(frozen=True)
class Floor:
    """Otsu's Dice on each case (NaN where there is none) and over all pixels; `foreground` is darker or brighter."""

    foreground: str
    dice: tuple[float, ...]
    pooled_dice: float

    @property
    def mean_dice(self) -> float:
        """Mean over the cases that have a value."""
        return mean_of(self.dice)


def floor_of(cases: Sequence[Case]) -> Floor:
    """Otsu's threshold on each case's grey image (mean of the channels), one side of it being foreground.

    The side is chosen for the data set as a whole, by pooled Dice on these very references: a favour to the threshold.

    Raises:
        DataError: with the case's name.
    """
    darker = [_darker_is_foreground(case) for case in cases]
    sides = {"darker": darker, "brighter": [counts[:, ::-1] for counts in darker]}  # the other side: 0 and 1 swapped
    scores = {name: pooled(counts).macro_dice for name, counts in sides.items()}
    name = max(sides, key=lambda side: (np.nan_to_num(scores[side]), side))
    return Floor(name, tuple(overlaps_of(counts).macro_dice for counts in sides[name]), scores[name])


def otsu_threshold(histogram: NDArray[np.int64]) -> int:
    """The bin that ends the lower class: of all splits the one with the most variance between the classes (Otsu 1979).

    Args:
        histogram: pixels by bin, in rising order of intensity.
    """
    counts = histogram.astype(np.float64)
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    moments = np.cumsum(counts * np.arange(len(counts)))
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = moments[:-1] / below - (moments[-1] - moments[:-1]) / above
        between = np.nan_to_num(below * above * distance**2, nan=0.0)
    best = np.flatnonzero(between == between.max())
    return int(best[(len(best) - 1) // 2])  # the middle of an empty valley, where all splits are equal


def _darker_is_foreground(case: Case) -> Counts:
    """Confusion (2, 2) of one case with the pixels up to the threshold as foreground."""
    with about(case), open_case_image(case) as image, open_reference(case) as reference:
        low, high = _range(image)
        scale = (BINS - 1) / (high - low) if high > low else 0.0
        histogram = np.zeros(BINS, np.int64)
        for grey in _grey(image):
            histogram += np.bincount(_bins(grey, low, scale).ravel(), minlength=BINS)
        threshold = otsu_threshold(histogram)
        counts = np.zeros((2, 2), np.int64)
        row = 0
        for grey in _grey(image):
            rows = (slice(row, row + len(grey)), *(slice(0, size) for size in image.shape[1:]))
            darker = _bins(grey, low, scale) <= threshold
            counts += confusion(darker, reference.read(rows)[0], 2, ignore_label=case.ignore_label)
            row += len(grey)
    return counts


def _range(image: ImageSource) -> tuple[float, float]:
    ends = [(float(grey.min()), float(grey.max())) for grey in _grey(image)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _grey(image: ImageSource) -> Iterator[NDArray[np.float32]]:
    for block in image.blocks():
        grey: NDArray[np.float32] = block.mean(axis=0, dtype=np.float32)  # (rows, *rest)
        yield grey


def _bins(grey: NDArray[np.float32], low: float, scale: float) -> NDArray[np.int64]:
    bins: NDArray[np.int64] = np.clip(np.rint((grey - low) * scale), 0, BINS - 1).astype(np.int64)
    return bins
