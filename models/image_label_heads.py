"""What says the label of a whole image: a second output of the network, or a small network that reads its output's map."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from models.layers import Convolution, MaxPool, he_initialise


class LabelHead(nn.Module):
    """The network's second output: label logits out of the features that see most.

    It is linear, so the mean of its outputs is its output for the mean features.

    Args:
        dimensions: 2 or 3.
        features: F, of the features.
        labels: L, names that an image may have.
    """

    def __init__(self, dimensions: int, features: int, labels: int) -> None:
        super().__init__()
        self.labels = labels
        self.linear = Convolution[dimensions](features, labels, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, L) of the mean over S of (B, F, *S)."""
        pooled = features.mean(tuple(range(2, features.ndim)), keepdim=True)
        return self.everywhere(pooled).flatten(1)  # (B, L)

    def everywhere(self, features: Tensor) -> Tensor:
        """(B, L, *S) of (B, F, *S), place by place."""
        logits: Tensor = self.linear(features)
        return logits


class MapClassifier(nn.Module):
    """Convolutions over a map of the network's output, a pool between them, the mean, and a linear layer.

    Like the second network of van Zon et al. (ISBI 2020), which reads a slide's label off its segmentation. Batch norm, since
    norms of each map alone would take away how much there is of a class.

    Args:
        dimensions: 2 or 3.
        classes: K of the map.
        labels: L, names that an image may have.
        features: of each convolution.
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
        """Logits (B, L) of maps (B, K, *S)."""
        features: Tensor = self.convolutions(maps)
        logits: Tensor = self.linear(features.flatten(2).mean(2))
        return logits
