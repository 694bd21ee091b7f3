"""The inputs of losses: a batch's outputs beside its reference, encoded as the head defines; all losses are written in them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from configs.schema import Config

IGNORED = 255  # in a reference: excluded from the loss; no class has this label (there are at most 255 classes)

MakeLossInputs = Callable[[Tensor, Tensor, Tensor], "LossInputs"]


class LossInputs(ABC):
    """Outputs of a batch and their targets; M maps of labels or values, P maps of foreground.

    Attributes:
        logits: (B, R, *S), float32.
        valid: (B, M, *S), False where the reference is IGNORED, or NaN in references of values.
        reference: (B, M, *S), 0 where it isn't valid.

    Args:
        logits: (B, R, *S), of windows (B, R).
        reference: (B, *S) or (B, M, *S).
        weights: (B, *S), added to the pixels' class weights; (B, 0): nothing is added.
        classes: K.
        class_weights: one per class; None: all are 1.
    """

    def __init__(
        self, logits: Tensor, reference: Tensor, weights: Tensor, *, classes: int, class_weights: Sequence[float] | None
    ) -> None:
        self.logits = logits.float()
        self.pixel_weights = weights
        self.classes = classes
        self.class_weights = class_weights
        reference = reference if reference.ndim == logits.ndim else reference[:, None]  # (B, M, *S)
        self.valid = ~reference.isnan() if reference.is_floating_point() else reference != IGNORED
        self.reference = reference.masked_fill(~self.valid, 0)

    @abstractmethod
    def pixel_loss(self) -> Tensor:
        """Return the cross-entropy in nats, or the squared error, of each pixel and output (B, M', *S)."""

    @abstractmethod
    def probabilities(self) -> Tensor:
        """Return the foreground's probabilities (B, P, *S), 0 where the reference isn't valid."""

    @abstractmethod
    def targets(self) -> Tensor:
        """Return what the probabilities should be (B, P, *S), 0 where the reference isn't valid."""

    def weighted_mean(self, values: Tensor) -> Tensor:
        """Return the sum of values (B, M', *S) times weights over the number of valid ones; 0 where none is valid."""
        weights = self.valid * self._class_weights()
        if self.pixel_weights.numel():
            weights = weights + self.valid * self.pixel_weights[:, None]
        return (values * weights).sum() / self.valid.expand_as(values).sum().clamp_min(1)

    def _foreground_labels(self) -> Tensor:
        """Return the labels 1 .. K - 1, (K - 1, 1, ..), to compare maps with."""
        return torch.arange(1, self.classes, device=self.logits.device).view(-1, *(1,) * (self.logits.ndim - 2))

    def _class_weights(self) -> Tensor:
        """Return each pixel's class weight (B, M, *S), or 1 for all."""
        if self.class_weights is None:
            return torch.ones((), device=self.logits.device)
        return torch.tensor(self.class_weights, device=self.logits.device)[self.reference]


class SoftmaxInputs(LossInputs):
    """Inputs of heads with one output per class; each pixel has exactly one class, and the first is background."""

    def pixel_loss(self) -> Tensor:
        """Return the cross-entropy (B, 1, *S)."""
        return functional.cross_entropy(self.logits, self.reference[:, 0], reduction="none")[:, None]

    def probabilities(self) -> Tensor:
        """Return the probabilities of the foreground classes (B, K - 1, *S)."""
        return self.logits.softmax(dim=1)[:, 1:] * self.valid

    def targets(self) -> Tensor:
        """Return which foreground class each pixel has (B, K - 1, *S)."""
        return (self.reference == self._foreground_labels()) & self.valid


class SigmoidInputs(LossInputs):
    """Inputs of heads whose outputs are independent probabilities; of two classes there is one output, for the second."""

    def output_targets(self) -> Tensor:
        """Return what each output's probability should be (B, R, *S), 0 to 1, also where the reference isn't valid."""
        return self.reference

    def pixel_loss(self) -> Tensor:
        """Return the binary cross-entropy (B, R, *S)."""
        return functional.binary_cross_entropy_with_logits(self.logits, self.output_targets().float(), reduction="none")

    def probabilities(self) -> Tensor:
        """Return the probabilities of the outputs (B, R, *S)."""
        return self.logits.sigmoid() * self.valid

    def targets(self) -> Tensor:
        """Return the targets of the outputs (B, R, *S)."""
        return self.output_targets() * self.valid


class MultiLabelInputs(SigmoidInputs):
    """Inputs of classes that overlap: a pixel in a class has that class's weight, one outside has the background's."""

    def _class_weights(self) -> Tensor:
        if self.class_weights is None:
            return super()._class_weights()
        weights = torch.tensor(self.class_weights, device=self.logits.device)
        own = weights[1:].view(-1, *(1,) * (self.logits.ndim - 2))
        return torch.where(self.reference > 0, own, weights[0])


class CumulativeInputs(SigmoidInputs):
    """Inputs of grades, where each output is the probability that the grade is at least 1, at least 2 and so on."""

    def output_targets(self) -> Tensor:
        """Return whether the grade is at least each output's (B, K - 1, *S)."""
        return (self.reference >= self._foreground_labels()).long()


class SoftLabelInputs(SigmoidInputs):
    """Inputs of grades that one output encodes between 0 and 1: grade c is c / (K - 1) (de Vente et al. 2020)."""

    def output_targets(self) -> Tensor:
        """Return each pixel's grade divided by the highest (B, 1, *S)."""
        return self.reference / (self.classes - 1)


class RegressionInputs(SigmoidInputs):
    """Inputs of a regression: one output that is a value of any size, with the squared error."""

    def pixel_loss(self) -> Tensor:
        """Return the squared error (B, 1, *S)."""
        return (self.logits - self.reference) ** 2


_INPUTS_BY_HEAD: dict[str, type[LossInputs]] = {
    "softmax": SoftmaxInputs,
    "sigmoid": SigmoidInputs,
    "multi_label": MultiLabelInputs,
    "soft_label": SoftLabelInputs,
    "one_hot": SoftmaxInputs,
    "cumulative": CumulativeInputs,
    "regression": RegressionInputs,
    "unit_regression": SigmoidInputs,
}


def loss_inputs_factory(config: Config, class_prior: Sequence[float] | None) -> MakeLossInputs:
    """Return a function of logits, reference and weights on the same grid that returns the config's loss inputs.

    Raises:
        ValueError: class weights are balanced, but the classes' shares (K,) are None.
    """
    weights = config.loss.class_weights
    if weights == "balanced":
        if class_prior is None:
            raise ValueError("balanced class weights need the classes' shares of the training pixels; give class_prior")
        weights = balanced_weights(class_prior)
    return partial(_INPUTS_BY_HEAD[config.head.name], classes=len(config.data.classes), class_weights=weights)


def balanced_weights(class_prior: Sequence[float]) -> tuple[float, ...]:
    """Return weights (K,) with which the classes contribute equally in sum; their mean over the pixels is 1."""
    return tuple(1 / (len(class_prior) * max(share, 1e-6)) for share in class_prior)
