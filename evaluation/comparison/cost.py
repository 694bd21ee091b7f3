"""What a bundle costs a pixel: multiply-adds, counted on tensors without contents, so that counting is free."""

import math
from collections.abc import Sequence

import torch

from configs.schema import Config
from inference.predictors.counting import META, multiply_adds, multiply_adds_of_tile, shape_only_predictor
from models.sliding_window import SlidingWindow


def multiply_adds_per_pixel(config: Config, shapes: Sequence[tuple[int, ...]]) -> float:
    """Multiply-adds of the convolutions by output pixel, over images of these shapes, as Overtile tiles them.

    One tile of each image's grid is counted, times the grid's tiles, divided by the image's pixels: margins, overlaps and
    mirrored borders are paid for.
    """
    predictor = shape_only_predictor(config)
    done = sum(len(grid) * multiply_adds_of_tile(predictor, grid.tile_size) for grid in map(predictor.grid, shapes))
    return done / sum(math.prod(shape) for shape in shapes)


def multiply_adds_patch_by_patch(config: Config) -> int | None:
    """Multiply-adds by output pixel if every pixel's window went through the network alone; None for a U-Net."""
    predictor = shape_only_predictor(config)
    if not isinstance(predictor.network, SlidingWindow):
        return None
    window = torch.empty(1, len(config.data.channels), *config.patch_size, device=META)
    return len(predictor.symmetries) * multiply_adds(predictor.network, window)
