"""Layer table: its totals are those of the real network, and it initialises no weights."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from configs import schema
from models.architectures import build, count_parameters
from training.monitoring.layer_table import MOST_LINES, NetworkSummary, summarise_network, table_lines

SHIPPED = sorted(Path("configs").glob("*.yaml"))


def of(summary: NetworkSummary, name: str) -> tuple[str, tuple[int, ...] | None, int, int]:
    layer = next(layer for layer in summary.layers if layer.name == name)
    return layer.kind, layer.shape, layer.parameters, layer.multiply_adds


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_totals_are_those_of_the_real_network(path: Path) -> None:
    config = schema.load(path)
    summary = summarise_network(config)
    network = build(config).eval()
    assert summary.parameters == count_parameters(network)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.outputs(torch.zeros(1, *summary.patch))
    assert 2 * summary.multiply_adds == counter.get_total_flops()
    for total in ("parameters", "multiply_adds"):
        assert sum(getattr(layer, total) for layer in summary.layers if layer.depth == 0) == getattr(summary, total)


def test_layers_match_values_computed_by_hand() -> None:
    overrides = ("model.features=[4,8]", "sampling.patch_size=[16,16]", "model.norm=none")
    summary = summarise_network(schema.load(Path("configs/histology_unet.yaml"), overrides))
    assert summary.patch == (3, 16, 16)
    assert of(summary, "encoder.0.0") == ("Conv2d", (4, 16, 16), 3 * 9 * 4 + 4, 3 * 9 * 4 * 256)
    assert of(summary, "encoder.1") == ("Sequential", (8, 8, 8), 4 * 9 * 8 + 8 + 8 * 9 * 8 + 8, (4 + 8) * 9 * 8 * 64)
    assert of(summary, "up") == ("ModuleList", None, 8 * 4 * 4 + 4, 8 * 4 * 256)
    assert of(summary, "head") == ("Conv2d", (2, 16, 16), 4 * 2 + 2, 4 * 2 * 256)


def test_leaves_the_generator_unchanged_and_fits_a_terminal() -> None:
    config = schema.load(Path("configs/histology_unet.yaml"), ["model.features=[8,8,8,8,8,8]"])
    before = torch.get_rng_state()
    table = table_lines(summarise_network(config))
    assert torch.equal(before, torch.get_rng_state())
    assert len(table) <= MOST_LINES
    assert table[0] == "The network, for a patch of 3 \N{MULTIPLICATION SIGN} 128 \N{MULTIPLICATION SIGN} 128:"
    assert any(line.startswith("  5") and "Sequential" in line for line in table)
    assert table[-1].startswith("total")
    assert len(table_lines(summarise_network(config), most=8)) <= 8
