"""Published networks: each block of docs/networks.md is a valid config with the number of weights on that page."""

import re
from pathlib import Path

import pytest
import torch

from configs import schema
from configs.schema import Config
from models.architectures import build, count_parameters

PAGE = Path("docs/networks.md").read_text()
BLOCK = re.compile(r"^### (?P<title>.+?)$(?P<text>.*?)^```\n(?P<overrides>.*?)^```$", re.M | re.S)
BLOCKS = {match["title"]: match for match in BLOCK.finditer(PAGE)}
WEIGHTS = {  # of as many channels and classes as the shipped configs have
    "The U-Net of 2015": 31_030_658 + 2 * 9 * 64,  # two channels more in the first convolution
    "nnU-Net, 2D": 46_316_046,
    "nnU-Net, 3D": 31_192_559,
    "nnU-Net, 3D, thick slices": 44_573_362,
    "nnU-Net with a residual encoder, 3D": 102_337_519,
    "N4": 219_290 + 2 * 16 * 48,
}


def config_of(title: str) -> Config:
    block = BLOCKS[title]
    names = re.findall(r"`(configs/\w+\.yaml)`", block["text"])
    return schema.load(Path(names[0]), block["overrides"].splitlines())


def test_every_published_network_is_on_the_page() -> None:
    assert set(WEIGHTS) <= set(BLOCKS)


@pytest.mark.parametrize("title", WEIGHTS)
def test_has_as_many_weights_as_the_page_says(title: str) -> None:
    config = config_of(title)
    with torch.device("meta"):
        network = build(config)
    assert f"{count_parameters(network):,}" == f"{WEIGHTS[title]:,}"
    assert f"{WEIGHTS[title]:,} weights" in BLOCKS[title]["text"]


@pytest.mark.parametrize("title", [title for title in WEIGHTS if title.startswith("nnU-Net")])
def test_nnu_nets_give_an_output_at_every_level_of_the_decoder(title: str) -> None:
    config = config_of(title)
    with torch.device("meta"):
        logits = build(config).outputs(torch.empty(1, len(config.data.channels), *config.patch_size)).logits
    levels = len(config.model.features)  # type: ignore[union-attr]
    assert len(logits) == levels - 1
    assert tuple(logits[0].shape[2:]) == config.patch_size
    assert max(logits[-1].shape[2:]) <= 10
