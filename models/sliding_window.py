"""The sliding-window pixel classifier (Ciresan et al. 2012), in 2D and 3D: trained on windows, evaluated densely.

Patch by patch, the network looks at one window and says what its centre is. Neighbouring windows share nearly all their
work, so the dense evaluation does each operation once for the whole image: every strided operation becomes one of
stride 1, and what follows is dilated by the product of the strides so far (Giusti et al. 2013, arXiv:1302.1700, write
the same as fragments). Both give the same logits, but for rounding.
"""

from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.schema import SlidingWindowSection
from models.layers import Convolution, activation_of, he_initialise, norm_of


class SlidingWindow(nn.Module):
    """Convolutions with a max-pool after each, one hidden layer, one logit a class; the default section is the published N4.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: K of the output.
        section: window, features and kernels, pool, hidden units, norm, activation.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: SlidingWindowSection) -> None:
        super().__init__()
        self.window = section.window
        self.pool = section.pool
        self.convolve = functional.conv2d if dimensions == 2 else functional.conv3d
        self.max_pool = functional.max_pool2d if dimensions == 2 else functional.max_pool3d
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        size, before = section.window, in_channels
        for convolution in section.convolutions:
            bias = section.norm == "none"
            self.convolutions.append(Convolution[dimensions](before, convolution.features, convolution.kernel, bias=bias))
            self.norms.append(norm_of(section.norm, dimensions, convolution.features))
            size, before = (size - convolution.kernel + 1) // section.pool, convolution.features
        self.hidden = Convolution[dimensions](before, section.hidden, size)  # sees all that is left of the window
        self.head = Convolution[dimensions](section.hidden, classes, 1)
        self.activation = activation_of(section.activation)
        self.apply(he_initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of the centre pixel, `window // 2` on each axis, of (B, C, *window): (B, K)."""
        features = windows
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = self.activation(norm(convolution(features)))
            features = self.max_pool(features, self.pool)  # (B, F, *window / pool)
        logits: Tensor = self.head(self.activation(self.hidden(features)))  # (B, K, 1, 1)
        return logits.flatten(1)

    def dense(self, images: Tensor) -> Tensor:
        """Logits of every window of (B, C, *S): (B, K, *(S - window + 1))."""
        features, dilation = images, 1
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = self._dilated(convolution, features, dilation)
            features = self.activation(norm(features))
            features = max_of_neighbours(features, self.pool, dilation)
            dilation *= self.pool
        features = self._dilated(self.hidden, features, dilation)
        logits: Tensor = self.head(self.activation(features))
        # Where a pool dropped a last odd row of the window, the features reach further than the windows do.
        for axis in range(2, logits.ndim):
            logits = logits.narrow(axis, 0, images.shape[axis] - self.window + 1)
        return logits

    def _dilated(self, convolution: nn.Module, features: Tensor, dilation: int) -> Tensor:
        """The convolution over pixels that lie `dilation` apart."""
        weight, bias = cast(Tensor, convolution.weight), cast(Tensor | None, convolution.bias)
        return self.convolve(features, weight, bias, dilation=dilation)


def max_of_neighbours(features: Tensor, pool: int, dilation: int) -> Tensor:
    """A max-pool of stride 1 over pixels that lie `dilation` apart: (B, F, *(S - (pool - 1) * dilation)), axis by axis."""
    for axis in range(2, features.ndim):
        size = features.shape[axis] - (pool - 1) * dilation
        features = reduce(torch.maximum, (features.narrow(axis, step * dilation, size) for step in range(pool)))
    return features
