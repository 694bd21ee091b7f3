"""Multiply-adds of a network for each output pixel, counted on tensors without data, which costs no computing time."""

import math
from collections.abc import Sequence

import torch

from configs.schema import Config
from inference.predictors.counting import META, multiply_adds, multiply_adds_of_tile, shape_only_predictor
from models.sliding_window import SlidingWindow


def multiply_adds_per_pixel(config: Config, shapes: Sequence[tuple[int, ...]]) -> float:
    """Return the multiply-adds of the convolutions per output pixel, over images of these shapes as Overtile tiles them.

    One tile of each image's grid is counted, multiplied by the number of tiles, and divided by the image's pixels. Margins,
    overlaps and mirrored borders are included.
    """
    predictor = shape_only_predictor(config)
    total = sum(len(grid) * multiply_adds_of_tile(predictor, grid.tile_size) for grid in map(predictor.grid, shapes))
    return total / sum(math.prod(shape) for shape in shapes)


def multiply_adds_patch_by_patch(config: Config) -> int | None:
    """Return the multiply-adds per output pixel if each pixel's window were run separately; None for a U-Net."""
    predictor = shape_only_predictor(config)
    if not isinstance(predictor.network, SlidingWindow):
        return None
    window = torch.empty(1, len(config.data.channels), *config.patch_size, device=META)
    return len(predictor.symmetries) * multiply_adds(predictor.network, window)
