"""How good a validation case is: one number that is the better the higher it is, by what the head means."""

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from evaluation.metrics.classification import quadratic_weighted_kappa
from evaluation.metrics.overlap import confusion, nan_mean, overlaps_from_counts
from models.heads import Head, make_head

Floats = NDArray[np.float32]
Pixels = NDArray[Any]


class Score(ABC):
    """Of one case, collected band by band; pixels with `ignore_label` count nowhere.

    Attributes:
        name: what the number is called in logs and in the bundle.

    Args:
        head: what the logits mean.
        classes: K.
        ignore_label: of the reference; None: there is none.
    """

    name: str

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        self.head = head
        self.classes = classes
        self.ignore_label = ignore_label

    @abstractmethod
    def add(self, logits: Floats, reference: Pixels) -> None:
        """Takes the logits (R, rows, *rest) of some rows, and their reference (channels, rows, *rest)."""

    @abstractmethod
    def value(self) -> float:
        """NaN where the case says nothing about the network."""


class MacroDice(Score):
    """The mean over foreground classes that are in the mask or the reference."""

    name = "dice"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Counts the pixels."""
        self.counts += confusion(self.head.mask(logits), reference[0], self.classes, ignore_label=self.ignore_label)

    def value(self) -> float:
        """NaN where neither holds any foreground."""
        return overlaps_from_counts(self.counts).macro_dice


class QuadraticKappa(MacroDice):
    """Agreement of the pixels' grades beyond chance, where two grades off are worse than one."""

    name = "quadratic_kappa"

    def value(self) -> float:
        """NaN where both hold one and the same grade only."""
        return quadratic_weighted_kappa(self.counts)


class OverlappingDice(Score):
    """The mean over the classes that are in the outputs or the reference, each yes or no by itself."""

    name = "dice"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.counts = np.zeros((classes - 1, 2, 2), np.int64)

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Counts each class's pixels."""
        for counts, output, channel in zip(self.counts, logits, reference, strict=True):
            counts += confusion(output > 0, channel, 2, ignore_label=self.ignore_label)

    def value(self) -> float:
        """NaN where neither holds any foreground."""
        return nan_mean(overlaps_from_counts(counts).dice[0] for counts in self.counts)


class ExplainedVariance(Score):
    """1 - the mean squared error over the variance of the reference's pixels, R^2; 0 is what their mean would get."""

    name = "r2"

    def __init__(self, head: Head, classes: int, ignore_label: int | None) -> None:
        super().__init__(head, classes, ignore_label)
        self.pixels = 0
        self.mean = self.squares = self.errors = 0.0  # squares: of what differs from the mean

    def add(self, logits: Floats, reference: Pixels) -> None:
        """Takes the pixels' errors, and their variance into that so far (Chan, Golub and LeVeque 1979)."""
        counted = np.full(reference[0].shape, True) if self.ignore_label is None else reference[0] != self.ignore_label
        values = reference[0][counted].astype(np.float64)
        if not values.size:
            return
        self.errors += float(((self.head.values(logits)[counted] - values) ** 2).sum())
        between = float(values.mean()) - self.mean
        pixels = self.pixels + values.size
        self.squares += float(((values - values.mean()) ** 2).sum()) + between**2 * self.pixels * values.size / pixels
        self.mean += between * values.size / pixels
        self.pixels = pixels

    def value(self) -> float:
        """NaN where all pixels have one value."""
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
    """The score that validation goes by."""
    return SCORES[config.head.kind](make_head(config), len(config.data.classes), config.data.ignore_label)
