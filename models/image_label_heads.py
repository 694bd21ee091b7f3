"""Classifiers of whole images: a second output of the network, or a small network that reads the map of its output."""

import itertools
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from models.layers import Convolution, MaxPool, he_initialise


class LabelHead(nn.Module):
    """Second output of a network: label logits from its deepest features.

    It is linear, so the mean of its outputs is its output for the mean features.

    Args:
        dimensions: 2 or 3.
        features: F, number of features.
        labels: L, number of labels.
    """

    def __init__(self, dimensions: int, features: int, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.linear = Convolution[dimensions](features, labels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, L) of the mean of features (B, F, *S) over S."""
        pooled = features.mean(tuple(range(2, features.ndim)), keepdim=True)
        return self.everywhere(pooled).flatten(1)  # (B, L)

    def everywhere(self, features: Tensor) -> Tensor:
        """Return the logits (B, L, *S) of features (B, F, *S), pixel by pixel."""
        logits: Tensor = self.linear(features)
        return logits


class MapClassifier(nn.Module):
    """Classifier of a map of the network's output: convolutions with pools between them, the mean, and a linear layer.

    It is like the second network of van Zon et al. (ISBI 2020), which predicts a slide's label from its segmentation. It has
    batch norm, since a norm of each map alone would remove how much of a class there is.

    Args:
        dimensions: 2 or 3.
        classes: K of the map.
        labels: L, number of labels.
        features: number of features of each convolution.
    """

    def __init__(self, dimensions: int, classes: int, labels: int, features: Sequence[int]) -> None:
        super().__init__()
        self.dimensions = dimensions
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((classes, *features)):
            layers += [MaxPool[dimensions](2)] if layers else []
            layers.append(Convolution[dimensions](before, after, kernel_size=3, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(after) if dimensions == 2 else nn.BatchNorm3d(after))
            layers.append(nn.ReLU(inplace=True))
        self.convolutions = nn.Sequential(*layers)
        self.linear = nn.Linear(features[-1], labels)
        self.apply(he_initialise)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (B, L) of maps (B, K, *S)."""
        features = self.convolutions(maps)  # (B, F, *s)
        features = features.flatten(2).mean(2)  # (B, F)
        return cast(Tensor, self.linear(features))  # (B, L)
