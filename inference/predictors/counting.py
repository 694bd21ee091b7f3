"""Counting of operations, on tensors that have a shape but no data."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from models.architectures import build

META = torch.device("meta")  # tensors without data; operations on them take no time and no memory


def shape_only_predictor(config: Config) -> Predictor:
    """Return the config's predictor without data, for its grids and for counting its operations and memory."""
    with META:
        network = build(config)
    return make_predictor(config, network.eval(), (1.0,) * len(config.data.classes), META, average=True)


def multiply_adds_of_tile(predictor: Predictor, tile_size: tuple[int, ...]) -> int:
    """Return the multiply-adds of a tile in all passes that are averaged.

    Args:
        predictor: predictor without data.
        tile_size: (*S) of the tile.
    """
    patch = torch.empty(1, len(predictor.config.data.channels), *tile_size, device=META)
    return len(predictor.symmetries) * multiply_adds(predictor.one_pass, patch)


def multiply_adds(function: Callable[[Tensor], Tensor], patch: Tensor) -> int:
    """Return the multiply-adds of a function: half of torch's count, in which each counts as two operations."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(patch)
    return int(counter.get_total_flops()) // 2
