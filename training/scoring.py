"""How good a validation case is: one number that is the better the higher it is, by what the head means."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from evaluation.metrics import confusion, overlaps_of
from models.heads import Head, make_head


class Score(ABC):
    """Of one case, collected band by band.

    Attributes:
        name: what the number is called in logs and in the bundle.
    """

    name: str

    @abstractmethod
    def add(self, logits: NDArray[np.float32], reference: NDArray[Any]) -> None:
        """Takes the logits (R, rows, *rest) of some rows, and their reference (channels, rows, *rest)."""

    @abstractmethod
    def value(self) -> float:
        """NaN where the case says nothing about the network."""


class MacroDice(Score):
    """The mean over foreground classes that are in the mask or the reference."""

    name = "dice"

    def __init__(self, head: Head, classes: int) -> None:
        self.head = head
        self.counts = np.zeros((classes, classes), np.int64)

    def add(self, logits: NDArray[np.float32], reference: NDArray[Any]) -> None:
        """Counts the pixels."""
        self.counts += confusion(self.head.mask(logits), reference[0], len(self.counts))

    def value(self) -> float:
        """NaN where neither holds any foreground."""
        return overlaps_of(self.counts).macro_dice


def make_score(config: Config) -> Score:
    """The score that validation goes by."""
    return MacroDice(make_head(config), len(config.data.classes))
