"""Predictors of the two methods. Only this file knows which method a network belongs to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from configs.network_sections import UNetSection
from configs.schema import Config
from configs.unet_axis import UNetAxis
from inference.predictors.predictor import Predictor
from inference.tiling.grid import Axis, blended_axis, keeping_axis
from inference.tiling.test_time_augmentation import LostPixels, Symmetry, symmetries
from models.architectures import Network
from models.calibration import Calibration
from models.heads import make_head
from models.sliding_window import SlidingWindow
from models.unet import UNet

MOST_FOVEATED_OUTPUTS = {2: 64, 3: 16}  # per axis of a tile; foveated windows share no work, so larger tiles save none
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def make_predictor(
    config: Config,
    network: Network,
    class_prior: Sequence[float],
    device: torch.device,
    *,
    average: bool = False,
    calibration: Calibration | None = None,
) -> Predictor:
    """Return the predictor of the network's method.

    Args:
        config: config of the run.
        network: network that was built from the config.
        class_prior: share of each class among the training pixels.
        device: device that the network runs on.
        average: whether to average over symmetries as `inference.average` says; validation in training doesn't, to save time.
        calibration: calibration of the probabilities; None: they are the network's own.
    """
    dimensions, head = config.data.dimensions, make_head(config, calibration)
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


def memory_format_of(config: Config) -> torch.memory_format:
    """Return the fastest memory format: channels last, except with instance norm, which would copy tensors back."""
    return torch.contiguous_format if config.model.norm == "instance" else CHANNELS_LAST[config.data.dimensions]


@dataclass(frozen=True, eq=False, kw_only=True)
class UNetPredictor(Predictor):
    """Predictor of a U-Net. Its tiles are exact, except with instance or group norm, which depends on the whole tile."""

    @property
    def section(self) -> UNetSection:
        """The config's section of the network."""
        return cast(UNetSection, self.config.model)

    @property
    def blends(self) -> bool:
        """True if the norm depends on the whole tile."""
        return self.section.padding == "same" and self.section.norm in ("instance", "group")

    @cached_property
    def axes(self) -> tuple[UNetAxis, ...]:
        """Arithmetic of the network along each axis."""
        return tuple(self.section.axis(number) for number in range(self.config.data.dimensions))

    @property
    def margin(self) -> tuple[int, int]:
        """Pixels between a tile's border and its output, on the axis with the largest margin."""
        side = max(map(self._margin, self.axes))
        return side, side

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that valid convolutions lose along each axis."""
        if self.section.padding != "valid":
            return ()
        return tuple(LostPixels.of((axis.context_px,) * 2, axis.stride, axis.legal_size) for axis in self.axes)

    def logits(self, patches: Tensor) -> Tensor:
        """Return (B, R, *S) with same padding, smaller by the margin with valid; a label's logits are equal at all pixels."""
        return self.run(patches)

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the tiles along an axis: side by side if they are exact, else overlapping."""
        network = self.axes[number]
        if network.valid:
            return self.losing_axis(number, size, tile_size, network.legal_size)
        if not self.blends:
            return keeping_axis(size, tile_size, self._margin(network), network.stride, network.legal_size)
        at_bottom = 2 * network.stride  # two pixels at the network's bottom, since the norm of a single value is 0
        legal_size = lambda at_least: network.legal_size(max(at_least, at_bottom))  # noqa: E731
        return blended_axis(size, tile_size, self.config.inference.overlap, legal_size)

    def _margin(self, network: UNetAxis) -> int:
        """Return the margin along one axis: what valid convolutions lose, or the whole strides that same padding drops."""
        if self.blends:
            return 0
        return network.context_px if network.valid else math.ceil(network.context_px / network.stride) * network.stride


class WithLabel(nn.Module):
    """U-Net whose pass appends the logits of the image label to its own, equal at all pixels."""

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
    """Predictor of a sliding window: dense evaluation, with logits that are corrected to the class prior.

    Training draws all classes equally often; the correction replaces the fitted polynomial of Ciresan et al. 2012. Hard
    negatives change which background windows are drawn, but not how many, so that the same correction holds.

    Args:
        shift: (1, R, 1 ..), correction that is added to the logits; 0 for those of a label.
    """

    shift: Tensor

    @property
    def is_fixed(self) -> bool:
        """False, since a pass consists of hundreds of fragments."""
        return False

    @property
    def window_network(self) -> SlidingWindow:
        """The network as a `SlidingWindow`."""
        return cast(SlidingWindow, self.network)

    @property
    def margin(self) -> tuple[int, int]:
        """Number of pixels of the window before and after its centre."""
        before = self.window_network.window // 2
        return before, self.window_network.window - 1 - before

    @cached_property
    def lost_pixels(self) -> tuple[LostPixels, ...]:
        """Pixels that the dense pass loses, equal along all axes."""
        return (LostPixels.of(self.margin, 1, _any_size),) * self.config.data.dimensions

    def logits(self, patches: Tensor) -> Tensor:
        """Return (B, R, *(S - window + 1)), or R + L outputs with the label of each window."""
        return self.run(patches) + self.shift

    def axis(self, number: int, size: int, tile_size: int) -> Axis:
        """Return the tiles along an axis, side by side, since the dense evaluation is exact at every pixel."""
        if self.window_network.foveation is not None:  # neighbouring windows share no work
            tile_size = min(tile_size, sum(self.margin) + MOST_FOVEATED_OUTPUTS[self.config.data.dimensions])
        return self.losing_axis(number, size, tile_size, _any_size)


def _any_size(at_least: int) -> int:
    """Return the size itself, since the sliding window takes all sizes."""
    return at_least
