"""What a network says in training; in use, `forward` gives the logits alone."""

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """All outputs of one pass.

    Args:
        logits: (B, R, *S), finest first; one, or with deep supervision one a level. (B, R) for windows.
        bottom: (B, F, *s), the features that see most: the U-Net's bottom, the sliding window's hidden layer.
        label: (B, L), logits of the whole image's label; None where the network has no such output.
    """

    logits: tuple[Tensor, ...]
    bottom: Tensor
    label: Tensor | None = None
