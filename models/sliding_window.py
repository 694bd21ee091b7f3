"""The sliding-window pixel classifier (Ciresan et al. 2012), in 2D and 3D: trained on windows, evaluated densely.

Patch by patch, the network looks at one window and says what its centre is. Neighbouring windows share nearly all their
work, so the dense evaluation does each operation once for the whole image, by max-pooling fragments (Giusti et al. 2013,
arXiv:1302.1700): a pool of p is taken at each of its p offsets along each axis, every fragment goes on by itself, and
their outputs are interleaved. It gives the same logits as patch by patch, but for rounding. Fragments are followed to the
end one after the other, since the deeper ones then stay in the processor's cache; writing the same as dilated convolutions
over the whole image took 1.4 times as long.

With foveation what a window holds depends on where its centre is, so that neighbours share nothing: then every window goes
through by itself, some at a time.
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
from models.layers import Convolution, activation_of, he_initialise, norm_of
from models.outputs import Outputs

BATCH_BYTES = 64 * 2**20  # of the first convolution's output, where windows are looked at one by one


class SlidingWindow(nn.Module):
    """Convolutions with a max-pool after each, one hidden layer, one logit a class; the default section is the published N4.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: K of the output.
        section: window, features and kernels, pool, hidden units, norm, activation, foveation.
        labels: L, names that a whole image may have; 0: there is no output for them.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: SlidingWindowSection, labels: int = 0) -> None:
        super().__init__()
        self.window = section.window
        self.pool = section.pool
        foveated = section.foveation_px > 0
        self.foveation = Foveation(dimensions, section.window, section.foveation_px) if foveated else None
        self.max_pool = functional.max_pool2d if dimensions == 2 else functional.max_pool3d
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.sizes = [section.window]  # what is left of the window before each convolution, and at the end
        before = in_channels
        for convolution in section.convolutions:
            bias = section.norm == "none"
            self.convolutions.append(Convolution[dimensions](before, convolution.features, convolution.kernel, bias=bias))
            self.norms.append(norm_of(section.norm, dimensions, convolution.features))
            self.sizes.append((self.sizes[-1] - convolution.kernel + 1) // section.pool)
            before = convolution.features
        self.hidden = Convolution[dimensions](before, section.hidden, self.sizes[-1])  # sees all that is left
        self.head = Convolution[dimensions](section.hidden, classes, 1)
        self.activation = activation_of(section.activation)
        self.label_head = LabelHead(dimensions, section.hidden, labels) if labels else None
        self.apply(he_initialise)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of the centre pixel, `window // 2` on each axis, of (B, C, *window): (B, R)."""
        return self.outputs(windows).logits[0]

    def outputs(self, windows: Tensor) -> Outputs:
        """Logits, the hidden layer, and a label."""
        hidden = self._seen(windows)
        return Outputs((self.head(hidden).flatten(1),), hidden, self.label_head(hidden) if self.label_head else None)

    def _seen(self, windows: Tensor) -> Tensor:
        """The hidden layer's features of windows, (B, F, 1, 1)."""
        features = windows if self.foveation is None else self.foveation(windows)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = self.activation(norm(convolution(features)))
            features = self.max_pool(features, self.pool)  # (B, F, *window / pool)
        hidden: Tensor = self.activation(self.hidden(features))
        return hidden

    def _said(self, hidden: Tensor) -> Tensor:
        """Logits (B, R + L, *S) of the hidden layer's features (B, F, *S): the centre's, then the label's."""
        logits: Tensor = self.head(hidden)
        return logits if self.label_head is None else torch.cat([logits, self.label_head.everywhere(hidden)], dim=1)

    def dense(self, images: Tensor) -> Tensor:
        """Logits of every window of (B, C, *S): (B, R, *(S - window + 1)), or R + L where a window says a label, too."""
        return self._dense_from(0, images) if self.foveation is None else self._one_by_one(images)

    def _one_by_one(self, images: Tensor) -> Tensor:
        """What `dense` gives, a batch of windows after the other; their number is bound by what their features take."""
        dimensions, windows = images.ndim - 2, images
        for axis in range(2, images.ndim):
            windows = windows.unfold(axis, self.window, 1)
        windows = windows.movedim((0, 1), (dimensions, dimensions + 1))  # (*S', B, C, *window), a view
        outputs, batch_size = windows.shape[:dimensions], len(images)
        first = cast(nn.Conv2d, self.convolutions[0])
        window_bytes = first.out_channels * (self.window - first.kernel_size[0] + 1) ** dimensions * images.element_size()
        places = torch.split(
            torch.arange(math.prod(outputs), device=images.device), max(1, BATCH_BYTES // (batch_size * window_bytes))
        )
        logits = torch.cat(
            [self._said(self._seen(windows[torch.unravel_index(place, outputs)].flatten(0, 1))) for place in places]
        )
        return logits.view(*outputs, batch_size, -1).movedim((-2, -1), (0, 1))

    def _dense_from(self, level: int, features: Tensor) -> Tensor:
        """Logits of every window whose features before this convolution are in (B, F, *S)."""
        if level == len(self.convolutions):
            return self._said(self.activation(self.hidden(features)))
        outputs = [size - self.sizes[level] + 1 for size in features.shape[2:]]
        features = self.activation(self.norms[level](self.convolutions[level](features)))
        said = self.head.out_channels + (self.label_head.labels if self.label_head else 0)
        logits = features.new_empty(len(features), said, *outputs)
        for offset in itertools.product(*(range(min(self.pool, size)) for size in outputs)):
            place = (slice(None), slice(None), *(slice(first, None, self.pool) for first in offset))
            sizes = [size + self.sizes[level + 1] - 1 for size in logits[place].shape[2:]]
            logits[place] = self._dense_from(level + 1, pool_at(features, offset, self.pool, sizes))
        return logits


def pool_at(features: Tensor, offset: tuple[int, ...], pool: int, sizes: list[int]) -> Tensor:
    """A max-pool that begins at `offset` and gives `sizes` outputs along the axes of (B, F, *S): (B, F, *sizes)."""
    for axis, (first, size) in enumerate(zip(offset, sizes, strict=True), start=2):
        part = features.narrow(axis, first, size * pool)
        features = reduce(torch.maximum, (_every(part, axis, step, pool) for step in range(pool)))
    return features


def _every(features: Tensor, axis: int, first: int, step: int) -> Tensor:
    """Each `step`-th entry along an axis, a view."""
    return features[(slice(None),) * axis + (slice(first, None, step),)]
