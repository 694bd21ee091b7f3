"""Head: the meaning of a network's outputs, and their conversion to probabilities and a mask, or to values.

Probabilities and uncertainty are computed from the logits divided by the head's temperature; masks, values, means and shifts
from the logits as they are. `models.heads` has the heads.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, log_expit, logsumexp

from models.errors import BundleError

Floats = NDArray[Any]

CERTAIN = 16.0  # a logit whose probability is 1 to seven digits


class Head(ABC):
    """Meaning of R outputs per pixel, for K classes.

    Attributes:
        gives_values: whether the output is a value per pixel and no class; then `values` replaces `probabilities` and `mask`.
        has_temperature: whether a temperature changes the probabilities and leaves the mask as it is.

    Args:
        classes: K, number of classes.
        temperature: the logits are divided by it before probabilities are computed from them; 1 if they aren't calibrated.
        low_confidence: mean confidence over an image's foreground below which the image gets a remark; None: no remark.
    """

    gives_values: ClassVar[bool] = False
    has_temperature: ClassVar[bool] = True

    def __init__(self, classes: int, temperature: float = 1.0, low_confidence: float | None = None) -> None:
        self.classes = classes
        self.temperature = temperature
        self.low_confidence = low_confidence

    @property
    def outputs(self) -> int:
        """R, number of outputs of the network's last layer."""
        return self.classes

    @property
    def uncalibrated(self) -> Self:
        """The same head without temperature and threshold."""
        return type(self)(self.classes)

    def tempered(self, logits: Floats) -> Floats:
        """Return the logits divided by the temperature, and the same array with a temperature of 1."""
        return logits if self.temperature == 1 else logits / self.temperature

    @property
    def nothing(self) -> NDArray[np.float32]:
        """Logits (R,) of certain background.

        Raises:
            BundleError: the head gives values.
        """
        return np.full(self.outputs, -CERTAIN, np.float32)

    @abstractmethod
    def probabilities(self, logits: Floats) -> Floats:
        """Return the class probabilities (K, *S) of logits (R, *S).

        Raises:
            BundleError: the head gives values.
        """

    @abstractmethod
    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the label of each pixel, (*S), of logits (R, *S).

        Raises:
            BundleError: the head gives values.
        """

    def uncertainty(self, logits: Floats) -> NDArray[np.float32]:
        """Return the uncertainty of each pixel, (*S): the entropy of the classes divided by its maximum, 0 to 1.

        Raises:
            BundleError: the head gives values.
        """
        return np.asarray(entr(self.probabilities(logits)).sum(axis=0) / np.log(self.classes), np.float32)

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """Return the value of each pixel, (*S), of logits (1, *S).

        Raises:
            BundleError: the head gives classes.
        """
        raise BundleError("the bundle gives classes and no values; write masks or probabilities")

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """Return the logits (R, *S) whose probabilities, or values, are the mean over several networks' logits (R, *S)."""
        above, below = (logsumexp([log_expit(sign * each) for each in logits], axis=0) for sign in (1, -1))
        mean: Floats = above - below
        return mean

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """Return the shift (R,) that corrects logits, trained on equally frequent classes, to the class prior (K,)."""
        return np.zeros(self.outputs)
