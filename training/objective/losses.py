"""What is minimised: how far a network's outputs are from the reference; pixels that are IGNORED don't count."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor

from configs.schema import Config
from configs.sections import LossSection
from training.objective.boundary_distance import boundary_term
from training.objective.encodings import IGNORED as IGNORED
from training.objective.encodings import LossInputs, make_judge
from training.objective.levels import crop_reference as crop_reference
from training.objective.levels import level_shares, make_fit

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
Term = Callable[[LossInputs, LossSection], Tensor]


def make_loss(config: Config, class_prior: Sequence[float] | None = None) -> Loss:
    """A loss of logits, reference and weights of a batch.

    It takes logits (B, R, *S), finest first, of windows (B, R); the reference and the weights as `Targets` makes them, with
    a leading B. Coarser logits see the nearest pixels of the reference and count half as much a level
    (Isensee et al. 2021), the shares' sum is 1. What valid convolutions have no logits for is left out.

    Args:
        config: the run's.
        class_prior: each class's share of the training pixels, (K,); only balanced class weights need it.

    Raises:
        ValueError: `loss.class_weights` is balanced and the shares aren't given.
    """
    term, judge, fit = LOSSES[config.loss_name], make_judge(config, class_prior), make_fit(config)

    def loss(logits: Sequence[Tensor], reference: Tensor, weights: Tensor) -> Tensor:
        terms = [
            share * term(judge(level, fit(level, number, reference), fit(level, number, weights)), config.loss)
            for number, (level, share) in enumerate(zip(logits, level_shares(len(logits)), strict=True))
        ]
        return cast(Tensor, sum(terms))

    return loss


def cross_entropy(judged: LossInputs, _: LossSection) -> Tensor:
    """The weighted mean over pixels that count: the weights of a U-Net's energy (arXiv:1505.04597, equation 1)."""
    return judged.mean(judged.surprise())


def focal(judged: LossInputs, section: LossSection) -> Tensor:
    """Cross-entropy that counts (1 - p)^gamma times, p being what the network says of the right class (Lin et al. 2017)."""
    surprise = judged.surprise()
    return judged.mean((-torch.expm1(-surprise)).clamp_min(1e-6) ** section.focal_gamma * surprise)


def dice(judged: LossInputs, _: LossSection) -> Tensor:
    """1 - Dice of the foreground classes, over the whole batch, which keeps it stable where a patch holds no foreground."""
    return cast(Tensor, _DICE(judged.probabilities(), judged.targets()))


def dice_cross_entropy(judged: LossInputs, section: LossSection) -> Tensor:
    """Their sum."""
    return dice(judged, section) + cross_entropy(judged, section)


def tversky(judged: LossInputs, section: LossSection) -> Tensor:
    """Dice with a weight for what is marked wrongly, and the rest to 1 for what is missed (Salehi et al. 2017)."""
    wrong = section.tversky_false_positives
    return cast(Tensor, TverskyLoss(batch=True, alpha=wrong, beta=1 - wrong)(judged.probabilities(), judged.targets().float()))


def boundary(judged: LossInputs, section: LossSection) -> Tensor:
    """1 - Dice, and how far from the reference's border the foreground lies that is marked; alone, that is least with none."""
    return dice(judged, section) + boundary_term(judged)


LOSSES: Mapping[str, Term] = {
    "cross_entropy": cross_entropy,
    "squared_error": cross_entropy,  # values call it their surprise
    "dice": dice,
    "dice_cross_entropy": dice_cross_entropy,
    "focal": focal,
    "tversky": tversky,
    "boundary": boundary,
}

_DICE = DiceLoss(batch=True)
