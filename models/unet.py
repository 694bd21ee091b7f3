"""The U-Net, in 2D and 3D: the original of Ronneberger, Fischer and Brox (2015, arXiv:1505.04597) and modern ones.

Modern ones are nnU-Net's, which steps down by strided convolutions (Isensee et al. 2021), and its residual encoders
(Isensee et al. 2024, arXiv:2404.09556). docs/networks.md has the config of each.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from configs.network_sections import UNetSection
from models.image_label_heads import LabelHead
from models.layers import INITIALISE, AveragePool, Convolution, MaxPool, Transposed, activation_of, norm_of
from models.outputs import Outputs

LINEAR = {2: "bilinear", 3: "trilinear"}


class UNet(nn.Module):
    """Encoder, decoder and skips; `features` (64, 128, 256, 512, 1024), valid, without norm is the published network.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: R of the output.
        section: all that the network is made of.
        labels: L, names that a whole image may have; 0: there is no output for them.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: UNetSection, labels: int = 0) -> None:
        super().__init__()
        features = section.features
        steps = [section.stride(step, dimensions) for step in range(len(features) - 1)]
        kernels = [section.kernel(level, dimensions) for level in range(len(features))]
        strides = [(1,) * dimensions, *steps] if section.down == "strided" else [(1,) * dimensions] * len(features)
        self.encoder = nn.ModuleList(
            _encoder_level(level, (before, after), kernels[level], strides[level], section)
            for level, (before, after) in enumerate(zip((in_channels, *features), features, strict=False))
        )
        if section.dropout:
            self.encoder[-1].append(nn.Dropout(section.dropout))  # type: ignore[operator]  # of single values, as published
        self.down = nn.ModuleList(
            MaxPool[dimensions](step, step) if section.down == "max_pool" else nn.Identity() for step in steps
        )
        upwards = range(len(steps) - 1, -1, -1)
        self.up = nn.ModuleList(_step_up(features[level + 1], features[level], steps[level], section) for level in upwards)
        self.decoder = nn.ModuleList(
            nn.Sequential(*_plain(2 * features[level], features[level], section.decoder_depth(level), kernels[level], section))
            for level in upwards
        )
        self.head = Convolution[dimensions](features[0], classes, kernel_size=1)
        coarser = reversed(features[1:-1]) if section.deep_supervision else ()
        self.coarser_heads = nn.ModuleList(Convolution[dimensions](here, classes, kernel_size=1) for here in coarser)
        self.label_head = LabelHead(dimensions, features[-1], labels) if labels else None
        self.apply(INITIALISE[section.init])

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (B, C, *S): (B, R, *S) with same padding, (B, R, *(S - 2 * context)) with valid convolutions."""
        return self._pass(images, [None] * (len(self.decoder) - 1)).logits[0]

    def outputs(self, images: Tensor) -> Outputs:
        """Logits, with deep supervision those of the coarser levels, too, the features at the bottom, and a label."""
        outputs = self._pass(images, list(self.coarser_heads) or [None] * (len(self.decoder) - 1))
        return outputs._replace(label=self.label_head(outputs.bottom)) if self.label_head else outputs

    def _pass(self, images: Tensor, coarser_heads: Sequence[nn.Module | None]) -> Outputs:
        skips = []
        features = images
        for level, down in zip(self.encoder, self.down, strict=False):
            skips.append(level(features))
            features = down(skips[-1])  # (B, F, *S / 2), where the next level's convolution doesn't do that
        bottom = features = self.encoder[-1](features)
        logits: list[Tensor] = []
        for up, level, head in zip(self.up, self.decoder, (*coarser_heads, self.head), strict=True):
            features = up(features)  # (B, F / 2, *S * 2)
            skip = centre_crop(skips.pop(), features.shape[2:])
            features = level(torch.cat([skip, features], dim=1))
            if head is not None:
                logits.insert(0, head(features))
        return Outputs(tuple(logits), bottom)


class ResidualBlock(nn.Module):
    """Two convolutions and what goes past them: averaged where they step down, projected where they change the features.

    Source: He et al. 2015 (arXiv:1512.03385), with the mean of He et al. 2019 (arXiv:1812.01187, ResNet-D), as in nnU-Net. The
    last norm begins at 0, so that a new network's blocks pass on what they are given.
    """

    def __init__(self, before: int, after: int, kernel: Sequence[int], stride: Sequence[int], section: UNetSection) -> None:
        super().__init__()
        second = _convolution(after, after, kernel, (1,) * len(kernel), section)
        self.convolutions = nn.Sequential(
            *_convolution(before, after, kernel, stride, section), activation_of(section.activation), *second
        )
        if section.norm != "none":
            nn.init.zeros_(cast(Tensor, second[-1].weight))
        past: list[nn.Module] = [AveragePool[len(kernel)](stride, stride)] if set(stride) != {1} else []
        if before != after:
            past += _convolution(before, after, (1,) * len(kernel), (1,) * len(kernel), section)
        self.past = nn.Sequential(*past)
        self.activation = activation_of(section.activation)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F', *S / stride) of (B, F, *S)."""
        result: Tensor = self.activation(self.convolutions(features) + self.past(features))
        return result


