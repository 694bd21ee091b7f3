"""What the two methods share towards the rest: patches in, logits out. Nobody above this file knows the method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.network_sections import UNetSection
from configs.schema import Config
from configs.unet_axis import UNetAxis
from inference.predictors.runtime import TORCH, Pass
from inference.tiling.grid import Axis, Grid, LegalSize, blended_axis, keeping_axis, losing_axis
from inference.tiling.memory_budget import Room
from inference.tiling.stitch import gaussian_weights
from inference.tiling.test_time_augmentation import Loss, Symmetry, mean_over, symmetries
from models.architectures import Network
from models.heads import make_head
from models.image_label_heads import MapClassifier
from models.sliding_window import SlidingWindow
from models.unet import UNet

DEFAULT_TILE_SIZE = {2: 512, 3: 96}
OUTPUTS_ONE_BY_ONE = {2: 64, 3: 16}  # most a side of a tile whose windows share no work: a larger one saves nothing
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def layout_of(config: Config) -> torch.memory_format:
    """The order of the numbers in memory that is faster: channels last, but for instance norm, which would copy them back."""
    return torch.contiguous_format if config.model.norm == "instance" else CHANNELS_LAST[config.data.dimensions]


class Predictor(ABC):
    """A network as a function of patches.

    Attributes:
        config: the run's.
        head: what the network's outputs mean.
        network: in the mode that its owner gives it: evaluation when it comes from a bundle.
        device: where the network runs.
        margin: pixels that lie between a tile's border and its output, before and after, on the axis where most do.
        losses: what the network loses along each axis; empty where its output is as large as its input.
        symmetries: what the logits are averaged over.
        run: the network's pass, (B, C, *S) -> (B, R, *S'); a runtime takes its place.
        runtime: the name of what runs the network.
        is_fixed: whether a pass is the same operations for every tile of one size, so that it can be compiled.
        blends: whether tiles overlap and are averaged, since the network sees each as a whole; otherwise they are exact.
        room: the memory that there is; None: tiles have the size that the config says, or a usual one.
        tile_size: what takes the place of the config's while an image is gone on with that was begun so.
        identity: of a bundle and what runs it; where it is the same, so are the answers.
        classifiers: what reads an image's label off the map of its probabilities; empty where nothing does.
    """

    margin: tuple[int, int]
    losses: tuple[Loss, ...] = ()
    symmetries: tuple[Symmetry, ...] = (Symmetry(),)
    classifiers: tuple[MapClassifier, ...] = ()
    run: Pass
    runtime = TORCH
    is_fixed = True
    blends = False
    room: Room | None = None
    tile_size: tuple[int, ...] | None = None
    identity = ""

    def __init__(self, config: Config, network: Network, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.head = make_head(config)
        self.network: Network = network.to(device, memory_format=layout_of(config))  # type: ignore[call-overload]  # see torch

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (B, R, *S') of normalised patches (B, C, *S); where the network says a label, its L behind them."""
        with torch.inference_mode():
            logits = self.averaged(torch.from_numpy(patches).to(self.device))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    @property
    def members(self) -> "tuple[Predictor, ...]":
        """One a network."""
        return (self,)

    @property
    def says_labels(self) -> bool:
        """Whether something says the label of a whole image: the network itself, or what reads its map."""
        return bool(self.classifiers) or self.network.label_head is not None

    def averaged(self, patches: Tensor) -> Tensor:
        """The mean of the logits over the symmetries, one after the other; (B, R, *S') of (B, C, *S) as the grid cuts them."""
        return self.one_pass(patches) if len(self.symmetries) == 1 else mean_over(self.symmetries, self.one_pass, patches)

    def one_pass(self, patches: Tensor) -> Tensor:
        """What one symmetry takes."""
        if len(self.symmetries) == 1 or not self.losses:
            return self.logits(patches)
        sides, every = list(zip(self.losses, patches.shape[2:], strict=True)), slice(None)
        logits = self.logits(patches[(every, every, *(loss.seen(side) for loss, side in sides))])
        return logits[(every, every, *(loss.kept(side) for loss, side in sides))]

    def grid(self, shape: Sequence[int]) -> Grid:
        """The tiles of an image of this shape: no larger than the config says, and no larger than the image needs.

        Where the config leaves it open and tiles are exact, they are what costs the network the least in the memory there is.
        """
        wanted = self.tile_size or self.config.inference.tile_size
        if wanted is None and self.room and not self.blends:
            return self.room.best_grid(tuple(shape), self.axis)
        wanted = wanted or (DEFAULT_TILE_SIZE[len(shape)],) * len(shape)
        return Grid(tuple(self.axis(number, *sizes) for number, sizes in enumerate(zip(shape, wanted, strict=True))))

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """What the stitcher weighs a tile's pixels with; None where tiles lie side by side."""
        return None

    @abstractmethod
    def logits(self, patches: Tensor) -> Tensor:
        """(B, K, *S') of (B, C, *S), both on the device."""

    @abstractmethod
    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """The tiles along one axis, counted from 0, of `size` pixels."""

    def losing(self, size: int, tile_size: int, loss: Loss, legal_size: LegalSize) -> Axis:
        """The tiles along one axis of a network that loses pixels; alike on both sides where symmetries are averaged."""
        if len(self.symmetries) == 1:
            return losing_axis(size, tile_size, (loss.before, loss.after), loss.stride, legal_size)
        return losing_axis(size, tile_size, (loss.margin, loss.margin), loss.stride, lambda at_least: at_least)


