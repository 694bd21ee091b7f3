"""What a network's outputs mean: how many there are, and how they become probabilities and a mask, or values."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit, log_expit, log_softmax, logsumexp, softmax

from configs.schema import Config
from models.errors import BundleError

Floats = NDArray[Any]

SURE = 16.0  # a logit whose probability is 1 to seven digits


class Head(ABC):
    """The meaning of R outputs a pixel, for K classes.

    Attributes:
        gives_values: there are no classes but a value a pixel; then `values` takes the place of `probabilities` and `mask`.
        outputs: R, what the network's last layer gives for each pixel.

    Args:
        classes: K.
    """

    gives_values: ClassVar[bool] = False
    outputs: int

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.outputs = classes

    @property
    def nothing(self) -> NDArray[np.float32]:
        """Logits (R,) that say background for sure.

        Raises:
            BundleError: the head gives values.
        """
        return np.full(self.outputs, -SURE, np.float32)

    @abstractmethod
    def probabilities(self, logits: Floats) -> Floats:
        """(K, *S) of logits (R, *S).

        Raises:
            BundleError: the head gives values.
        """

    @abstractmethod
    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The label of each pixel, (*S), of logits (R, *S).

        Raises:
            BundleError: the head gives values.
        """

    def uncertainty(self, logits: Floats) -> NDArray[np.float32]:
        """How little is known of each pixel, (*S), of logits (R, *S): the classes' entropy by its largest, 0 .. 1.

        Raises:
            BundleError: the head gives values.
        """
        return np.asarray(entr(self.probabilities(logits)).sum(axis=0) / np.log(self.classes), np.float32)

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """The value of each pixel, (*S), of logits (1, *S).

        Raises:
            BundleError: the head gives classes.
        """
        raise BundleError("the bundle gives classes and no values; write masks or probabilities")

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """The logits (R, *S) whose probabilities, or values, are the mean of those of several networks' logits (R, *S)."""
        above, below = (logsumexp([log_expit(sign * each) for each in logits], axis=0) for sign in (1, -1))
        mean: Floats = above - below
        return mean

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """(R,) to add to logits of a network that saw every class equally often, where the classes' shares are (K,)."""
        return np.zeros(self.outputs)


class Softmax(Head):
    """One output a class; exactly one class a pixel."""

    @property
    def nothing(self) -> NDArray[np.float32]:
        """All for the first class."""
        return np.array([SURE, *[0] * (self.classes - 1)], np.float32)

    def probabilities(self, logits: Floats) -> Floats:
        """They sum to 1 over the classes."""
        probabilities: Floats = softmax(logits, axis=0)
        return probabilities

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The likeliest class; the first of equals."""
        mask: NDArray[np.uint8] = logits.argmax(axis=0).astype(np.uint8)
        return mask

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """Logarithms of the mean probabilities."""
        mean: Floats = logsumexp([log_softmax(each, axis=0) for each in logits], axis=0) - np.log(len(logits))
        return mean.astype(logits[0].dtype)

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """log(prior * K); for two classes this is p' = p*pi/.5 / (p*pi/.5 + (1-p)*(1-pi)/.5)."""
        return np.asarray(np.log(_possible(class_prior) * len(class_prior)))


class Sigmoid(Head):
    """One output for two classes: the second one's log-odds."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.outputs = 1

    def probabilities(self, logits: Floats) -> Floats:
        """They sum to 1 over the two classes."""
        return np.concatenate([expit(-logits), expit(logits)])

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The likelier class; the first of equals."""
        return np.asarray(logits[0] > 0, np.uint8)

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """The log-odds of the second class's share."""
        first, second = np.log(_possible(class_prior))
        return np.array([second - first])


