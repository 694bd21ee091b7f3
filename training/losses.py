"""What is minimised: Dice + cross-entropy for the U-Net, cross-entropy for the sliding window; IGNORED pixels don't count."""

from collections.abc import Callable, Sequence
from typing import cast

from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from configs.schema import Config
from models.unet import centre_crop

Loss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]

IGNORED = 255  # in a reference: no class's label (there are at most 255 classes)


def make_loss(config: Config) -> Loss:
    """A loss of logits (B, R, *S), finest first, reference (B, *S) and weights (B, *S) or (B, 0); of (B, R), (B,) for windows.

    Dice runs over the foreground classes and the whole batch, which keeps it stable where a patch holds no foreground.
    """
    if config.model.name == "sliding_window":
        return lambda logits, reference, _: cross_entropy(logits[0], reference)
    dice = DiceLoss(include_background=False, batch=True)

    def loss(logits: Sequence[Tensor], reference: Tensor, _: Tensor) -> Tensor:
        fitted = fit_reference(reference, logits[0])
        return cast(Tensor, dice(*_counted(logits[0], fitted))) + cross_entropy(logits[0], fitted)

    return loss


def cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """The mean over the pixels that aren't IGNORED; 0 where all are."""
    total = functional.cross_entropy(logits, reference, ignore_index=IGNORED, reduction="sum")
    return total / (reference != IGNORED).sum().clamp_min(1)


def _counted(logits: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot reference, both (B, K, *S), and 0 where the reference is IGNORED."""
    counted = reference != IGNORED
    one_hot = functional.one_hot(reference * counted, logits.shape[1]).movedim(-1, 1)  # (B, K, *S)
    return logits.softmax(dim=1) * counted[:, None], one_hot * counted[:, None]


def fit_reference(reference: Tensor, logits: Tensor) -> Tensor:
    """The part of the reference (B, *S) that valid convolutions have logits for."""
    return centre_crop(reference[:, None], logits.shape[2:])[:, 0]
