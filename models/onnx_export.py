"""Export of a network to ONNX, for other runtimes. The model takes every batch and image size that the network takes."""

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
    """Return the network's forward pass as a serialized ONNX model with float32 weights.

    Args:
        network: in evaluation mode, on the CPU.
        example: input (B, C, *S). No size may be 1, since the exporter would fix it.
    """
    dynamic_axes = dict.fromkeys((0, *range(2, example.ndim)), torch.export.Dim.DYNAMIC)
    with torch.inference_mode(mode=False), torch.no_grad(), _silent_exporter():
        program = torch.onnx.export(
            network,
            (example.clone(),),
            dynamo=True,
            dynamic_shapes=(dynamic_axes,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    return cast(bytes, program.model_proto.SerializeToString())


@contextmanager
def _silent_exporter() -> Iterator[None]:
    """Silence the exporter's log and warnings, about missing packages and its own deprecated functions."""
    logger = logging.getLogger(EXPORTER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