class MultiLabel(Head):
    """One output a foreground class, each yes or no: classes may overlap, and background is where none is."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.outputs = classes - 1

    def probabilities(self, logits: Floats) -> Floats:
        """Each class's own; the background's is what the likeliest one leaves."""
        foreground = expit(logits)
        return np.concatenate([1 - foreground.max(axis=0, keepdims=True), foreground])

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The likeliest class above one half, the first of equals; background where none is."""
        mask: NDArray[np.uint8] = ((logits.argmax(axis=0) + 1) * (logits.max(axis=0) > 0)).astype(np.uint8)
        return mask

    def uncertainty(self, logits: Floats) -> NDArray[np.float32]:
        """That of the class of which least is known, whether it is there or not."""
        there = expit(logits)
        return np.asarray((entr(there) + entr(1 - there)).max(axis=0) / np.log(2), np.float32)


class SoftLabel(Head):
    """One output from 0 to 1 for ordered classes: class c stands at c / (K - 1) (de Vente et al. 2020)."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.outputs = 1

    def probabilities(self, logits: Floats) -> Floats:
        """Shared by the two classes on either side of the output, by how near each is; they sum to 1."""
        places = np.arange(self.classes, dtype=logits.dtype).reshape(-1, *(1,) * (logits.ndim - 1))
        return np.asarray(np.clip(1 - np.abs(expit(logits) * (self.classes - 1) - places), 0, 1))

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """The nearest class; the lower one halfway between two."""
        mask: NDArray[np.uint8] = np.ceil(expit(logits[0]) * (self.classes - 1) - 0.5).astype(np.uint8)
        return mask


class Cumulative(Head):
    """K - 1 outputs for ordered classes: whether the class is at least 1, at least 2 and so on.

    Nothing keeps a network from saying that class 3 or more is likelier than class 2 or more. Such outputs are put in falling
    order, which brings them nearer to the truth (Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and probability
    curves without crossing").
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.outputs = classes - 1

    def probabilities(self, logits: Floats) -> Floats:
        """The falls between one output and the next, once they are in order; they sum to 1."""
        at_least = expit(-np.sort(-logits, axis=0))  # (K - 1, *S), falling
        ends = np.ones_like(at_least[:1])
        return np.asarray(-np.diff(np.concatenate([ends, at_least, 0 * ends]), axis=0))

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """How many outputs are above one half, in whatever order: the median class, the lower one of two."""
        mask: NDArray[np.uint8] = (logits > 0).sum(axis=0, dtype=np.uint8)
        return mask


class Regression(Head):
    """One output: a value of any size."""

    gives_values = True

    @property
    def nothing(self) -> NDArray[np.float32]:
        """None.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values, of which none is background; leave --tissue out")

    def probabilities(self, logits: Floats) -> Floats:
        """None.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values and no probabilities of classes; leave probabilities out")

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """None.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values and no mask; overtile predict writes them as a map")

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """The outputs' mean."""
        return np.asarray(np.mean(logits, axis=0))

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """The output itself."""
        return np.asarray(logits[0], np.float32)


class UnitRegression(Regression):
    """One output: a value from 0 to 1."""

    mean = Head.mean

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """The output's logistic function."""
        return np.asarray(expit(logits[0]), np.float32)


HEADS: dict[str, type[Head]] = {
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "multi_label": MultiLabel,
    "soft_label": SoftLabel,
    "one_hot": Softmax,
    "cumulative": Cumulative,
    "regression": Regression,
    "unit_regression": UnitRegression,
}


def make_head(config: Config) -> Head:
    """The config's head."""
    return HEADS[config.head.name](len(config.data.classes))


def check_gives_masks(config: Config) -> None:
    """Nothing, when the config's network gives masks.

    Raises:
        BundleError: it gives a value a pixel instead.
    """
    if make_head(config).gives_values:
        quantity = config.data.classes[0].name
        raise BundleError(
            f"{config.run.name} gives values of {quantity} and no masks; overtile predict writes them as maps, "
            "everything else takes bundles with classes"
        )


def _possible(class_prior: Sequence[float]) -> Floats:
    """A class that training never saw stays possible."""
    return np.maximum(np.asarray(class_prior, np.float64), 1e-6)
