"""What a bundle costs a pixel: multiply-adds, counted on tensors without contents, so that counting is free."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from inference.predictor import Predictor, make_predictor
from models.networks import build
from models.sliding_window import SlidingWindow

META = torch.device("meta")  # shapes only: no memory, no arithmetic


def shape_only_predictor(config: Config) -> Predictor:
    """The config's predictor without weights; it knows grids and shapes, and counts operations."""
    with META:
        network = build(config)
    prior = [1 / len(config.data.classes)] * len(config.data.classes)
    return make_predictor(config, network, prior, META, average=True)


def multiply_adds_per_pixel(config: Config, shapes: Sequence[tuple[int, ...]]) -> float:
    """Multiply-adds of the convolutions by output pixel, over images of these shapes, as Overtile tiles them.

    One tile of each image's grid is counted, times the grid's tiles, divided by the image's pixels: margins, overlaps and
    mirrored borders are paid for.
    """
    predictor = shape_only_predictor(config)
    done = sum(len(grid) * multiply_adds_of_tile(predictor, grid.tile_size) for grid in map(predictor.grid, shapes))
    return done / sum(math.prod(shape) for shape in shapes)


def multiply_adds_of_tile(predictor: Predictor, tile_size: tuple[int, ...]) -> int:
    """Multiply-adds of a tile of that size, of a pass for each symmetry that is averaged."""
    patch = torch.empty(1, len(predictor.config.data.channels), *tile_size, device=META)
    return len(predictor.symmetries) * _counted(predictor.one_pass, patch)


def multiply_adds_patch_by_patch(config: Config) -> int | None:
    """Multiply-adds by output pixel if every pixel's window went through the network alone; None for a U-Net."""
    predictor = shape_only_predictor(config)
    if not isinstance(predictor.network, SlidingWindow):
        return None
    window = torch.empty(1, len(config.data.channels), *config.patch_size, device=META)
    return len(predictor.symmetries) * _counted(predictor.network, window)


def _counted(function: Callable[[Tensor], Tensor], patch: Tensor) -> int:
    """Half of what torch counts: it counts a multiplication and an addition as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(patch)
    return int(counter.get_total_flops()) // 2
