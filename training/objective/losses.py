"""Losses: the difference between a network's outputs and the reference; IGNORED pixels don't count."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor

from configs.schema import Config
from configs.sections import LossSection
from training.objective.boundary_distance import boundary_term
from training.objective.encodings import LossInputs, loss_inputs_factory
from training.objective.levels import level_shares, make_subsample

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
Term = Callable[[LossInputs, LossSection], Tensor]


def make_loss(config: Config, class_prior: Sequence[float] | None = None) -> Loss:
    """Return the config's loss, a function of logits, reference and weights of a batch.

    It takes logits (B, R, *S), finest first, of windows (B, R); the reference and the weights as `Targets` returns them, with
    a leading B. Coarser logits are compared with the nearest pixels of the reference, and each level counts half as much as
    the finer one (Isensee et al. 2021). Pixels for which valid convolutions give no logits are left out.

    Args:
        config: config of the run.
        class_prior: each class's share of the training pixels, (K,); only balanced class weights need it.

    Raises:
        ValueError: `loss.class_weights` is balanced and the shares are None.
    """
    term, make_inputs, subsample = LOSSES[config.loss_name], loss_inputs_factory(config, class_prior), make_subsample(config)

    def loss(logits: Sequence[Tensor], reference: Tensor, weights: Tensor) -> Tensor:
        terms = []
        for number, (level, share) in enumerate(zip(logits, level_shares(len(logits)), strict=True)):
            inputs = make_inputs(level, subsample(level, number, reference), subsample(level, number, weights))
            terms.append(share * term(inputs, config.loss))
        return cast(Tensor, sum(terms))

    return loss


def cross_entropy(inputs: LossInputs, _: LossSection) -> Tensor:
    """Return the weighted mean over valid pixels, with the weights of the U-Net's energy (arXiv:1505.04597, equation 1)."""
    return inputs.weighted_mean(inputs.pixel_loss())


def focal(inputs: LossInputs, section: LossSection) -> Tensor:
    """Return the cross-entropy weighted by (1 - p)^gamma, where p is the probability of the right class (Lin et al. 2017)."""
    pixel_loss = inputs.pixel_loss()
    return inputs.weighted_mean((-torch.expm1(-pixel_loss)).clamp_min(1e-6) ** section.focal_gamma * pixel_loss)


def dice(inputs: LossInputs, _: LossSection) -> Tensor:
    """Return 1 - Dice of the foreground classes over the whole batch, which is stable if a patch holds no foreground."""
    return cast(Tensor, _DICE(inputs.probabilities(), inputs.targets()))


def dice_cross_entropy(inputs: LossInputs, section: LossSection) -> Tensor:
    """Return the sum of `dice` and `cross_entropy`."""
    return dice(inputs, section) + cross_entropy(inputs, section)


def tversky(inputs: LossInputs, section: LossSection) -> Tensor:
    """Return 1 - Tversky index, Dice with separate weights of false positives and false negatives (Salehi et al. 2017)."""
    alpha = section.tversky_false_positives
    return cast(Tensor, TverskyLoss(batch=True, alpha=alpha, beta=1 - alpha)(inputs.probabilities(), inputs.targets().float()))


def boundary(inputs: LossInputs, section: LossSection) -> Tensor:
    """Return the sum of `dice` and the boundary term, which alone would be lowest without any foreground."""
    return dice(inputs, section) + boundary_term(inputs)


LOSSES: Mapping[str, Term] = {
    "cross_entropy": cross_entropy,
    "squared_error": cross_entropy,  # the pixel loss of values is their squared error
    "dice": dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
    "tversky": tversky,
    "boundary": boundary,
}

_DICE = DiceLoss(batch=True)
