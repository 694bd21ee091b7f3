"""The layers that both networks are made of, by dimension and by name."""

from torch import nn

from configs.networks import Activation, Norm

Convolution: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
Transposed: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


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
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
