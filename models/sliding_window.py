"""The sliding-window pixel classifier (Ciresan et al. 2012), in 2D and 3D: trained on windows, evaluated densely.

Window by window, the network classifies the window's centre pixel. Neighbouring windows share nearly all their work, so the
dense evaluation does each operation once for the whole image, by max-pooling fragments (Giusti et al. 2013,
arXiv:1302.1700): a pool of p is computed at each of its p offsets along each axis, each resulting fragment is evaluated
separately, and their outputs are interleaved. The logits are the same as window by window, except for rounding. Fragments
are evaluated depth first, so that the deeper ones stay in the processor's cache; dilated convolutions over the whole image
took 1.4 times as long.

With foveation the contents of a window depend on its centre, so that neighbours share nothing. Then all windows are
evaluated separately, in batches.
"""

import itertools
import math
from functools import reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.network_sections import SlidingWindowSection
from models.foveation import Foveation
from models.image_label_heads import LabelHead
from models.layers import Convolution, Outputs, activation_of, he_initialise, norm_of

BATCH_BYTES = 64 * 2**20  # of the first convolution's output, if windows are evaluated separately


class SlidingWindow(nn.Module):
    """Convolutions with a max-pool after each, one hidden layer, and R logits. The default section is the published N4.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: R of the output.
        section: window, features and kernels, pool, hidden units, norm, activation, foveation.
        labels: L, number of labels of a whole image; 0 leaves that output out.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: SlidingWindowSection, labels: int = 0) -> None:
        super().__init__()
        self.window = section.window
        self.pool = section.pool
        foveated = section.foveation_px > 0
        self.foveation = Foveation(dimensions, section.window, section.foveation_px) if foveated else None
        self.max_pool = functional.max_pool2d if dimensions == 2 else functional.max_pool3d
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.sizes = [section.window]  # size of the features of a window before each convolution, and after the last pool
        before = in_channels
        for convolution in section.convolutions:
            bias = section.norm == "none"
            self.convolutions.append(Convolution[dimensions](before, convolution.features, convolution.kernel, bias=bias))
            self.norms.append(norm_of(section.norm, dimensions, convolution.features))
            self.sizes.append((self.sizes[-1] - convolution.kernel + 1) // section.pool)
            before = convolution.features
        self.hidden = Convolution[dimensions](before, section.hidden, self.sizes[-1])  # fully connected
        self.head = Convolution[dimensions](section.hidden, classes, 1)
        self.activation = activation_of(section.activation)
        self.label_head = LabelHead(dimensions, section.hidden, labels) if labels else None
        self.apply(he_initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits (B, R) of the centre pixel, `window // 2` on each axis, of windows (B, C, *window)."""
        return self.outputs(windows).logits[0]

    def outputs(self, windows: Tensor) -> Outputs:
        """Return the logits, the features of the hidden layer, and the label's logits."""
        hidden = self._hidden_features(windows)
        logits = self.head(hidden).flatten(1)  # (B, R)
        label = self.label_head(hidden) if self.label_head else None  # (B, L)
        return Outputs((logits,), hidden, label)

    def _hidden_features(self, windows: Tensor) -> Tensor:
        """Return the hidden layer's features (B, F, 1, 1), in 3D (B, F, 1, 1, 1), of windows (B, C, *window)."""
        features = windows if self.foveation is None else self.foveation(windows)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = self.activation(norm(convolution(features)))
            features = self.max_pool(features, self.pool)  # (B, F, *window / pool)
        hidden: Tensor = self.activation(self.hidden(features))
        return hidden

    def _all_logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (B, R + L, *S) of hidden features (B, F, *S): the centre pixel's, then any label's."""
        logits: Tensor = self.head(hidden)
        return logits if self.label_head is None else torch.cat([logits, self.label_head.everywhere(hidden)], dim=1)

    def dense(self, images: Tensor) -> Tensor:
        """Return the logits (B, R, *(S - window + 1)) of every window of images (B, C, *S); R + L with a label."""
        return self._fragments(0, images) if self.foveation is None else self._window_by_window(images)

    def _window_by_window(self, images: Tensor) -> Tensor:
        """Return the logits of `dense`, computed in batches of windows whose size BATCH_BYTES limits."""
        dimensions, windows = images.ndim - 2, images
        for axis in range(2, images.ndim):
            windows = windows.unfold(axis, self.window, 1)
        windows = windows.movedim((0, 1), (dimensions, dimensions + 1))  # (*S', B, C, *window), a view
        outputs, batch_size = windows.shape[:dimensions], len(images)
        first = cast(nn.Conv2d, self.convolutions[0])
        window_bytes = first.out_channels * (self.window - first.kernel_size[0] + 1) ** dimensions * images.element_size()
        positions = torch.arange(math.prod(outputs), device=images.device)
        logits = []
        for batch in torch.split(positions, max(1, BATCH_BYTES // (batch_size * window_bytes))):
            patches = windows[torch.unravel_index(batch, outputs)].flatten(0, 1)  # (N * B, C, *window)
            logits.append(self._all_logits(self._hidden_features(patches)))
        return torch.cat(logits).view(*outputs, batch_size, -1).movedim((-2, -1), (0, 1))  # (B, R + L, *S')

    def _fragments(self, level: int, features: Tensor) -> Tensor:
        """Return the logits of every window, given the features (B, F, *S) before the convolution of this level."""
        if level == len(self.convolutions):
            return self._all_logits(self.activation(self.hidden(features)))
        outputs = [size - self.sizes[level] + 1 for size in features.shape[2:]]
        features = self.activation(self.norms[level](self.convolutions[level](features)))
        channels = self.head.out_channels + (self.label_head.labels if self.label_head else 0)  # R + L
        logits = features.new_empty(len(features), channels, *outputs)
        for offset in itertools.product(*(range(min(self.pool, size)) for size in outputs)):
            place = (slice(None), slice(None), *(slice(first, None, self.pool) for first in offset))
            sizes = [size + self.sizes[level + 1] - 1 for size in logits[place].shape[2:]]
            logits[place] = self._fragments(level + 1, pool_at(features, offset, self.pool, sizes))
        return logits


def pool_at(features: Tensor, offset: tuple[int, ...], pool: int, sizes: list[int]) -> Tensor:
    """Return the max-pool (B, F, *sizes) of features (B, F, *S) that begins at `offset`."""
    for axis, (first, size) in enumerate(zip(offset, sizes, strict=True), start=2):
        part = features.narrow(axis, first, size * pool)
        before = (slice(None),) * axis
        features = reduce(torch.maximum, (part[(*before, slice(step, None, pool))] for step in range(pool)))
    return features
