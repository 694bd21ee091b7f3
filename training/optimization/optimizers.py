"""A network and its config -> what changes its weights."""

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from configs.schema import Config
from models.architectures import ENCODER


def make_optimizer(network: nn.Module, config: Config) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or SGD with Nesterov's momentum, over the encoder's weights and the others.

    Each of the two groups has a `share`, which its rate is multiplied by. Every weight decays, those of norms and biases too,
    as in nnU-Net. The fused step is the fastest, on a CPU by a third to two thirds; but in mixed precision Lightning clips no
    gradients of a fused optimizer.

    Returns:
        An optimizer of the groups `encoder` and `rest`, at the rates that they have without a schedule.
    """
    section = config.optimizer
    shares = {"encoder": config.warm_start.encoder_rate, "rest": 1.0}
    groups = [
        {"params": weights, "name": name, "share": shares[name], "lr": section.learning_rate * shares[name]}
        for name, weights in _grouped(network).items()
    ]
    fused = section.clip_norm is None
    if section.name == "adamw":
        return AdamW(groups, section.learning_rate, weight_decay=section.weight_decay, fused=fused)
    nesterov = section.momentum > 0  # without any, there is nothing to look ahead with
    return SGD(
        groups,
        section.learning_rate,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        nesterov=nesterov,
        fused=fused,
    )


def _grouped(network: nn.Module) -> dict[str, list[nn.Parameter]]:
    groups: dict[str, list[nn.Parameter]] = {"encoder": [], "rest": []}
    for name, weights in network.named_parameters():
        groups["encoder" if name.startswith(ENCODER) else "rest"].append(weights)
    return groups