class Crop(nn.Module):
    """Takes `sides` off both ends of each axis."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, *(S - 2 * sides)) of (B, F, *S)."""
        sizes = zip(features.shape[2:], self.sides, strict=True)
        return centre_crop(features, torch.Size([size - 2 * side for size, side in sizes]))


def _encoder_level(
    level: int, features: tuple[int, int], kernel: tuple[int, ...], stride: tuple[int, ...], section: UNetSection
) -> nn.Sequential:
    """Plain convolutions or residual blocks, of which the first one takes the stride; before the first level's, a stem."""
    before, after = features
    if section.blocks == "plain":
        return nn.Sequential(*_plain(before, after, section.depth(level), kernel, section, stride))
    layers: list[nn.Module] = []
    if level == 0:
        layers, before = _plain(before, after, 1, kernel, section), after
    for number in range(section.depth(level)):
        layers.append(
            ResidualBlock(after if number else before, after, kernel, (1,) * len(kernel) if number else stride, section)
        )
    return nn.Sequential(*layers)


def _plain(
    before: int, after: int, depth: int, kernel: tuple[int, ...], section: UNetSection, stride: tuple[int, ...] | None = None
) -> list[nn.Module]:
    """So many times a convolution, a norm and an activation; the first one takes the stride."""
    once = (1,) * len(kernel)
    layers: list[nn.Module] = []
    for number in range(depth):
        layers += _convolution(after if number else before, after, kernel, once if number else stride or once, section)
        layers.append(activation_of(section.activation))
    return layers


def _convolution(
    before: int, after: int, kernel: Sequence[int], stride: Sequence[int], section: UNetSection
) -> list[nn.Module]:
    """A convolution and its norm, which has a bias itself."""
    padding = tuple(size // 2 if section.padding == "same" else 0 for size in kernel)
    convolution = Convolution[len(kernel)](
        before,
        after,
        tuple(kernel),
        tuple(stride),
        padding,
        bias=section.norm == "none",
    )
    return [convolution, norm_of(section.norm, len(kernel), after)]


def _step_up(below: int, here: int, stride: tuple[int, ...], section: UNetSection) -> nn.Module:
    """From a level to the one above it.

    A 1x1 convolution and linear interpolation give the same in either order; on the coarse level it takes less work. What
    interpolation made up beyond the outermost centres is cut off where convolutions are valid.
    """
    if section.up == "transposed":
        return Transposed[len(stride)](below, here, kernel_size=stride, stride=stride)
    layers = [
        Convolution[len(stride)](below, here, kernel_size=1),
        nn.Upsample(scale_factor=tuple(map(float, stride)), mode=LINEAR[len(stride)]),
    ]
    return nn.Sequential(*layers, *([Crop([step // 2 for step in stride])] if section.padding == "valid" else []))


def centre_crop(features: Tensor, size: torch.Size) -> Tensor:
    """The middle of (B, F, *S), (B, F, *size); a view."""
    if torch.compiler.is_exporting():  # there sizes are unknown, and a view may not begin at one; negative padding cuts
        sides = [
            (-((have - want) // 2), (have - want) // 2 - (have - want))
            for have, want in zip(features.shape[2:], size, strict=True)
        ]
        return nn.functional.pad(features, [side for axis in reversed(sides) for side in axis])
    for axis, (have, want) in enumerate(zip(features.shape[2:], size, strict=True), start=2):
        features = features.narrow(axis, (have - want) // 2, want)
    return features
