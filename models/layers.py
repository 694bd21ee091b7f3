"""Layers and outputs that both networks share, by dimension and by name."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from configs.network_sections import Activation, Norm

Convolution: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
Transposed: dict[int, Callable[..., nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MaxPool: dict[int, Callable[..., nn.MaxPool2d | nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AveragePool: dict[int, Callable[..., nn.AvgPool2d | nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
Convolving = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


class Outputs(NamedTuple):
    """All outputs of one forward pass, for training. In inference `forward` returns the finest logits alone.

    Args:
        logits: (B, R, *S), finest first; several with deep supervision, one per level. (B, R) for windows.
        bottom: (B, F, *s), the features of the U-Net's bottom, or of the sliding window's hidden layer.
        label: (B, L), logits of the whole image's label; None if the network has no such output.
    """

    logits: tuple[Tensor, ...]
    bottom: Tensor
    label: Tensor | None = None


def norm_of(name: Norm, dimensions: int, features: int) -> nn.Module:
    """Return a normalisation layer. `none` is the identity; `group` has 8 features per group, or a single group."""
    if name == "batch":
        return nn.BatchNorm2d(features) if dimensions == 2 else nn.BatchNorm3d(features)
    if name == "instance":
        return nn.InstanceNorm2d(features, affine=True) if dimensions == 2 else nn.InstanceNorm3d(features, affine=True)
    if name == "group":
        return nn.GroupNorm(max(1, features // 8) if features % 8 == 0 else 1, features)
    return nn.Identity()


def activation_of(name: Activation) -> nn.Module:
    """Return an activation layer that works in place."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(0.01, inplace=True)


def he_initialise(module: nn.Module) -> None:
    """Draw normal weights of standard deviation sqrt(2 / N) and zero biases (He et al. 2015; U-Net paper, section 3)."""
    if isinstance(module, Convolving):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def xavier_initialise(module: nn.Module) -> None:
    """Draw uniform weights within sqrt(6 / (N + M)) for N inputs and M outputs, and zero biases (Glorot and Bengio 2010)."""
    if isinstance(module, Convolving):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


INITIALISE = {"he": he_initialise, "xavier": xavier_initialise}
