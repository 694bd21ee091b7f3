"""A config's predictor without numbers: what it does is counted without being done, for memory and for multiply-adds."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from inference.predictors.predictor import Predictor, make_predictor
from models.architectures import build

META = torch.device("meta")  # tensors with a shape and no numbers: operations on them take no time and no memory


def shape_only_predictor(config: Config) -> Predictor:
    """The config's predictor without weights; it knows grids and shapes, and counts operations."""
    with META:
        network = build(config)
    return make_predictor(config, network.eval(), (1.0,) * len(config.data.classes), META, average=True)


def multiply_adds_of_tile(predictor: Predictor, tile_size: tuple[int, ...]) -> int:
    """Multiply-adds of a tile of that size, of a pass for each symmetry that is averaged.

    Args:
        predictor: without numbers.
        tile_size: (*S).
    """
    patch = torch.empty(1, len(predictor.config.data.channels), *tile_size, device=META)
    return len(predictor.symmetries) * multiply_adds(predictor.one_pass, patch)


def multiply_adds(function: Callable[[Tensor], Tensor], patch: Tensor) -> int:
    """Half of what torch counts: it counts a multiplication and an addition as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(patch)
    return int(counter.get_total_flops()) // 2
