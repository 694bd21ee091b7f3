"""A reference on the grid of a network's output: the part that valid convolutions have, and coarser levels' nearest pixels."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from configs.network_sections import UNetSection
from configs.schema import Config
from models.unet import centre_crop

Fit = Callable[[Tensor, int, Tensor], Tensor]


def make_fit(config: Config) -> Fit:
    """(logits (B, R, *S'), their level, maps (B, .., *S)) -> the maps' pixels that lie on the logits, (B, .., *S')."""
    steps = _steps(config)

    def fit(logits: Tensor, level: int, maps: Tensor) -> Tensor:
        if logits.ndim == 2 or maps.numel() == 0:
            return maps
        extent = [size * step for size, step in zip(logits.shape[2:], steps[level], strict=True)]
        nearest = [slice(step // 2, None, step) for step in steps[level]]
        return middle(maps, extent)[(slice(None),) * (maps.ndim - len(nearest)) + tuple(nearest)]

    return fit


def crop_reference(reference: Tensor, logits: Tensor) -> Tensor:
    """The part of the reference (B, .., *S) that the finest logits (B, R, *S') are for."""
    return middle(reference, logits.shape[2:])


def middle(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of (B, .., *S), (B, .., *size)."""
    leading = maps.shape[: -len(size)]
    return centre_crop(maps.reshape(-1, 1, *maps.shape[-len(size) :]), torch.Size(size)).reshape(*leading, *size)


def level_shares(levels: int) -> list[float]:
    """1, 1/2, 1/4 .. of their sum."""
    return [2.0 ** (levels - 1 - level) / (2**levels - 1) for level in range(levels)]


def _steps(config: Config) -> list[tuple[int, ...]]:
    """Pixels of the image between those of each level, the finest first."""
    dimensions, model = config.data.dimensions, config.model
    first = (1,) * dimensions
    if not isinstance(model, UNetSection):
        return [first]
    strides = [model.stride(number, dimensions) for number in range(len(model.features) - 1)]
    return list(accumulate(strides, lambda step, by: tuple(a * b for a, b in zip(step, by, strict=True)), initial=first))
