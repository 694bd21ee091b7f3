"""Expected losses of constant outputs, computed from the definitions of the losses in NumPy and float64.

This shares no code with the training's losses, so that a factor, a sum instead of a mean or weights of the wrong classes show.
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

SMOOTH = 1e-5  # added to numerator and denominator of Dice and Tversky, so that 0 / 0 is 1
EXCLUSIVE = ("softmax", "one_hot")


def expected_loss(
    config: Config, constants: Sequence[float], reference: Pixels, weights: Pixels, class_prior: Sequence[float]
) -> float:
    """Return the loss of a batch where each output has one value at every pixel.

    Args:
        config: config of the run.
        constants: (R,), the outputs.
        reference: (B, *S) or (B, M, *S), as the loss gets it, cropped to the outputs' size.
        weights: (B, *S), or of size 0.
        class_prior: (K,), each class's share of the training pixels.
    """
    head = config.head.name
    reference = reference if config.head.kind == "multi_label" else reference[:, None]  # (B, M, *S)
    valid = ~np.isnan(reference) if reference.dtype.kind == "f" else reference != IGNORED
    reference = np.where(valid, reference, 0)
    target = _output_targets(head, reference, len(config.data.classes))
    outputs = np.asarray(constants, np.float64).reshape(1, -1, *(1,) * (reference.ndim - 2))
    if head == "regression":
        probability, pixel_loss = outputs, (outputs - target) ** 2
    elif head in EXCLUSIVE:
        probability = softmax(outputs, axis=1)
        pixel_loss = -(target * np.log(probability)).sum(axis=1, keepdims=True)
    else:
        probability = expit(outputs)
        pixel_loss = -(target * np.log(probability) + (1 - target) * np.log1p(-probability))
    pixel_weights = _pixel_weights(config, reference, weights, class_prior)
    foreground = slice(1, None) if head in EXCLUSIVE else slice(None)
    p, t = probability[:, foreground] * valid, target[:, foreground] * valid
    return _ExpectedTerms(pixel_loss, pixel_weights, valid, p, t).combine(config)


class _ExpectedTerms:
    """The terms of losses: (B, M, *S) pixel losses, their weights and validity, probabilities and targets of the foreground."""

    def __init__(self, pixel_loss: Pixels, weights: Pixels, valid: Pixels, probability: Pixels, target: Pixels) -> None:
        self.pixel_loss, self.weights, self.valid = pixel_loss, weights, valid
        self.probability, self.target = np.broadcast_arrays(probability, target)

    def combine(self, config: Config) -> float:
        """Return the config's loss."""
        name = config.loss_name
        if name == "focal":
            wrong_probability = -np.expm1(-self.pixel_loss)  # 1 - p
            return self._mean(wrong_probability**config.loss.focal_gamma * self.pixel_loss)
        if name == "tversky":
            alpha = config.loss.tversky_false_positives
            return self._overlap(alpha, 1 - alpha)
        pixel_loss = self._mean(self.pixel_loss) if name in ("cross_entropy", "squared_error", "dice_cross_entropy") else 0.0
        dice = self._overlap(0.5, 0.5) if name in ("dice", "dice_cross_entropy", "boundary") else 0.0
        return pixel_loss + dice + (self._boundary() if name == "boundary" else 0.0)

    def _mean(self, values: Pixels) -> float:
        """Return the weighted mean over valid pixels."""
        number = np.broadcast_to(self.valid, values.shape).sum()
        return float((values * self.weights * self.valid).sum() / max(1, number))

    def _overlap(self, alpha: float, beta: float) -> float:
        """Return 1 - TP / (TP + alpha * FP + beta * FN), over each class's pixels of the batch, as a mean over the classes."""
        axes = (0, *range(2, self.target.ndim))
        both = (self.probability * self.target).sum(axis=axes)
        below = both + alpha * (self.probability.sum(axis=axes) - both) + beta * (self.target.sum(axis=axes) - both)
        return float(np.mean(1 - (both + SMOOTH) / (below + SMOOTH)))

    def _boundary(self) -> float:
        """Return the mean of the probability times the signed distance from the reference's border, -1 .. 1, below 0 inside.

        The border lies between pixels, half a pixel from the ones on either side.
        """
        distances = np.ones(self.target.shape)
        for place in np.ndindex(self.target.shape[:2]):
            inside = self.target[place] > 0
            if inside.all():
                distances[place] = -1
            elif inside.any():
                signed_px = np.where(inside, 0.5 - distance_transform_edt(inside), distance_transform_edt(~inside) - 0.5)
                distances[place] = np.clip(signed_px / MAX_DISTANCE_PX, -1, 1)
        number = np.broadcast_to(self.valid, self.target.shape).sum()
        return float((self.probability * distances).sum() / max(1, number))


def _output_targets(head: str, reference: Pixels, classes: int) -> Pixels:
    """Return what each output should be (B, R, *S)."""
    if head in EXCLUSIVE:
        return np.concatenate([reference == label for label in range(classes)], axis=1).astype(np.float64)
    if head == "cumulative":
        return np.concatenate([reference >= grade for grade in range(1, classes)], axis=1).astype(np.float64)
    return reference / (classes - 1) if head == "soft_label" else reference.astype(np.float64)


def _pixel_weights(config: Config, reference: Pixels, border_weights: Pixels, class_prior: Sequence[float]) -> Pixels:
    """Return the weight of each pixel, (B, M, *S) or a shape that broadcasts to it."""
    setting = config.loss.class_weights
    weights = np.ones_like(reference, np.float64)
    if setting is not None:
        values = [1 / len(class_prior) / max(share, 1e-6) for share in class_prior] if setting == "balanced" else setting
        table = np.asarray(values, np.float64)
        if config.head.kind == "multi_label":
            own = table[1:].reshape(1, -1, *(1,) * (reference.ndim - 2))
            weights = np.where(reference > 0, own, table[0])
        else:
            weights = table[reference.astype(np.int64)]
    return np.asarray(weights + border_weights[:, None] if border_weights.size else weights)
