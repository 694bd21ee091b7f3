"""Heads by the names that configs give them: softmax, sigmoid, several labels, ordered classes, and values."""

from collections.abc import Sequence
from math import exp, log
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, expit, log_softmax, logsumexp, softmax

from configs.schema import Config
from models.calibration import Calibration
from models.errors import BundleError
from models.head import CERTAIN, Floats, Head


class SoftmaxHead(Head):
    """Head with one output per class and exactly one class per pixel."""

    @property
    def nothing(self) -> NDArray[np.float32]:
        """Logits (K,) of the first class alone."""
        return np.array([CERTAIN, *[0] * (self.classes - 1)], np.float32)

    def probabilities(self, logits: Floats) -> Floats:
        """Return the softmax, which sums to 1 over the classes."""
        probabilities: Floats = softmax(self.tempered(logits), axis=0)
        return probabilities

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the likeliest class, the first one of equals."""
        mask: NDArray[np.uint8] = logits.argmax(axis=0).astype(np.uint8)
        return mask

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """Return the logarithms of the mean probabilities."""
        mean: Floats = logsumexp([log_softmax(each, axis=0) for each in logits], axis=0) - np.log(len(logits))
        return mean.astype(logits[0].dtype)

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """Return log(prior * K); for two classes this is p' = p*pi/.5 / (p*pi/.5 + (1-p)*(1-pi)/.5)."""
        return np.asarray(np.log(_positive_prior(class_prior) * len(class_prior)))


class SigmoidHead(Head):
    """Head with one output for two classes: the log-odds of the second."""

    @property
    def outputs(self) -> int:
        """1: the log-odds of the second class."""
        return 1

    def probabilities(self, logits: Floats) -> Floats:
        """Return both probabilities, which sum to 1."""
        logits = self.tempered(logits)
        return np.concatenate([expit(-logits), expit(logits)])

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the likelier class, the first one of equals."""
        return np.asarray(logits[0] > 0, np.uint8)

    def shift(self, class_prior: Sequence[float]) -> Floats:
        """Return the log-odds of the second class's share."""
        first, second = np.log(_positive_prior(class_prior))
        return np.array([second - first])


class MultiLabelHead(Head):
    """Head with one binary output per foreground class. Classes may overlap; background is where there is none."""

    @property
    def outputs(self) -> int:
        """K - 1, one per class but the first."""
        return self.classes - 1

    def probabilities(self, logits: Floats) -> Floats:
        """Return the sigmoid of each class; the background's is 1 minus the largest."""
        foreground = expit(self.tempered(logits))
        return np.concatenate([1 - foreground.max(axis=0, keepdims=True), foreground])

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the likeliest class above one half, the first one of equals, or background if none is above."""
        mask: NDArray[np.uint8] = np.where(logits.max(axis=0) > 0, logits.argmax(axis=0) + 1, 0).astype(np.uint8)
        return mask

    def uncertainty(self, logits: Floats) -> NDArray[np.float32]:
        """Return the binary entropy of the most uncertain class."""
        foreground = expit(self.tempered(logits))
        return np.asarray((entr(foreground) + entr(1 - foreground)).max(axis=0) / np.log(2), np.float32)


class SoftLabelHead(Head):
    """Head with one output from 0 to 1 for ordered classes: class c is at c / (K - 1) (de Vente et al. 2020).

    It has no temperature, which would move the output towards the middle class and so change the mask.
    """

    has_temperature = False

    @property
    def outputs(self) -> int:
        """1: the place between the first and the last class."""
        return 1

    def probabilities(self, logits: Floats) -> Floats:
        """Return the linear interpolation between the two classes around the output; it sums to 1."""
        places = np.arange(self.classes, dtype=logits.dtype).reshape(-1, *(1,) * (logits.ndim - 1))
        return np.asarray(np.clip(1 - np.abs(expit(logits) * (self.classes - 1) - places), 0, 1))

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the nearest class, the lower one halfway between two."""
        mask: NDArray[np.uint8] = np.ceil(expit(logits[0]) * (self.classes - 1) - 0.5).astype(np.uint8)
        return mask


