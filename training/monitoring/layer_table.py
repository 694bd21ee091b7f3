"""A network's layers with shapes, parameters and multiply-adds, counted on tensors without contents before the first step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from evaluation.report.number_text import TIMES, operations
from inference.predictors.counting import shape_only_predictor
from models.architectures import count_parameters

MOST_LINES = 40  # that a terminal shows at once

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer, or a group of them with all that is in it.

    Args:
        name: its place in the network: `encoder.0.3` is in `encoder.0`.
        kind: its class.
        shape: of what it gives for one patch, (F, *S); None for a list of layers, and for one that isn't asked.
        parameters: trained weights.
        multiply_adds: for one patch.
    """

    name: str
    kind: str
    shape: Shape | None
    parameters: int
    multiply_adds: int

    @property
    def depth(self) -> int:
        """How many groups it lies in."""
        return self.name.count(".")


@dataclass(frozen=True)
class Summary:
    """A network for one training patch.

    Args:
        patch: shape of the input, (C, *S).
        layers: each after the group that it lies in; those that have no weights, do nothing and hold no others left out.
        parameters: of the whole network.
        multiply_adds: of one pass forward over one patch.
    """

    patch: Shape
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int


def summarise(config: Config) -> Summary:
    """The config's network as it is trained, without drawing or holding a single weight."""
    network = shape_only_predictor(config).network.eval()
    patch = (len(config.data.channels), *config.patch_size)
    shapes: dict[str, Shape] = {}
    counts: dict[str, int] = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for name, module in _inner(network):
            begun: list[int] = []
            module.register_forward_pre_hook(_begin(begun, counter))
            module.register_forward_hook(_end(name, begun, counter, shapes, counts))
        network.outputs(torch.empty(1, *patch, device="meta"))
    layers = (_layer(name, module, shapes, counts) for name, module in _inner(network))
    kept = tuple(layer for layer in layers if layer.parameters)
    return Summary(patch, kept, count_parameters(network), int(counter.get_total_flops()) // 2)


def lines(summary: Summary, most: int = MOST_LINES) -> list[str]:
    """A table for the terminal, as deep as fits into so many lines; the totals stand in the last one."""
    deepest = max(layer.depth for layer in summary.layers)
    while deepest and sum(layer.depth <= deepest for layer in summary.layers) > most - 3:
        deepest -= 1
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    for layer in summary.layers:
        if layer.depth <= deepest:
            name = "  " * layer.depth + layer.name.rpartition(".")[2]
            rows.append((name, layer.kind, _words(layer.shape), f"{layer.parameters:,}", operations(layer.multiply_adds)))
    rows.append(("in all", "", "", f"{summary.parameters:,}", operations(summary.multiply_adds)))
    return [f"The network, for a patch of {_words(summary.patch)}:", *_aligned(rows)]


def _inner(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules but the network itself, each after the one that holds it."""
    return ((name, module) for name, module in network.named_modules() if name)


def _begin(begun: list[int], counter: FlopCounterMode) -> Any:
    return lambda *_: begun.append(int(counter.get_total_flops()))


def _end(name: str, begun: list[int], counter: FlopCounterMode, shapes: dict[str, Shape], counts: dict[str, int]) -> Any:
    def note(_: nn.Module, __: object, outcome: object) -> None:
        if isinstance(outcome, Tensor):
            shapes[name] = tuple(outcome.shape[1:])
        # torch counts a multiplication and an addition as two; a layer that is asked several times adds up
        counts[name] = counts.get(name, 0) + (int(counter.get_total_flops()) - begun.pop()) // 2

    return note


def _layer(name: str, module: nn.Module, shapes: dict[str, Shape], counts: dict[str, int]) -> Layer:
    return Layer(name, type(module).__name__, shapes.get(name), count_parameters(module), _done(name, module, counts))


def _done(name: str, module: nn.Module, counts: dict[str, int]) -> int:
    """Multiply-adds of a layer; a list of layers is never asked itself, so its members' sum."""
    if name in counts:
        return counts[name]
    return sum(_done(f"{name}.{inner}", child, counts) for inner, child in module.named_children())


def _words(shape: Shape | None) -> str:
    return f" {TIMES} ".join(map(str, shape)) if shape else ""


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Words to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        yield "  ".join([*words, *(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))]).rstrip()
