"""A network -> ONNX, for what runs networks elsewhere: one file that takes batches and images of every size that it takes."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

INPUT, OUTPUT = "image", "logits"
EXPORTER = "torch.onnx"


def onnx_of(network: nn.Module, example: Tensor) -> bytes:
    """The network's pass as an ONNX model with its weights inside, in float32.

    Args:
        network: in evaluation mode, on the CPU.
        example: (B, C, *S) that it takes, in which nothing has the size 1: that would be taken for a size that never changes.
    """
    free = dict.fromkeys((0, *range(2, example.ndim)), torch.export.Dim.DYNAMIC)
    with torch.inference_mode(mode=False), torch.no_grad(), _quietly():
        program = torch.onnx.export(
            network,
            (example.clone(),),
            dynamo=True,
            dynamic_shapes=(free,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave nothing back")
    return cast(bytes, program.model_proto.SerializeToString())


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps back what the exporter says of itself: operations of packages that aren't there, functions that it will drop."""
    logger = logging.getLogger(EXPORTER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