class UNetPredictor(Predictor):
    """Exact overlap-tile with batch norm or none; Gaussian blending where instance or group norm sees the tile as a whole."""

    def __init__(self, config: Config, network: UNet, section: UNetSection, device: torch.device) -> None:
        super().__init__(config, network, device)
        self.section = section
        self.blends = section.padding == "same" and section.norm in ("instance", "group")
        axes = [section.axis(number) for number in range(config.data.dimensions)]
        self.run = network if network.label_head is None else WithLabel(network)
        side = max(map(self._margin, axes))
        self.margin = (side, side)
        if section.padding == "valid":
            self.losses = tuple(Loss.of((axis.context_px,) * 2, axis.stride, axis.legal_size) for axis in axes)

    def logits(self, patches: Tensor) -> Tensor:
        """(B, R, *S) with same padding, less the margin with valid convolutions; a tile's label is the same everywhere."""
        return self.run(patches)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Side by side where that is exact, else overlapping."""
        network = self.section.axis(number)
        margin, stride = self._margin(network), network.stride
        if network.valid:
            return self.losing(size, tile_size, self.losses[number], network.legal_size)
        if self.blends:  # at least two pixels at the network's bottom: the norm of a single value is always 0
            return blended_axis(
                size, tile_size, self.config.inference.overlap, lambda at_least: network.legal_size(max(at_least, 2 * stride))
            )
        return keeping_axis(size, tile_size, margin, stride, network.legal_size)

    def _margin(self, network: UNetAxis) -> int:
        """What valid convolutions lose; with same padding what is dropped, in whole strides; 0 where tiles are blended."""
        if self.blends:
            return 0
        return network.context_px if network.valid else math.ceil(network.context_px / network.stride) * network.stride

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """Gaussian where tiles overlap."""
        return gaussian_weights(grid.tile_size) if self.blends else None


class WithLabel(nn.Module):
    """A U-Net's logits, and behind them what it says of the whole image, the same at every pixel."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        """(B, R + L, *S') of (B, C, *S)."""
        outputs = self.network.outputs(patches)
        logits, label = outputs.logits[0], cast(Tensor, outputs.label)  # (B, R, *S'), (B, L)
        everywhere = label.view(*label.shape, *(1,) * (logits.ndim - 2)).expand(-1, -1, *logits.shape[2:])
        return torch.cat([logits, everywhere], dim=1)


class SlidingWindowPredictor(Predictor):
    """Dense evaluation, with the classes' true shares put back: training draws every class equally often.

    What the head adds to the logits for it stands in the place of a fitted polynomial (Ciresan et al. 2012). Hard negatives
    change which background windows training draws, not how many, so that the same correction holds.
    """

    is_fixed = False  # a pass is hundreds of fragments

    def __init__(self, config: Config, network: SlidingWindow, class_prior: Sequence[float], device: torch.device) -> None:
        super().__init__(config, network, device)
        self.run = network.dense
        self.margin = (network.window // 2, network.window - 1 - network.window // 2)
        self.losses = (Loss.of(self.margin, 1, _any_size),) * config.data.dimensions
        self.shares_work = network.foveation is None
        labels = [0.0] * (network.label_head.labels if network.label_head else 0)
        shift = torch.tensor([*self.head.shift(class_prior), *labels], dtype=torch.float32, device=device)
        self.shift = shift.view(1, -1, *(1,) * config.data.dimensions)

    def logits(self, patches: Tensor) -> Tensor:
        """(B, R, *(S - window + 1)), and each window's label."""
        return self.run(patches) + self.shift

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Side by side: the dense evaluation is exact at every pixel."""
        if not self.shares_work:
            tile_size = min(tile_size, sum(self.margin) + OUTPUTS_ONE_BY_ONE[self.config.data.dimensions])
        return self.losing(size, tile_size, self.losses[number], _any_size)


class MeanPredictor(Predictor):
    """Several networks of one config, such as the folds' of a run: the mean of their logits, made tile by tile.

    One network's activations are in memory at a time; the members share the grid, the reading and the normalising.

    Args:
        members: one predictor a network; all alike but for weights and class prior.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        first = members[0]
        super().__init__(first.config, first.network, first.device)
        self._members = tuple(members)
        self.is_fixed, self.blends = first.is_fixed, first.blends
        self.margin, self.losses, self.symmetries = first.margin, first.losses, first.symmetries

    @property
    def members(self) -> tuple[Predictor, ...]:
        """One a network."""
        return self._members

    def logits(self, patches: Tensor) -> Tensor:
        """The mean in float32."""
        total = self.members[0].logits(patches).float()
        for member in self.members[1:]:
            total = total + member.logits(patches)
        return total / len(self.members)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """The members'."""
        return self.members[0].axis(number, size, tile_size)

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """The members'."""
        return self.members[0].weights(grid)


def make_predictor(
    config: Config, network: Network, class_prior: Sequence[float], device: torch.device, *, average: bool = False
) -> Predictor:
    """The predictor of the network's method.

    Args:
        config: the run's.
        network: of the config.
        class_prior: each class's share of the training pixels.
        device: where the network runs.
        average: whether to follow `inference.average`; training validates without, at a fraction of the cost.
    """
    predictor: Predictor
    if isinstance(network, UNet) and isinstance(config.model, UNetSection):
        predictor = UNetPredictor(config, network, config.model, device)
    else:
        predictor = SlidingWindowPredictor(config, cast(SlidingWindow, network), class_prior, device)
    if average:
        predictor.symmetries = symmetries(config.inference.average, config.data.dimensions)
    return predictor


def _any_size(at_least: int) -> int:
    """The sliding window takes every size."""
    return at_least


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
