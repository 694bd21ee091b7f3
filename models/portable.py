"""Conversion of a bundle's networks to one module of plain layers, which can be exported for other programs.

Its output is that of a predictor for one tile: the sliding window's logits are corrected to the class prior, and an
ensemble's logits are averaged. Labels of whole images are left out.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.bundle import Bundle
from models.errors import BundleError
from models.heads import make_head
from models.layers import Convolving
from models.sliding_window import SlidingWindow


def portable_module(bundle: Bundle) -> nn.Module:
    """Return a module from images (B, C, *S) to float32 logits (B, R, *S'), which shares the bundle's weights.

    Raises:
        BundleError: the network has foveation, whose dense evaluation can't be exported.
    """
    head = make_head(bundle.config)
    shifts = [torch.as_tensor(head.shift(prior), dtype=torch.float32) for prior in bundle.class_priors]
    members: list[nn.Module] = []
    for network, shift in zip(bundle.networks, shifts, strict=True):
        if isinstance(network, SlidingWindow) and network.foveation is not None:
            raise BundleError(
                f"{bundle.manifest.name}: a network with model.foveation_px evaluates each window separately, which can't be "
                "exported for images of every size; train with model.foveation_px=0, or serve the bundle by overtile serve"
            )
        members.append(Dilated(network, shift) if isinstance(network, SlidingWindow) else network)
    module = members[0] if len(members) == 1 else MeanOf(members)
    return module.eval()


class Dilated(nn.Module):
    """Dense evaluation of a sliding window by dilated convolutions and pools, with the same logits as `SlidingWindow.dense`.

    After a pool, neighbours are `pool` pixels apart, so that all later layers are dilated by as much (Li, Zhao and Wang
    2014, arXiv:1412.4526). It is slower than fragments and needs more memory, but has only a few operations.

    Args:
        network: sliding window without foveation.
        shift: (R,), added to the logits.
    """

    def __init__(self, network: SlidingWindow, shift: Tensor) -> None:
        super().__init__()
        self.network = network
        dimensions = network.head.weight.ndim - 2
        self.register_buffer("shift", shift.view(1, -1, *(1,) * dimensions))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, R, *(S - window + 1)) of images (B, C, *S)."""
        network, dilation, lost = self.network, 1, 0
        features = images
        for layer, norm in zip(network.convolutions, network.norms, strict=True):
            convolution = cast(Convolving, layer)
            features = network.activation(norm(_dilated(convolution, features, dilation)))
            features = network.max_pool(features, network.pool, stride=1, dilation=dilation)
            lost += dilation * (convolution.kernel_size[0] - 1 + network.pool - 1)
            dilation *= network.pool
        features = network.activation(_dilated(network.hidden, features, dilation))
        lost += dilation * (network.hidden.kernel_size[0] - 1)
        logits: Tensor = network.head(features) + self.shift
        unused = network.window - 1 - lost  # pixels at the window's end that no pool reaches
        return functional.pad(logits, [0, -unused] * (images.ndim - 2)) if unused else logits


def _dilated(convolution: Convolving, features: Tensor, dilation: int) -> Tensor:
    """Apply a convolution with dilation."""
    convolve = functional.conv2d if features.ndim == 4 else functional.conv3d
    return convolve(features, convolution.weight, convolution.bias, dilation=dilation)


class MeanOf(nn.Module):
    """Mean of several networks' logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean logits (B, R, *S') of images (B, C, *S)."""
        total: Tensor = self.members[0](images)
        for member in list(self.members)[1:]:
            total = total + member(images)
        return total / len(self.members)
