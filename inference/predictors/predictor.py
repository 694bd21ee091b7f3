"""Predictors: a bundle's networks as functions from patches to logits. Only this file knows the method."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.network_sections import UNetSection
from configs.schema import Config
from configs.unet_axis import UNetAxis
from inference.predictors.runtime import TORCH, Pass
from inference.tiling.grid import Axis, Grid, blended_axis, keeping_axis, losing_axis
from inference.tiling.memory_budget import MemoryBudget
from inference.tiling.stitch import gaussian_weights
from inference.tiling.test_time_augmentation import LostPixels, Symmetry, mean_over, symmetries
from models.architectures import Network
from models.heads import Head, make_head
from models.image_label_heads import MapClassifier
from models.sliding_window import SlidingWindow
from models.unet import UNet

DEFAULT_TILE_SIZE = {2: 512, 3: 96}
MOST_FOVEATED_OUTPUTS = {2: 64, 3: 16}  # per side of a tile whose windows share no work: a larger tile saves nothing
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def memory_format_of(config: Config) -> torch.memory_format:
    """Return the faster memory format: channels last, except with instance norm, which would copy tensors back."""
    return torch.contiguous_format if config.model.norm == "instance" else CHANNELS_LAST[config.data.dimensions]


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictor(ABC):
    """A bundle's network as a function of patches; immutable, variants are made with `dataclasses.replace`.

    Args:
        config: config of the run.
        network: network on `device`, in the mode that its owner chose: evaluation if it comes from a bundle.
        device: device that the network runs on.
        head: meaning of the network's outputs.
        run: pass of the network, (B, C, *S) -> (B, R, *S'); a runtime replaces it.
        symmetries: transformations that the logits are averaged over.
        runtime: name of the runtime that executes the network.
        memory_budget: memory that an image may take; None: tiles have the config's size, or a default one.
        identity: identifies a bundle and its runtime; where it is the same, so are the outputs.
        classifiers: networks that predict an image's label from the map of its probabilities; empty without such a label.
    """

    config: Config
    network: Network
    device: torch.device
    head: Head
    run: Pass
    symmetries: tuple[Symmetry, ...] = (Symmetry(),)
    runtime: str = TORCH
    memory_budget: MemoryBudget | None = None
    identity: str = ""
    classifiers: tuple[MapClassifier, ...] = ()

    def __call__(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (B, R, *S') of normalised patches (B, C, *S), followed by the L of an image label, if there is one."""
        with torch.inference_mode():
            logits = self.averaged(torch.from_numpy(patches).to(self.device))
        result: NDArray[np.float32] = logits.float().cpu().numpy()
        return result

    @property
    def members(self) -> "tuple[Predictor, ...]":
        """Predictors of the single networks."""
        return (self,)

    def with_passes(self, load: Callable[[Pass], Pass]) -> Self:
        """Return a variant in which `load` replaces the pass of each network, for example by a runtime's."""
        return replace(self, run=load(self.run))

    @property
    @abstractmethod
    def margin(self) -> tuple[int, int]:
        """Pixels between a tile's border and its output, before and after, on the axis where they are most."""

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that the network loses along each axis; empty where its output is as large as its input."""
        return ()

    @property
    def is_fixed(self) -> bool:
        """True if a pass consists of the same operations for every tile of one size, so that it can be compiled."""
        return True

    @property
    def blends(self) -> bool:
        """True if tiles overlap and are averaged, since the network sees each as a whole; otherwise they are exact."""
        return False

    @property
    def predicts_image_label(self) -> bool:
        """True if the network itself, or a classifier of its map, predicts a label of the whole image."""
        return bool(self.classifiers) or self.network.label_head is not None

    def averaged(self, patches: Tensor) -> Tensor:
        """Return the mean of the logits over the symmetries; (B, R, *S') of (B, C, *S) as the grid cuts them."""
        return self.one_pass(patches) if len(self.symmetries) == 1 else mean_over(self.symmetries, self.one_pass, patches)

    def one_pass(self, patches: Tensor) -> Tensor:
        """Return the logits for one symmetry: of the part of the patches that its pass needs."""
        if len(self.symmetries) == 1 or not self.lost_pixels:
            return self.logits(patches)
        sides, every = list(zip(self.lost_pixels, patches.shape[2:], strict=True)), slice(None)
        logits = self.logits(patches[(every, every, *(lost.input_part(side) for lost, side in sides))])
        return logits[(every, every, *(lost.output_part(side) for lost, side in sides))]

    def grid(self, shape: Sequence[int], tile_size: tuple[int, ...] | None = None) -> Grid:
        """Return the tiles of an image of this shape, no larger than the image needs.

        Args:
            shape: (*S) of the image, on the grid that the network was trained at.
            tile_size: largest tile; None takes the config's. Where that is None too and tiles are exact, those are taken that
                cost the network the least within the memory budget.
        """
        limits = tile_size or self.config.inference.tile_size
        if limits is None and self.memory_budget and not self.blends:
            return self.memory_budget.best_grid(tuple(shape), self.axis)
        limits = limits or (DEFAULT_TILE_SIZE[len(shape)],) * len(shape)
        return Grid(tuple(self.axis(number, *sizes) for number, sizes in enumerate(zip(shape, limits, strict=True))))

    def weights(self, grid: Grid) -> NDArray[np.float32] | None:
        """Return the weights (*tile) of a tile's pixels; None where tiles lie side by side."""
        return gaussian_weights(grid.tile_size) if self.blends else None

    @abstractmethod
    def logits(self, patches: Tensor) -> Tensor:
        """Return (B, R, *S') of (B, C, *S), both on the device."""

    @abstractmethod
    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the tiles along axis `number`, which has `size` pixels."""

    def losing_axis(self, number: int, size: int, tile_size: int, legal_size: Callable[[int], int]) -> Axis:
        """Return the tiles along an axis on which the network loses pixels; symmetric where symmetries are averaged."""
        lost = self.lost_pixels[number]
        if len(self.symmetries) == 1:
            return losing_axis(size, tile_size, (lost.before, lost.after), lost.stride, legal_size)
        return losing_axis(size, tile_size, (lost.margin, lost.margin), lost.stride, lambda at_least: at_least)


@dataclass(frozen=True, eq=False, kw_only=True)
class UNetPredictor(Predictor):
    """U-Net on exact tiles, or on blended ones with instance or group norm, which depend on the tile as a whole."""

    @property
    def section(self) -> UNetSection:
        """The config's section of the network."""
        return cast(UNetSection, self.config.model)

    @property
    def blends(self) -> bool:
        """True if the norm depends on the tile as a whole."""
        return self.section.padding == "same" and self.section.norm in ("instance", "group")

    @cached_property
    def axes(self) -> tuple[UNetAxis, ...]:
        """The network along each axis."""
        return tuple(self.section.axis(number) for number in range(self.config.data.dimensions))

    @property
    def margin(self) -> tuple[int, int]:
        """Pixels between a tile's border and its output, on the axis where they are most."""
        side = max(map(self._margin, self.axes))
        return side, side

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that valid convolutions lose along each axis."""
        if self.section.padding != "valid":
            return ()
        return tuple(LostPixels.of((axis.context_px,) * 2, axis.stride, axis.legal_size) for axis in self.axes)

    def logits(self, patches: Tensor) -> Tensor:
        """Return (B, R, *S) with same padding, less the margin with valid convolutions; a label is the same at every pixel."""
        return self.run(patches)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return tiles side by side where that is exact, else overlapping ones."""
        network = self.axes[number]
        if network.valid:
            return self.losing_axis(number, size, tile_size, network.legal_size)
        if not self.blends:
            return keeping_axis(size, tile_size, self._margin(network), network.stride, network.legal_size)
        at_bottom = 2 * network.stride  # at least two pixels at the network's bottom: the norm of a single value is always 0
        legal_size = lambda at_least: network.legal_size(max(at_least, at_bottom))  # noqa: E731
        return blended_axis(size, tile_size, self.config.inference.overlap, legal_size)

    def _margin(self, network: UNetAxis) -> int:
        """Return the pixels that valid convolutions lose, or that are dropped with same padding, in whole strides."""
        if self.blends:
            return 0
        return network.context_px if network.valid else math.ceil(network.context_px / network.stride) * network.stride


class WithLabel(nn.Module):
    """A U-Net that appends the logits of the whole image's label to its own, the same at every pixel."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: Tensor) -> Tensor:
        """Return (B, R + L, *S') of (B, C, *S)."""
        outputs = self.network.outputs(patches)
        logits, label = outputs.logits[0], cast(Tensor, outputs.label)  # (B, R, *S'), (B, L)
        everywhere = label.view(*label.shape, *(1,) * (logits.ndim - 2)).expand(-1, -1, *logits.shape[2:])
        return torch.cat([logits, everywhere], dim=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class SlidingWindowPredictor(Predictor):
    """Dense evaluation of the sliding window, corrected for training, which draws every class equally often.

    The correction of the logits takes the place of a fitted polynomial (Ciresan et al. 2012). Hard negatives change which
    background windows training draws, not how many, so that the same correction holds.

    Args:
        shift: (1, R, 1 ..), added to the logits; 0 for those of a label.
    """

    shift: Tensor

    @property
    def is_fixed(self) -> bool:
        """False: a pass is made of hundreds of fragments."""
        return False

    @property
    def window_network(self) -> SlidingWindow:
        """The network with its own type."""
        return cast(SlidingWindow, self.network)

    @property
    def margin(self) -> tuple[int, int]:
        """Pixels of the window before and after its centre."""
        before = self.window_network.window // 2
        return before, self.window_network.window - 1 - before

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that the dense pass loses, the same along each axis."""
        return (LostPixels.of(self.margin, 1, _any_size),) * self.config.data.dimensions

    def logits(self, patches: Tensor) -> Tensor:
        """Return (B, R, *(S - window + 1)), followed by each window's label."""
        return self.run(patches) + self.shift

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return tiles side by side: the dense evaluation is exact at every pixel."""
        if self.window_network.foveation is not None:  # neighbouring windows share no work
            tile_size = min(tile_size, sum(self.margin) + MOST_FOVEATED_OUTPUTS[self.config.data.dimensions])
        return self.losing_axis(number, size, tile_size, _any_size)


@dataclass(frozen=True, eq=False, kw_only=True)
class MeanPredictor(Predictor):
    """The mean of the logits of several networks of one config, such as a run's folds, taken tile by tile.

    One network's activations are in memory at a time; grid, reading and normalising are shared. `network` and `run` are the
    first network's.

    Args:
        single_predictors: one predictor a network; all alike but for weights and class prior.
    """

    single_predictors: tuple[Predictor, ...]

    @classmethod
    def of(cls, members: Sequence[Predictor]) -> Self:
        """Return the mean of these predictors."""
        first = members[0]
        return cls(
            config=first.config,
            network=first.network,
            device=first.device,
            head=first.head,
            run=first.run,
            symmetries=first.symmetries,
            single_predictors=tuple(members),
        )

    @property
    def members(self) -> tuple[Predictor, ...]:
        """Predictors of the single networks."""
        return self.single_predictors

    def with_passes(self, load: Callable[[Pass], Pass]) -> Self:
        """Return a variant in which `load` replaces the pass of each network."""
        members = tuple(member.with_passes(load) for member in self.members)
        return replace(self, run=members[0].run, single_predictors=members)

    @property
    def margin(self) -> tuple[int, int]:
        """Margin of the members."""
        return self.members[0].margin

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Lost pixels of the members."""
        return self.members[0].lost_pixels

    @property
    def is_fixed(self) -> bool:
        """True if the members' passes can be compiled."""
        return self.members[0].is_fixed

    @property
    def blends(self) -> bool:
        """True if the members' tiles are blended."""
        return self.members[0].blends

    def logits(self, patches: Tensor) -> Tensor:
        """Return the mean of the members' logits in float32."""
        total = self.members[0].logits(patches).float()
        for member in self.members[1:]:
            total = total + member.logits(patches)
        return total / len(self.members)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the members' tiles along an axis."""
        return self.members[0].axis(number, size, tile_size)


def make_predictor(
    config: Config, network: Network, class_prior: Sequence[float], device: torch.device, *, average: bool = False
) -> Predictor:
    """Return the predictor of the network's method.

    Args:
        config: config of the run.
        network: network that was built from the config.
        class_prior: share of each class among the training pixels.
        device: device that the network runs on.
        average: follows `inference.average`; training validates without, at a fraction of the cost.
    """
    dimensions, head = config.data.dimensions, make_head(config)
    selected = symmetries(config.inference.average, dimensions) if average else (Symmetry(),)
    network = network.to(device, memory_format=memory_format_of(config))  # type: ignore[call-overload]  # see torch
    if isinstance(network, UNet):
        run = network if network.label_head is None else WithLabel(network)
        return UNetPredictor(config=config, network=network, device=device, head=head, run=run, symmetries=selected)
    labels = [0.0] * (network.label_head.labels if network.label_head else 0)
    shift = torch.tensor([*head.shift(class_prior), *labels], dtype=torch.float32, device=device)
    return SlidingWindowPredictor(
        config=config,
        network=network,
        device=device,
        head=head,
        run=network.dense,
        symmetries=selected,
        shift=shift.view(1, -1, *(1,) * dimensions),
    )


def _any_size(at_least: int) -> int:
    """Return the size itself: the sliding window takes every size."""
    return at_least


def best_device() -> torch.device:
    """Return CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
