"""What is minimised: Dice + cross-entropy for the U-Net, cross-entropy for the sliding window."""

from collections.abc import Callable
from typing import cast

from monai.losses import DiceCELoss
from torch import Tensor
from torch.nn import functional

from configs.schema import Config
from models.unet import centre_crop

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: Config) -> Loss:
    """A loss of logits (B, K, *S) and reference (B, *S); (B, K) and (B,) for the sliding window.

    Dice runs over the foreground classes and the whole batch, which keeps it stable where a patch holds no foreground.
    """
    if config.model.name == "sliding_window":
        return functional.cross_entropy
    dice_and_cross_entropy = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    return lambda logits, reference: cast(Tensor, dice_and_cross_entropy(logits, reference[:, None]))


def fit_reference(reference: Tensor, logits: Tensor) -> Tensor:
    """The part of the reference (B, *S) that valid convolutions have logits for."""
    return centre_crop(reference[:, None], logits.shape[2:])[:, 0]
