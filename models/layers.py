"""The layers that both networks are made of, by dimension and by name."""

from collections.abc import Callable

from torch import nn

from configs.network_sections import Activation, Norm

Convolution: dict[int, Callable[..., nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
Transposed: dict[int, Callable[..., nn.ConvTranspose2d | nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MaxPool: dict[int, Callable[..., nn.MaxPool2d | nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
AveragePool: dict[int, Callable[..., nn.AvgPool2d | nn.AvgPool3d]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
Convolving = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


def norm_of(name: Norm, dimensions: int, features: int) -> nn.Module:
    """A normalisation layer; `none` passes its input on, `group` takes groups of 8 features or fewer."""
    if name == "batch":
        return nn.BatchNorm2d(features) if dimensions == 2 else nn.BatchNorm3d(features)
    if name == "instance":
        return nn.InstanceNorm2d(features, affine=True) if dimensions == 2 else nn.InstanceNorm3d(features, affine=True)
    if name == "group":
        return nn.GroupNorm(max(1, features // 8) if features % 8 == 0 else 1, features)
    return nn.Identity()


def activation_of(name: Activation) -> nn.Module:
    """An activation that overwrites its input."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.LeakyReLU(0.01, inplace=True)


def he_initialise(module: nn.Module) -> None:
    """Normal weights of deviation sqrt(2 / N) and no bias (He et al. 2015; the U-Net paper's section 3)."""
    if isinstance(module, Convolving):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def xavier_initialise(module: nn.Module) -> None:
    """Uniform weights within sqrt(6 / (N + M)), N inputs and M outputs of a unit, no bias (Glorot and Bengio 2010, eq. 16)."""
    if isinstance(module, Convolving):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


INITIALISE = {"he": he_initialise, "xavier": xavier_initialise}
