"""A reference on the grid of a network's outputs: cropped to what valid convolutions leave, subsampled for coarser levels."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from configs.network_sections import UNetSection
from configs.schema import Config
from models.unet import centre_crop

Subsample = Callable[[Tensor, int, Tensor], Tensor]


def make_subsample(config: Config) -> Subsample:
    """Return a function that takes from maps (B, .., *S) the pixels of a level's logits (B, R, *S'), (B, .., *S').

    The function's arguments are the logits, their level (0 is the finest) and the maps.
    """
    dimensions, model = config.data.dimensions, config.model
    steps = [(1,) * dimensions]  # pixels of the image per pixel of each level
    if isinstance(model, UNetSection):
        strides = [model.stride(number, dimensions) for number in range(len(model.features) - 1)]
        steps = list(
            accumulate(strides, lambda step, by: tuple(a * b for a, b in zip(step, by, strict=True)), initial=steps[0])
        )

    def subsample(logits: Tensor, level: int, maps: Tensor) -> Tensor:
        if logits.ndim == 2 or maps.numel() == 0:
            return maps
        extent = [size * step for size, step in zip(logits.shape[2:], steps[level], strict=True)]
        nearest = [slice(step // 2, None, step) for step in steps[level]]
        return _centre(maps, extent)[(slice(None),) * (maps.ndim - len(nearest)) + tuple(nearest)]

    return subsample


def crop_reference(reference: Tensor, logits: Tensor) -> Tensor:
    """Return the part of the reference (B, .., *S) that the finest logits (B, R, *S') cover, (B, .., *S')."""
    return _centre(reference, logits.shape[2:])


def _centre(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return the centre of maps (B, .., *S), (B, .., *size)."""
    leading = maps.shape[: -len(size)]
    return centre_crop(maps.reshape(-1, 1, *maps.shape[-len(size) :]), torch.Size(size)).reshape(*leading, *size)


def level_shares(levels: int) -> list[float]:
    """Return the shares of the levels in the loss, each half of the finer one's; their sum is 1."""
    return [2.0 ** (levels - 1 - level) / (2**levels - 1) for level in range(levels)]
