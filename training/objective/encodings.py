"""A batch's outputs beside its reference, by what the head means; all losses are written in these terms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from configs.schema import Config

IGNORED = 255  # in a reference: no class's label (there are at most 255 classes)

Judge = Callable[[Tensor, Tensor, Tensor], "LossInputs"]


class LossInputs(ABC):
    """Outputs and what they should be; M maps of labels or values, P maps of foreground.

    Attributes:
        logits: (B, R, *S), float32.
        counted: (B, M, *S), which pixels count: those that aren't IGNORED, or in references of values NaN.
        reference: (B, M, *S), 0 where it doesn't count.

    Args:
        logits: (B, R, *S), of windows (B, R).
        reference: (B, *S) or (B, M, *S).
        weights: (B, *S), added to the pixels' own weight; (B, 0): nothing.
        classes: K.
        class_weights: one a class; None: all count alike.
    """

    def __init__(
        self, logits: Tensor, reference: Tensor, weights: Tensor, *, classes: int, class_weights: Sequence[float] | None
    ) -> None:
        self.logits = logits.float()
        self.added = weights
        self.classes = classes
        self.class_weights = class_weights
        reference = reference if reference.ndim == logits.ndim else reference[:, None]  # (B, M, *S)
        self.counted = ~reference.isnan() if reference.is_floating_point() else reference != IGNORED
        self.reference = reference.masked_fill(~self.counted, 0)

    @abstractmethod
    def surprise(self) -> Tensor:
        """How wrong each output is, (B, M', *S): cross-entropy in nats, or the squared error."""

    @abstractmethod
    def probabilities(self) -> Tensor:
        """(B, P, *S), of the foreground; 0 where it doesn't count."""

    @abstractmethod
    def targets(self) -> Tensor:
        """(B, P, *S), what they should be; 0 where it doesn't count."""

    def mean(self, values: Tensor) -> Tensor:
        """The sum of values (B, M', *S) times weights over the number of those that count; 0 where none does."""
        weights = self.counted * self._class_weights()
        if self.added.numel():
            weights = weights + self.counted * self.added[:, None]
        return (values * weights).sum() / self.counted.expand_as(values).sum().clamp_min(1)

    def _above_background(self) -> Tensor:
        """The labels 1 .. K - 1, (K - 1, 1, ..), to compare maps with."""
        return torch.arange(1, self.classes, device=self.logits.device).view(-1, *(1,) * (self.logits.ndim - 2))

    def _class_weights(self) -> Tensor:
        """(B, M, *S), or 1."""
        if self.class_weights is None:
            return torch.ones((), device=self.logits.device)
        return torch.tensor(self.class_weights, device=self.logits.device)[self.reference]


class Exclusive(LossInputs):
    """One output a class; the foreground's are all but the first."""

    def surprise(self) -> Tensor:
        """Cross-entropy, (B, 1, *S)."""
        return functional.cross_entropy(self.logits, self.reference[:, 0], reduction="none")[:, None]

    def probabilities(self) -> Tensor:
        """(B, K - 1, *S)."""
        return self.logits.softmax(dim=1)[:, 1:] * self.counted

    def targets(self) -> Tensor:
        """(B, K - 1, *S)."""
        return (self.reference == self._above_background()) & self.counted


class Yes(LossInputs):
    """Each output says how likely something is; `wanted` is whether it is, or for soft labels how much."""

    def wanted(self) -> Tensor:
        """(B, R, *S), 0 to 1; of two classes, whether it is the second."""
        return self.reference

    def surprise(self) -> Tensor:
        """Cross-entropy, (B, R, *S)."""
        return functional.binary_cross_entropy_with_logits(self.logits, self.wanted().float(), reduction="none")

    def probabilities(self) -> Tensor:
        """(B, R, *S)."""
        return self.logits.sigmoid() * self.counted

    def targets(self) -> Tensor:
        """(B, R, *S)."""
        return self.wanted() * self.counted


class Overlapping(Yes):
    """Classes that overlap: what is of a class has its weight, what isn't the background's."""

    def _class_weights(self) -> Tensor:
        if self.class_weights is None:
            return super()._class_weights()
        weights = torch.tensor(self.class_weights, device=self.logits.device)
        own = weights[1:].view(-1, *(1,) * (self.logits.ndim - 2))
        return torch.where(self.reference > 0, own, weights[0])


class Cumulative(Yes):
    """Grades, as whether they are at least 1, at least 2 and so on."""

    def wanted(self) -> Tensor:
        """(B, K - 1, *S)."""
        return (self.reference >= self._above_background()).long()


class SoftLabel(Yes):
    """Grades, as places between 0 and 1: grade c is c / (K - 1) (de Vente et al. 2020)."""

    def wanted(self) -> Tensor:
        """(B, 1, *S)."""
        return self.reference / (self.classes - 1)


class Values(Yes):
    """A value of any size, by the squared error."""

    def surprise(self) -> Tensor:
        """(B, 1, *S)."""
        return (self.logits - self.reference) ** 2


_JUDGED: dict[str, type[LossInputs]] = {  # by head
    "softmax": Exclusive,
    "sigmoid": Yes,
    "multi_label": Overlapping,
    "soft_label": SoftLabel,
    "one_hot": Exclusive,
    "cumulative": Cumulative,
    "regression": Values,
    "unit_regression": Yes,
}


def make_judge(config: Config, class_prior: Sequence[float] | None) -> Judge:
    """What takes logits, reference and weights that lie on one another.

    Raises:
        ValueError: balanced class weights, and the classes' shares (K,) aren't given.
    """
    weights = config.loss.class_weights
    if weights == "balanced":
        weights = balanced(class_prior)
    return partial(_JUDGED[config.head.name], classes=len(config.data.classes), class_weights=weights)


def balanced(class_prior: Sequence[float] | None) -> tuple[float, ...]:
    """Weights (K,) by which all classes count alike in sum; their mean over the pixels is 1.

    Raises:
        ValueError: there are no shares.
    """
    if class_prior is None:
        raise ValueError("balanced class weights need the classes' shares of the training pixels; give class_prior")
    return tuple(1 / (len(class_prior) * max(share, 1e-6)) for share in class_prior)
