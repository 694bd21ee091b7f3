"""The optimizer holds every weight once, at the config's rate."""

from pathlib import Path

import pytest
import torch
from tiny_training import tiny_config

from configs import schema
from models.architectures import build
from training.optimization.optimizers import make_optimizer


def test_every_weight_is_in_one_group_and_the_encoder_has_its_own_share() -> None:
    config = tiny_config("warm_start.encoder_rate=0.1", "optimizer.learning_rate=0.01")
    network = build(config)
    encoder, rest = make_optimizer(network, config).param_groups
    assert {id(weights) for weights in encoder["params"]} == {id(weights) for weights in network.encoder.parameters()}
    assert {id(weights) for weights in encoder["params"] + rest["params"]} == {id(weights) for weights in network.parameters()}
    assert len(encoder["params"]) + len(rest["params"]) == len(list(network.parameters()))
    assert (encoder["lr"], rest["lr"]) == pytest.approx((0.001, 0.01))
    assert (encoder["share"], rest["share"]) == (0.1, 1)


def test_the_sliding_window_has_an_encoder_too() -> None:
    config = schema.load(Path("configs/histology_sliding_window.yaml"), ["optimizer.weight_decay=0.02"])
    network = build(config)
    encoder, rest = make_optimizer(network, config).param_groups
    assert {id(weights) for weights in rest["params"]} == {
        id(weights) for part in (network.hidden, network.head) for weights in part.parameters()
    }
    assert len(encoder["params"]) == 3 * 3  # three convolutions without a bias, each with a norm
    assert encoder["weight_decay"] == rest["weight_decay"] == 0.02


@pytest.mark.parametrize("fused", [True, False])
def test_sgd_uses_nesterov_momentum(fused: bool) -> None:
    options = ("optimizer.name=sgd", "optimizer.learning_rate=0.1", "optimizer.momentum=0.5", "optimizer.weight_decay=0")
    config = tiny_config(*options, f"optimizer.clip_norm={'null' if fused else 12}")
    network = build(config)
    optimizer = make_optimizer(network, config)
    assert optimizer.defaults["fused"] is fused
    bias = network.head.bias
    torch.nn.init.zeros_(bias)
    for _ in range(2):
        bias.grad = torch.ones_like(bias)
        optimizer.step()
    assert bias.tolist() == pytest.approx([-0.325] * 2)  # velocities 1 and 1.5: 0.1 * (1 + 0.5) + 0.1 * (1 + 0.75)


def test_without_momentum_sgd_is_plain() -> None:
    config = tiny_config("optimizer.name=sgd", "optimizer.momentum=0")
    assert make_optimizer(build(config), config).defaults["nesterov"] is False
