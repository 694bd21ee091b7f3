"""U-Nets in 2D and 3D: the original of Ronneberger, Fischer and Brox (2015, arXiv:1505.04597) and newer variants.

The variants are nnU-Net's, which steps down by strided convolutions (Isensee et al. 2021), and its residual encoders
(Isensee et al. 2024, arXiv:2404.09556). docs/networks.md has the config of each.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from configs.network_sections import UNetSection
from models.image_label_heads import LabelHead
from models.layers import INITIALISE, AveragePool, Convolution, MaxPool, Outputs, Transposed, activation_of, norm_of

LINEAR = {2: "bilinear", 3: "trilinear"}


class UNet(nn.Module):
    """U-Net in 2D or 3D. With `features` (64, 128, 256, 512, 1024), valid padding and no norm it is the published network.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: R of the output.
        section: layers of the network.
        labels: L, number of labels of a whole image; 0 leaves that output out.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: UNetSection, labels: int = 0) -> None:
        super().__init__()
        features = section.features
        levels = range(len(features))
        upwards = levels[-2::-1]  # from the level above the bottom to the finest
        coarser = features[-2:0:-1] if section.deep_supervision else ()
        self.encoder = nn.ModuleList(_encoder_level(section, level, dimensions, in_channels) for level in levels)
        strides = [section.stride(level, dimensions) for level in levels[:-1]]
        pools = section.down == "max_pool"  # otherwise the next level's first convolution has the stride
        self.down = nn.ModuleList(MaxPool[dimensions](stride, stride) if pools else nn.Identity() for stride in strides)
        self.up = nn.ModuleList(_step_up(section, level, dimensions) for level in upwards)
        self.decoder = nn.ModuleList(_decoder_level(section, level, dimensions) for level in upwards)
        self.head = Convolution[dimensions](features[0], classes, kernel_size=1)
        self.coarser_heads = nn.ModuleList(Convolution[dimensions](count, classes, kernel_size=1) for count in coarser)
        self.label_head = LabelHead(dimensions, features[-1], labels) if labels else None
        self.apply(INITIALISE[section.init])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (B, C, *S).

        Returns:
            (B, R, *S) with same padding, (B, R, *(S - 2 * context)) with valid convolutions.
        """
        features, skips = self.encode(images)
        for up, level in zip(self.up, self.decoder, strict=True):
            features = up(features)  # (B, F, *2S)
            features = concatenate(skips.pop(), features)  # (B, 2F, *2S)
            features = level(features)  # (B, F, *2S)
        return cast(Tensor, self.head(features))  # (B, R, *S)

    def outputs(self, images: Tensor) -> Outputs:
        """Return all outputs: logits of each level that has a head, the features at the bottom, and the label's logits."""
        bottom, skips = self.encode(images)
        features, logits = bottom, []
        without_head = len(self.decoder) - 1 - len(self.coarser_heads)
        heads = (*[None] * without_head, *self.coarser_heads, self.head)
        for up, level, head in zip(self.up, self.decoder, heads, strict=True):
            features = up(features)  # (B, F, *2S)
            features = concatenate(skips.pop(), features)  # (B, 2F, *2S)
            features = level(features)  # (B, F, *2S)
            if head is not None:
                logits.append(head(features))  # (B, R, *2S)
        label = self.label_head(bottom) if self.label_head else None  # (B, L)
        return Outputs(tuple(reversed(logits)), bottom, label)

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the bottom's features of images (B, C, *S), and the features of each finer level, finest first."""
        features, skips = images, []
        for level, down in zip(self.encoder, self.down, strict=False):
            features = level(features)  # (B, F, *S)
            skips.append(features)
            features = down(features)  # (B, F, *S/2), or *S where the next level has the stride
        features = self.encoder[-1](features)  # (B, F, *s)
        return features, skips


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut, with an average pool if they step down and a projection if the features change.

    Source: He et al. 2015 (arXiv:1512.03385), with the mean of He et al. 2019 (arXiv:1812.01187, ResNet-D), as in nnU-Net. The
    last norm begins at 0, so that new blocks begin as their shortcuts.
    """

    def __init__(self, before: int, after: int, kernel: Sequence[int], stride: Sequence[int], section: UNetSection) -> None:
        super().__init__()
        second = _convolution(after, after, kernel, (1,) * len(kernel), section)
        self.convolutions = nn.Sequential(
            *_convolution(before, after, kernel, stride, section), activation_of(section.activation), *second
        )
        if section.norm != "none":
            nn.init.zeros_(cast(Tensor, second[-1].weight))
        shortcut: list[nn.Module] = [AveragePool[len(kernel)](stride, stride)] if set(stride) != {1} else []
        if before != after:
            shortcut += _convolution(before, after, (1,) * len(kernel), (1,) * len(kernel), section)
        self.past = nn.Sequential(*shortcut)
        self.activation = activation_of(section.activation)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F', *S / stride) of (B, F, *S)."""
        summed = self.convolutions(features) + self.past(features)
        return cast(Tensor, self.activation(summed))


