"""Losses and the quick Dice, against hand-counted figures."""

import math
from pathlib import Path

import pytest
import torch

from configs import schema
from training.losses import IGNORED, cross_entropy, fit_reference, make_loss
from training.module import foreground_dice

EVEN = torch.empty(0)  # every pixel counts alike


def test_cross_entropy_of_windows_that_know_nothing_is_ln_of_the_classes() -> None:
    loss = make_loss(schema.load(Path("configs/histology_sliding_window.yaml")))
    assert loss([torch.zeros(4, 3)], torch.tensor([0, 1, 2, 1]), EVEN).item() == pytest.approx(math.log(3))


def test_dice_and_cross_entropy() -> None:
    loss = make_loss(schema.load(Path("configs/histology_unet.yaml")))
    reference = torch.tensor([[[0, 1], [1, 0]]])
    right = torch.stack([1 - reference, reference], dim=1) * 40.0 - 20
    assert loss([right], reference, EVEN).item() == pytest.approx(0, abs=1e-5)
    wrong = loss([-right], reference, EVEN).item()
    assert wrong == pytest.approx(1 + 40, rel=1e-3)  # Dice 0, and 40 nats a pixel


def test_reference_is_cut_to_what_valid_convolutions_give() -> None:
    reference = torch.arange(36).view(1, 6, 6)
    assert fit_reference(reference, torch.zeros(1, 2, 2, 2)).tolist() == [[[14, 15], [20, 21]]]


def test_foreground_dice() -> None:
    logits = torch.tensor([[0.0, 1], [1, 0], [0, 2], [3, 0]])
    assert foreground_dice(logits, torch.tensor([1, 0, 0, 1])).item() == 0.5  # TP 1, FP 1, FN 1
    assert foreground_dice(logits[1:2], torch.tensor([0])).item() == 1


def test_ignored_pixels_count_in_no_loss() -> None:
    """Half of the pixels ignored: the loss of the other half alone, whatever is said about the first."""
    loss = make_loss(schema.load(Path("configs/histology_unet.yaml")))
    random = torch.Generator().manual_seed(0)
    logits, reference = torch.randn(2, 2, 4, 8, generator=random), torch.randint(0, 2, (2, 4, 8), generator=random)
    alone = loss([logits[..., :4]], reference[..., :4], EVEN)
    reference[..., 4:] = IGNORED
    assert loss([logits], reference, EVEN).item() == pytest.approx(alone.item())
    assert foreground_dice(logits, reference).item() == pytest.approx(
        foreground_dice(logits[..., :4], reference[..., :4]).item()
    )


def test_windows_that_are_all_ignored_cost_nothing() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_nothing_ignored_is_monais_dice_and_cross_entropy() -> None:
    from monai.losses import DiceCELoss

    random = torch.Generator().manual_seed(1)
    logits, reference = torch.randn(2, 3, 5, 6, generator=random), torch.randint(0, 3, (2, 5, 6), generator=random)
    loss = make_loss(schema.load(Path("configs/mri_unet.yaml")))
    theirs = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    assert loss([logits], reference, EVEN).item() == pytest.approx(theirs(logits, reference[:, None]).item())
