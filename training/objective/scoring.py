"""Scores of validation cases: one number per case, higher is better, by the kind of head."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from evaluation.metrics.classification import quadratic_weighted_kappa
from evaluation.metrics.overlap import confusion, nan_mean, overlaps_from_counts
from models.head import Head
from models.heads import make_head

Floats = NDArray[np.float32]
Pixels = NDArray[Any]


class Score(ABC):
    """Score of one case, collected band by band; pixels with `ignore_label` don't count.

    Attributes:
        name: name of the score in logs and in the bundle.

    Args:
        head: converts logits to a mask or values.
        classes: K.
        ignore_label: label of excluded pixels; None: all count.
    """

    name: str

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        self.head = head
        self.classes = classes
        self.ignore_label = ignore_label

    @abstractmethod
    def add(self, logits: Floats, reference: Pixels) -> None:
        """Add the logits (R, rows, *rest) of some rows, and their reference (channels, rows, *rest)."""

    @abstractmethod
    def value(self) -> float:
        """Return the score, NaN where the case has no pixels to judge the network by."""


class MacroDice(Score):
    """Mean Dice of the foreground classes that occur in the mask or the reference."""

    name = "dice"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Count the pixels of each pair of classes."""
        self.counts += confusion(self.head.mask(logits), reference[0], self.classes, ignore_label=self.ignore_label)

    def value(self) -> float:
        """Return the mean Dice, NaN where neither mask nor reference has foreground."""
        return overlaps_from_counts(self.counts).macro_dice


class QuadraticKappa(MacroDice):
    """Quadratic weighted kappa: agreement of the pixels' grades beyond chance, where larger differences count more."""

    name = "quadratic_kappa"

    def value(self) -> float:
        """Return the kappa, NaN where mask and reference hold the same single grade."""
        return quadratic_weighted_kappa(self.counts)


class OverlappingDice(Score):
    """Mean Dice of classes that overlap, each a mask of its own, over those that occur in the outputs or the reference."""

    name = "dice"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.counts = np.zeros((classes - 1, 2, 2), np.int64)

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Count each class's pixels."""
        for counts, output, channel in zip(self.counts, logits, reference, strict=True):
            counts += confusion(output > 0, channel, 2, ignore_label=self.ignore_label)

    def value(self) -> float:
        """Return the mean Dice, NaN where neither outputs nor reference have foreground."""
        return nan_mean(overlaps_from_counts(counts).dice[0] for counts in self.counts)


class ExplainedVariance(Score):
    """R^2: 1 - the mean squared error over the variance of the reference's pixels; predicting their mean scores 0."""

    name = "r2"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.pixels = 0
        self.mean = self.squares = self.errors = 0.0  # squares: sum of squared deviations from the mean

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Add the squared errors, and merge the variance with the one so far (Chan, Golub and LeVeque 1979)."""
        valid = np.full(reference[0].shape, True) if self.ignore_label is None else reference[0] != self.ignore_label
        values = reference[0][valid].astype(np.float64)
        if not values.size:
            return
        self.errors += float(((self.head.values(logits)[valid] - values) ** 2).sum())
        between = float(values.mean()) - self.mean
        pixels = self.pixels + values.size
        self.squares += float(((values - values.mean()) ** 2).sum()) + between**2 * self.pixels * values.size / pixels
        self.mean += between * values.size / pixels
        self.pixels = pixels

    def value(self) -> float:
        """Return R^2, NaN where all pixels have the same value."""
        return 1 - self.errors / self.squares if self.squares else math.nan


SCORES: dict[str, type[Score]] = {  # by head.kind
    "softmax": MacroDice,
    "sigmoid": MacroDice,
    "multi_label": OverlappingDice,
    "ordinal": QuadraticKappa,
    "regression": ExplainedVariance,
    "unit_regression": ExplainedVariance,
}


def make_score(config: Config) -> Score:
    """Return an empty score of the kind that the config's validation uses."""
    return SCORES[config.head.kind](make_head(config), len(config.data.classes), config.data.ignore_index)
