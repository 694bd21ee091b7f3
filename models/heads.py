"""What a network's outputs mean: how many there are, and how they become probabilities and a mask."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from configs.schema import Config

Floats = NDArray[Any]


class Head(ABC):
    """The meaning of R outputs a pixel, for K classes.

    Attributes:
        outputs: R, what the network's last layer gives for each pixel.
    """

    outputs: int

    @abstractmethod
    def probabilities(self, logits: Floats) -> Floats:
        """(K, *S) of logits (R, *S)."""

    @abstractmethod
    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The label of each pixel, (*S), of logits (R, *S)."""


class Softmax(Head):
    """One output a class; exactly one class a pixel."""

    def __init__(self, classes: int) -> None:
        self.outputs = classes

    def probabilities(self, logits: Floats) -> Floats:
        """They sum to 1 over the classes."""
        probabilities: Floats = softmax(logits, axis=0)
        return probabilities

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The likeliest class; the first of equals."""
        mask: NDArray[np.uint8] = logits.argmax(axis=0).astype(np.uint8)
        return mask


def make_head(config: Config) -> Head:
    """The config's head."""
    return Softmax(len(config.data.classes))
