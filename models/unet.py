"""The U-Net, in 2D and 3D: the original of Ronneberger, Fischer and Brox (2015, arXiv:1505.04597) and modern ones."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.networks import UNetSection
from models.layers import Convolution, Transposed, activation_of, he_initialise, norm_of
from models.outputs import Outputs


class UNet(nn.Module):
    """Encoder, decoder and skips; `features` (64, 128, 256, 512, 1024), valid, without norm is the published network.

    Args:
        dimensions: 2 or 3.
        in_channels: C of the input.
        classes: K of the output.
        section: features a level, padding, norm, activation.
    """

    def __init__(self, dimensions: int, in_channels: int, classes: int, section: UNetSection) -> None:
        super().__init__()
        features = section.features
        self.max_pool = functional.max_pool2d if dimensions == 2 else functional.max_pool3d
        self.encoder = nn.ModuleList(
            two_convolutions(dimensions, before, after, section)
            for before, after in zip((in_channels, *features), features, strict=False)
        )
        self.up = nn.ModuleList(
            Transposed[dimensions](below, here, kernel_size=2, stride=2)
            for here, below in reversed(list(itertools.pairwise(features)))
        )
        self.decoder = nn.ModuleList(two_convolutions(dimensions, 2 * here, here, section) for here in reversed(features[:-1]))
        self.head = Convolution[dimensions](features[0], classes, kernel_size=1)
        self.apply(he_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (B, C, *S): (B, R, *S) with same padding, (B, R, *(S - 2 * context)) with valid convolutions."""
        return self.outputs(images).logits[0]

    def outputs(self, images: Tensor) -> Outputs:
        """Logits, and the features at the bottom."""
        skips = []
        features = images
        for level in self.encoder[:-1]:
            skips.append(level(features))
            features = self.max_pool(skips[-1], 2)  # (B, F, *S / 2)
        bottom = features = self.encoder[-1](features)
        for up, level in zip(self.up, self.decoder, strict=True):
            features = up(features)  # (B, F / 2, *S * 2)
            skip = centre_crop(skips.pop(), features.shape[2:])
            features = level(torch.cat([skip, features], dim=1))
        return Outputs((self.head(features),), bottom)


def two_convolutions(dimensions: int, before: int, after: int, section: UNetSection) -> nn.Sequential:
    """What stands on each level: twice a 3-wide convolution, a norm and an activation."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            Convolution[dimensions](channels, after, 3, padding=int(section.padding == "same"), bias=section.norm == "none"),
            norm_of(section.norm, dimensions, after),
            activation_of(section.activation),
        ]
    return nn.Sequential(*layers)


def centre_crop(features: Tensor, size: torch.Size) -> Tensor:
    """The middle of (B, F, *S), (B, F, *size); the same tensor where nothing is to be cut."""
    for axis, (have, want) in enumerate(zip(features.shape[2:], size, strict=True), start=2):
        features = features.narrow(axis, (have - want) // 2, want)
    return features
