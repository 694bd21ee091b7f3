"""Measure how long a training step takes on this machine, with random patches."""

import time

import torch

from configs.schema import Config
from inference.predictors.methods import make_predictor
from models.architectures import build
from training.objective.losses import make_loss
from training.optimization.optimizers import make_optimizer
from training.optimization.precision import autocast

STEPS = 5  # that are timed, after a first one that allocates memory and selects kernels


def seconds_per_step(config: Config, device: torch.device) -> float:
    """Return the time of the fastest of STEPS optimizer steps, without cutting or augmenting patches.

    The fastest is taken since other programs can only slow a step down. torch's random generators keep their state.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        prior = (1 / len(config.data.classes),) * len(config.data.classes)
        network = make_predictor(config, build(config), prior, device).network.train()
        optimizer, loss = make_optimizer(network, config), make_loss(config, prior)
        images = torch.randn(config.trainer.batch_size, len(config.data.channels), *config.patch_size, device=device)
        sizes = config.patch_size if config.model.name == "unet" else ()
        reference = torch.randint(len(config.data.classes), (len(images), *sizes), device=device)
        weights = torch.empty(len(images), 0, device=device)
        seconds = []
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            optimizer.zero_grad()
            with autocast(config, device):
                value = loss(network.outputs(images).logits, reference, weights)
            torch.autograd.backward(value)
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