class CumulativeHead(Head):
    """Head with K - 1 outputs for ordered classes: the probability of at least class 1, at least class 2 and so on.

    The network may give class 3 or more a higher probability than class 2 or more. Such outputs are sorted in decreasing
    order, which reduces their error (Chernozhukov, Fernandez-Val and Galichon 2010, "Quantile and probability curves
    without crossing").
    """

    @property
    def outputs(self) -> int:
        """K - 1, one per class but the first."""
        return self.classes - 1

    def probabilities(self, logits: Floats) -> Floats:
        """Return the differences between successive sorted outputs; they sum to 1."""
        at_least = expit(-np.sort(-self.tempered(logits), axis=0))  # (K - 1, *S), decreasing
        first, last = np.ones_like(at_least[:1]), np.zeros_like(at_least[:1])
        return np.asarray(-np.diff(np.concatenate([first, at_least, last]), axis=0))  # (K, *S)

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Return the number of outputs above one half, which is the median class, the lower one of two."""
        mask: NDArray[np.uint8] = (logits > 0).sum(axis=0, dtype=np.uint8)
        return mask


class RegressionHead(Head):
    """Head with one output: a value without limits."""

    gives_values = True
    has_temperature = False

    @property
    def nothing(self) -> NDArray[np.float32]:
        """Unavailable: no value is the background.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values, of which none is background; leave --tissue out")

    def probabilities(self, logits: Floats) -> Floats:
        """Refuse, since values have no probabilities.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values and no probabilities of classes; leave probabilities out")

    def mask(self, logits: Floats) -> NDArray[np.uint8]:
        """Refuse, since values have no mask.

        Raises:
            BundleError: always.
        """
        raise BundleError("the bundle gives values and no mask; overtile predict writes them as a map")

    def mean(self, logits: Sequence[Floats]) -> Floats:
        """Return the mean of the outputs."""
        return np.asarray(np.mean(logits, axis=0))

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """Return the output itself."""
        return np.asarray(logits[0], np.float32)


class UnitRegressionHead(RegressionHead):
    """Head with one output: a value from 0 to 1."""

    mean = Head.mean

    def values(self, logits: Floats) -> NDArray[np.float32]:
        """Return the sigmoid of the output."""
        return np.asarray(expit(logits[0]), np.float32)


HEADS: dict[str, type[Head]] = {
    "softmax": SoftmaxHead,
    "sigmoid": SigmoidHead,
    "multi_label": MultiLabelHead,
    "soft_label": SoftLabelHead,
    "one_hot": SoftmaxHead,
    "cumulative": CumulativeHead,
    "regression": RegressionHead,
    "unit_regression": UnitRegressionHead,
}


def make_head(config: Config, calibration: Calibration | None = None) -> Head:
    """Return the head of a config, with the temperature and the threshold of a calibration if it is given."""
    head = HEADS[config.head.name]
    if calibration is None:
        return head(len(config.data.classes))
    return head(len(config.data.classes), calibration.temperature, calibration.low_confidence)


def pooled_head(heads: Sequence[Head]) -> Head:
    """Return the head for the mean logits of several networks, whose heads differ in their calibration only.

    Its temperature is the geometric mean of theirs, since no case was kept from all networks on which it could be fitted. Its
    threshold is the lowest one, None if a head has none.
    """
    if len({(head.temperature, head.low_confidence) for head in heads}) == 1:
        return heads[0]
    thresholds = [head.low_confidence for head in heads if head.low_confidence is not None]
    return type(heads[0])(
        heads[0].classes,
        exp(fmean(log(head.temperature) for head in heads)),
        min(thresholds) if len(thresholds) == len(heads) else None,
    )


def check_gives_masks(config: Config) -> None:
    """Refuse networks that give values and no masks.

    Raises:
        BundleError: the config's head gives values.
    """
    if make_head(config).gives_values:
        quantity = config.data.classes[0].name
        raise BundleError(
            f"{config.run.name} gives values of {quantity} and no masks; overtile predict writes them as maps; "
            "all other commands take bundles with classes"
        )


def _positive_prior(class_prior: Sequence[float]) -> Floats:
    """Return the prior with at least 1e-6 per class, so that a class absent from training remains possible."""
    return np.maximum(np.asarray(class_prior, np.float64), 1e-6)
