"""A network's layers with output shapes, parameters and multiply-adds, computed on meta tensors before the first step."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from evaluation.number_text import TIMES, operations
from inference.predictors.counting import shape_only_predictor
from models.architectures import count_parameters

MOST_LINES = 40  # of the table in the terminal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer, or a group of layers with its totals.

    Args:
        name: the path in the network: `encoder.0.3` is in `encoder.0`.
        kind: the name of its class.
        shape: of the output for one patch, (F, *S); None for a list of layers, and for a layer that the pass leaves out.
        parameters: number of trained weights.
        multiply_adds: for one patch.
    """

    name: str
    kind: str
    shape: Shape | None
    parameters: int
    multiply_adds: int

    @property
    def depth(self) -> int:
        """Return the number of groups that contain the layer."""
        return self.name.count(".")


@dataclass(frozen=True)
class NetworkSummary:
    """A network's layers and totals for one training patch.

    Args:
        patch: shape of the input, (C, *S).
        layers: those with weights, each after the group that contains it.
        parameters: of the whole network.
        multiply_adds: of one pass forward over one patch.
    """

    patch: Shape
    layers: tuple[Layer, ...]
    parameters: int
    multiply_adds: int


def summarise_network(config: Config) -> NetworkSummary:
    """Summarise a config's network without initialising or allocating its weights."""
    network = shape_only_predictor(config).network.eval()
    patch = (len(config.data.channels), *config.patch_size)
    shapes: dict[str, Shape] = {}
    counts: dict[str, int] = {}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for name, module in _submodules(network):
            _register_hooks(name, module, counter, shapes, counts)
        network.outputs(torch.empty(1, *patch, device="meta"))
    layers = tuple(
        Layer(name, type(module).__name__, shapes.get(name), parameters, _multiply_adds(name, module, counts))
        for name, module in _submodules(network)
        if (parameters := count_parameters(module))
    )
    return NetworkSummary(patch, layers, count_parameters(network), int(counter.get_total_flops()) // 2)


def table_lines(summary: NetworkSummary, most: int = MOST_LINES) -> list[str]:
    """Return a table of at most `most` lines for the terminal, without the deepest groups; its last line is the totals."""
    deepest = max(layer.depth for layer in summary.layers)
    while deepest and sum(layer.depth <= deepest for layer in summary.layers) > most - 3:
        deepest -= 1
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    for layer in summary.layers:
        if layer.depth <= deepest:
            name = "  " * layer.depth + layer.name.rpartition(".")[2]
            rows.append((name, layer.kind, _shape_text(layer.shape), f"{layer.parameters:,}", operations(layer.multiply_adds)))
    rows.append(("total", "", "", f"{summary.parameters:,}", operations(summary.multiply_adds)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [f"The network, for a patch of {_shape_text(summary.patch)}:"]
    for row in rows:
        text = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        table.append("  ".join([*text, *numbers]).rstrip())
    return table


def _submodules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield name and module of all modules in the network, each after the one that contains it."""
    return ((name, module) for name, module in network.named_modules() if name)


def _register_hooks(
    name: str, module: nn.Module, counter: FlopCounterMode, shapes: dict[str, Shape], counts: dict[str, int]
) -> None:
    """Have a module's passes store the shape of its output and add up its multiply-adds."""
    starts: list[int] = []

    def before(*_: object) -> None:
        starts.append(int(counter.get_total_flops()))

    def after(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            shapes[name] = tuple(output.shape[1:])
        # torch counts a multiplication and an addition as two; a layer that is called several times adds up
        counts[name] = counts.get(name, 0) + (int(counter.get_total_flops()) - starts.pop()) // 2

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after)


def _multiply_adds(name: str, module: nn.Module, counts: dict[str, int]) -> int:
    """Return the multiply-adds of a layer; those of its members if it is a list, which is never called itself."""
    if name in counts:
        return counts[name]
    return sum(_multiply_adds(f"{name}.{inner}", child, counts) for inner, child in module.named_children())


def _shape_text(shape: Shape | None) -> str:
    return f" {TIMES} ".join(map(str, shape)) if shape else ""
