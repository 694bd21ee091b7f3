"""A bundle's networks as one module that other programs can run: plain layers, every size, one answer.

What the module gives is what a predictor gives for one tile: the sliding window's classes' true shares are put back, an
ensemble's logits are averaged. What a U-Net says of a whole image is left out.
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


def portable(bundle: Bundle) -> nn.Module:
    """(B, C, *S) -> logits (B, R, *S') in float32, in evaluation mode; the weights are the bundle's own.

    Raises:
        BundleError: the network looks at each window by itself.
    """
    head = make_head(bundle.config)
    shifts = [torch.as_tensor(head.shift(prior), dtype=torch.float32) for prior in bundle.class_priors]
    members = [
        _dense(bundle, network, shift) if isinstance(network, SlidingWindow) else network
        for network, shift in zip(bundle.networks, shifts, strict=True)
    ]
    module = members[0] if len(members) == 1 else MeanOf(members)
    return module.eval()


def _dense(bundle: Bundle, network: SlidingWindow, shift: Tensor) -> nn.Module:
    if network.foveation is not None:
        raise BundleError(
            f"{bundle.manifest.name}: with model.foveation_px each window is looked at by itself, which can't be exported for "
            "images of every size; train with model.foveation_px=0, or serve the bundle by overtile serve"
        )
    return Dilated(network, shift)


class Dilated(nn.Module):
    """A sliding window over a whole image as dilated convolutions and pools, which gives the same logits as its fragments.

    After a pool, neighbours are `pool` pixels apart, so that what follows is dilated by that (Li, Zhao and Wang 2014,
    arXiv:1412.4526). It is slower than the fragments, and needs more memory, but is a handful of operations.

    Args:
        network: without foveation.
        shift: (R,) added to the logits.
    """

    def __init__(self, network: SlidingWindow, shift: Tensor) -> None:
        super().__init__()
        self.network = network
        dimensions = network.head.weight.ndim - 2
        self.register_buffer("shift", shift.view(1, -1, *(1,) * dimensions))

    def forward(self, images: Tensor) -> Tensor:
        """(B, R, *(S - window + 1)) of (B, C, *S)."""
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
        over = network.window - 1 - lost  # pixels at the window's end that no pool reaches
        return functional.pad(logits, [0, -over] * (images.ndim - 2)) if over else logits


def _dilated(convolution: Convolving, features: Tensor, dilation: int) -> Tensor:
    convolve = functional.conv2d if features.ndim == 4 else functional.conv3d
    return convolve(features, convolution.weight, convolution.bias, dilation=dilation)


class MeanOf(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """(B, R, *S') of (B, C, *S)."""
        total: Tensor = self.members[0](images)
        for member in list(self.members)[1:]:
            total = total + member(images)
        return total / len(self.members)