class Crop(nn.Module):
    """Layer that crops `sides` pixels from both ends of each axis."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, *(S - 2 * sides)) of (B, F, *S)."""
        sizes = zip(features.shape[2:], self.sides, strict=True)
        return centre_crop(features, torch.Size([size - 2 * side for size, side in sizes]))


def _encoder_level(section: UNetSection, level: int, dimensions: int, in_channels: int) -> nn.Sequential:
    """Build a level of the encoder: plain convolutions, or residual blocks, before which the first level has a stem."""
    before = section.features[level - 1] if level else in_channels
    after, kernel, depth = section.features[level], section.kernel(level, dimensions), section.depth(level)
    has_stride = level > 0 and section.down == "strided"
    stride = section.stride(level - 1, dimensions) if has_stride else (1,) * dimensions
    layers: list[nn.Module] = []
    if section.blocks == "plain":
        layers += _plain_blocks(section, (before, after), kernel, depth, stride)
    else:
        if level == 0:
            layers += _plain_blocks(section, (before, after), kernel, 1, stride)
            before = after
        layers.append(ResidualBlock(before, after, kernel, stride, section))
        layers += [ResidualBlock(after, after, kernel, (1,) * dimensions, section) for _ in range(depth - 1)]
    if section.dropout and level == len(section.features) - 1:
        layers.append(nn.Dropout(section.dropout))  # of single values, as published
    return nn.Sequential(*layers)


def _step_up(section: UNetSection, level: int, dimensions: int) -> nn.Module:
    """Build the step to a level from the one below it.

    A 1x1 convolution and linear interpolation give the same in either order; on the coarse level it takes less work. Valid
    padding crops what interpolation extrapolates beyond the outermost pixel centres.
    """
    stride, below, here = section.stride(level, dimensions), section.features[level + 1], section.features[level]
    if section.up == "transposed":
        return Transposed[dimensions](below, here, kernel_size=stride, stride=stride)
    layers: list[nn.Module] = [
        Convolution[dimensions](below, here, kernel_size=1),
        nn.Upsample(scale_factor=tuple(map(float, stride)), mode=LINEAR[dimensions]),
    ]
    if section.padding == "valid":
        layers.append(Crop([step // 2 for step in stride]))
    return nn.Sequential(*layers)


def _decoder_level(section: UNetSection, level: int, dimensions: int) -> nn.Sequential:
    """Build a level of the decoder: plain convolutions of the skip and the features from below, concatenated."""
    here, kernel = section.features[level], section.kernel(level, dimensions)
    return nn.Sequential(*_plain_blocks(section, (2 * here, here), kernel, section.decoder_depth(level), (1,) * dimensions))


def _plain_blocks(
    section: UNetSection, features: tuple[int, int], kernel: Sequence[int], depth: int, stride: Sequence[int]
) -> list[nn.Module]:
    """Return the layers of `depth` times a convolution, a norm and an activation. The first convolution has the stride."""
    before, after = features
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += _convolution(before, after, kernel, stride, section)
        layers.append(activation_of(section.activation))
        before, stride = after, (1,) * len(kernel)
    return layers


def _convolution(
    before: int, after: int, kernel: Sequence[int], stride: Sequence[int], section: UNetSection
) -> list[nn.Module]:
    """Return a convolution and its norm. The convolution has a bias if there is no norm, which has a bias of its own."""
    convolution = Convolution[len(kernel)](
        before,
        after,
        kernel_size=tuple(kernel),
        stride=tuple(stride),
        padding=tuple(size // 2 if section.padding == "same" else 0 for size in kernel),
        bias=section.norm == "none",
    )
    return [convolution, norm_of(section.norm, len(kernel), after)]


def concatenate(skip: Tensor, features: Tensor) -> Tensor:
    """Return the skip (B, F, *S'), cropped to the features (B, F, *S), and the features: (B, 2F, *S)."""
    return torch.cat([centre_crop(skip, features.shape[2:]), features], dim=1)


def centre_crop(features: Tensor, size: torch.Size) -> Tensor:
    """Return the middle (B, F, *size) of features (B, F, *S), as a view."""
    if torch.compiler.is_exporting():  # sizes are symbolic there, and a view can't begin at one; negative padding crops
        sides = [
            (-((old - new) // 2), (old - new) // 2 - (old - new)) for old, new in zip(features.shape[2:], size, strict=True)
        ]
        return nn.functional.pad(features, [side for axis in reversed(sides) for side in axis])
    for axis, (old, new) in enumerate(zip(features.shape[2:], size, strict=True), start=2):
        features = features.narrow(axis, (old - new) // 2, new)
    return features
