"""What a loss has to be for outputs that are the same everywhere: from the losses' definitions, in NumPy and float64.

None of it is the training's own code, so that a factor, a sum in the place of a mean or weights of the wrong classes show.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, softmax

from configs.schema import Config
from training.objective.boundary_distance import MAX_DISTANCE_PX
from training.objective.encodings import IGNORED

Pixels = NDArray[Any]

SMOOTH = 1e-5  # added above and below in Dice and Tversky, so that nothing divided by nothing is 1
EXCLUSIVE = ("softmax", "one_hot")


def expected_loss(
    config: Config, constants: Sequence[float], reference: Pixels, weights: Pixels, class_prior: Sequence[float]
) -> float:
    """The loss of a batch where each output has one value at every pixel.

    Args:
        config: the run's.
        constants: (R,), the outputs.
        reference: (B, *S) or (B, M, *S), as the loss gets it, cut to the outputs' size.
        weights: (B, *S), or of size 0.
        class_prior: (K,), each class's share of the training pixels.
    """
    named, maps = config.head.name, config.head.kind == "multi_label"
    reference = reference if maps else reference[:, None]  # (B, M, *S)
    counted = ~np.isnan(reference) if reference.dtype.kind == "f" else reference != IGNORED
    reference = np.where(counted, reference, 0)
    wanted = _wanted(named, reference, len(config.data.classes))
    outputs = np.asarray(constants, np.float64).reshape(1, -1, *(1,) * (reference.ndim - 2))
    if named == "regression":
        probability, surprise = outputs, (outputs - wanted) ** 2
    elif named in EXCLUSIVE:
        probability = softmax(outputs, axis=1)
        surprise = -(wanted * np.log(probability)).sum(axis=1, keepdims=True)
    else:
        probability = expit(outputs)
        surprise = -(wanted * np.log(probability) + (1 - wanted) * np.log1p(-probability))
    each = _weights(config, reference, counted, weights, class_prior)
    foreground = slice(1, None) if named in EXCLUSIVE else slice(None)
    p, t = probability[:, foreground] * counted, wanted[:, foreground] * counted
    return _combined(config, _Parts(surprise, each, counted, p, t))


class _Parts:
    def __init__(self, surprise: Pixels, weights: Pixels, counted: Pixels, probability: Pixels, target: Pixels) -> None:
        self.surprise, self.weights, self.counted = surprise, weights, counted
        self.probability, self.target = np.broadcast_arrays(probability, target)

    def mean(self, values: Pixels) -> float:
        """Weighted, over the pixels that count."""
        number = np.broadcast_to(self.counted, values.shape).sum()
        return float((values * self.weights * self.counted).sum() / max(1, number))

    def overlap(self, wrong: float, missed: float) -> float:
        """1 - TP / (TP + wrong * FP + missed * FN), a class's pixels of the batch together, then the mean over the classes."""
        axes = (0, *range(2, self.target.ndim))
        both = (self.probability * self.target).sum(axis=axes)
        below = both + wrong * (self.probability.sum(axis=axes) - both) + missed * (self.target.sum(axis=axes) - both)
        return float(np.mean(1 - (both + SMOOTH) / (below + SMOOTH)))

    def distance(self) -> float:
        """The mean of the probability times the signed distance from the reference's border."""
        distances = np.stack([np.stack([_signed(one) for one in each]) for each in self.target > 0])
        number = np.broadcast_to(self.counted, self.target.shape).sum()
        return float((self.probability * distances).sum() / max(1, number))


def _combined(config: Config, parts: _Parts) -> float:
    name = config.loss_name
    if name == "focal":
        wrong = -np.expm1(-parts.surprise)  # 1 - p
        return parts.mean(wrong**config.loss.focal_gamma * parts.surprise)
    if name == "tversky":
        share = config.loss.tversky_false_positives
        return parts.overlap(share, 1 - share)
    surprise = parts.mean(parts.surprise) if name in ("cross_entropy", "squared_error", "dice_cross_entropy") else 0.0
    dice = parts.overlap(0.5, 0.5) if name in ("dice", "dice_cross_entropy", "boundary") else 0.0
    return surprise + dice + (parts.distance() if name == "boundary" else 0.0)


def _wanted(named: str, reference: Pixels, classes: int) -> Pixels:
    """(B, R, *S), what each output should be."""
    if named in EXCLUSIVE:
        return np.concatenate([reference == label for label in range(classes)], axis=1).astype(np.float64)
    if named == "cumulative":
        return np.concatenate([reference >= grade for grade in range(1, classes)], axis=1).astype(np.float64)
    return reference / (classes - 1) if named == "soft_label" else reference.astype(np.float64)


def _weights(config: Config, reference: Pixels, counted: Pixels, added: Pixels, class_prior: Sequence[float]) -> Pixels:
    """(B, M, *S) or one that fits, how much each pixel counts."""
    chosen = config.loss.class_weights
    each = np.ones_like(reference, np.float64)
    if chosen is not None:
        values = [1 / len(class_prior) / max(share, 1e-6) for share in class_prior] if chosen == "balanced" else chosen
        table = np.asarray(values, np.float64)
        if config.head.kind == "multi_label":
            own = table[1:].reshape(1, -1, *(1,) * (reference.ndim - 2))
            each = np.where(reference > 0, own, table[0])
        else:
            each = table[reference.astype(np.int64)]
    return np.asarray(each + added[:, None] if added.size else each)


def _signed(inside: Pixels) -> Pixels:
    """In MAX_DISTANCE_PX, -1 .. 1, below 0 inside; half a pixel lies between a pixel and the border beside it."""
    if inside.all() or not inside.any():
        return np.full(inside.shape, -1.0 if inside.any() else 1.0)
    distance = np.where(inside, 0.5 - distance_transform_edt(inside), distance_transform_edt(~inside) - 0.5)
    return np.asarray(np.clip(distance / MAX_DISTANCE_PX, -1, 1))
