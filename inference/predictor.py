"""What the two methods share towards the rest: patches in, logits out. Nobody above this file knows the method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.networks import UNetSection
from configs.schema import Config
from inference.grid import Axis, Grid, blended_axis, keeping_axis, losing_axis
from inference.stitch import gaussian_weights
from models.bundle import Bundle
from models.heads import make_head
from models.networks import Network
from models.sliding_window import SlidingWindow
from models.unet import UNet

DEFAULT_TILE_SIZE = {2: 512, 3: 96}
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}  # the faster layout of both methods, on CPU and CUDA


class Predictor(ABC):
    """A network as a function of patches.

    Attributes:
        config: the run's.
        head: what the network's outputs mean.
        network: in the mode that its owner gives it: evaluation when it comes from a bundle.
        device: where the network runs.
        margin: pixels that lie between a tile's border and its output, before and after, on each axis.
        stride: tiles lie at multiples of it.
    """

    margin: tuple[int, int]
    stride: int

    def __init__(self, config: Config, network: Network, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.head = make_head(config)
        layout = CHANNELS_LAST[config.data.dimensions]
        self.network: Network = network.to(device, memory_format=layout)  # type: ignore[call-overload]  # missing in its types

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (B, R, *S') of normalised patches (B, C, *S)."""
        with torch.inference_mode():
            logits = self.logits(torch.from_numpy(patches).to(self.device))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    def grid(self, shape: Sequence[int]) -> Grid:
        """The tiles of an image of this shape: no larger than the config says, and no larger than the image needs."""
        wanted = self.config.inference.tile_size or (DEFAULT_TILE_SIZE[len(shape)],) * len(shape)
        return Grid(tuple(self.axis(size, tile) for size, tile in zip(shape, wanted, strict=True)))

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """What the stitcher weighs a tile's pixels with; None where tiles lie side by side."""
        return None

    @abstractmethod
    def logits(self, patches: Tensor) -> Tensor:
        """(B, K, *S') of (B, C, *S), both on the device."""

    @abstractmethod
    def axis(self, size: int, tile_size: int) -> Axis:
        """The tiles along one axis of `size` pixels."""


class UNetPredictor(Predictor):
    """Exact overlap-tile with batch norm or none; Gaussian blending where instance or group norm sees the tile as a whole."""

    def __init__(self, config: Config, network: UNet, section: UNetSection, device: torch.device) -> None:
        super().__init__(config, network, device)
        self.section = section
        self.stride = section.stride
        self.blends = section.padding == "same" and section.norm in ("instance", "group")
        side = 0 if self.blends else section.context_px
        if section.padding == "same":
            side = math.ceil(side / section.stride) * section.stride
        self.margin = (side, side)

    def logits(self, patches: Tensor) -> Tensor:
        """(B, K, *S) with same padding, less the margin with valid convolutions."""
        result: Tensor = self.network(patches)
        return result

    def axis(self, size: int, tile_size: int) -> Axis:
        """Side by side where that is exact, else overlapping."""
        if self.section.padding == "valid":
            return losing_axis(size, tile_size, self.margin, self.stride, self.section.legal_size)
        if self.blends:
            return blended_axis(size, tile_size, self.config.inference.overlap, self._legal_for_norm)
        return keeping_axis(size, tile_size, self.margin[0], self.stride, self.section.legal_size)

    def _legal_for_norm(self, at_least: int) -> int:
        """At least two pixels at the network's bottom: the norm of a single value is always 0."""
        return self.section.legal_size(max(at_least, 2 * self.stride))

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """Gaussian where tiles overlap."""
        return gaussian_weights(grid.tile_size) if self.blends else None


class SlidingWindowPredictor(Predictor):
    """Dense evaluation, with the classes' true shares put back: training draws every class equally often.

    Adds log(prior * K) to the logits, which for two classes is p' = p*pi/.5 / (p*pi/.5 + (1-p)*(1-pi)/.5)
    (Ciresan et al. 2012, there as a fitted polynomial).
    """

    def __init__(self, config: Config, network: SlidingWindow, class_prior: Sequence[float], device: torch.device) -> None:
        super().__init__(config, network, device)
        self.dense = network.dense
        self.stride = 1
        self.margin = (network.window // 2, network.window - 1 - network.window // 2)
        prior = torch.tensor(class_prior, device=device).clamp_min(1e-6)  # a class that training never saw stays possible
        self.log_prior = torch.log(prior * len(class_prior)).view(1, -1, *(1,) * config.data.dimensions)

    def logits(self, patches: Tensor) -> Tensor:
        """(B, K, *(S - window + 1))."""
        return self.dense(patches) + self.log_prior

    def axis(self, size: int, tile_size: int) -> Axis:
        """Side by side: the dense evaluation is exact at every pixel."""
        return losing_axis(size, tile_size, self.margin, self.stride, lambda at_least: at_least)


def make_predictor(config: Config, network: Network, class_prior: Sequence[float], device: torch.device) -> Predictor:
    """The predictor of the network's method."""
    if isinstance(network, UNet) and isinstance(config.model, UNetSection):
        return UNetPredictor(config, network, config.model, device)
    return SlidingWindowPredictor(config, cast(SlidingWindow, network), class_prior, device)


def load_predictor(bundle: Bundle, device: torch.device | None = None) -> Predictor:
    """The bundle's predictor, on CUDA where there is one and nothing else is asked for."""
    return make_predictor(bundle.config, bundle.network, bundle.manifest.class_prior, device or best_device())


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
