"""Learning rate schedules, and the freezing of the encoder at the start of a run."""

import math
from typing import Any, cast

import pytorch_lightning as lightning
from torch import nn
from torch.optim import Optimizer

from configs.schema import Config
from configs.sections import OptimizerSection
from models.architectures import ENCODER
from training.clock import Clock
from training.objective.scoring import make_score

RISE, LOWEST_START, LOWEST_END = (
    0.3,
    1 / 25,
    1 / (25 * 1e4),
)  # of one_cycle: share of the run with a rising rate, first and last factor; torch's defaults
PLATEAU_SHARE = 0.2  # factor by which a plateau lowers the rate
PLATEAU_VALIDATIONS = 3  # without a better score before the rate is lowered


def rate_factor(section: OptimizerSection, progress: float, step: int) -> float:
    """Return the factor of the learning rate.

    poly: (1 - p)^0.9, as in nnU-Net (Chen et al. 2017, arXiv:1606.00915); cosine: half a wave (Loshchilov and Hutter 2017,
    arXiv:1608.03983); one_cycle: up and down in half waves (Smith and Topin 2018, arXiv:1708.07120). The warm-up is a
    linear factor on top of any of them; its first step has 1 / warmup_steps, so that no step has rate 0.

    Args:
        section: the schedule and its warm-up.
        progress: completed share of the run, p, 0 .. 1.
        step: number of completed optimizer steps.
    """
    warm = min(1.0, (step + 1) / section.warmup_steps) if section.warmup_steps else 1.0
    if section.schedule == "poly":
        return warm * math.pow(1 - progress, 0.9)
    if section.schedule == "cosine":
        return warm * _half_wave(1, 0, progress)
    if section.schedule == "one_cycle":
        if progress < RISE:
            return warm * _half_wave(LOWEST_START, 1, progress / RISE)
        return warm * _half_wave(1, LOWEST_END, (progress - RISE) / (1 - RISE))
    return warm  # plateau: `Plateau` lowers the rate after validations


def _half_wave(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class RateSchedule(lightning.Callback):
    """Sets the rate of every group before each step, and freezes the encoder for `warm_start.frozen_steps`.

    It must precede the callbacks that write checkpoints, so that these hold its state after the last validation.

    Attributes:
        scale: additional factor of all rates; a run that resumes after a NaN or infinite loss lowers it.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self.section = config.optimizer
        self.frozen_steps = config.warm_start.frozen_steps
        self.score = make_score(config).name
        self.clock = clock
        self.scale = 1.0
        self.plateau = Plateau()

    def on_train_batch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Set the rates, by the completed steps and the first process's clock, and freeze or unfreeze the encoder."""
        step = trainer.global_step
        progress = self.clock.progress(step)
        if self.clock.max_seconds is not None:
            progress = trainer.strategy.broadcast(progress)
        rate = self.section.learning_rate * rate_factor(self.section, progress, step) * self.plateau.factor * self.scale
        is_frozen = step < self.frozen_steps
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 0.0 if is_frozen and group["name"] == "encoder" else rate * group["share"]
        if step <= self.frozen_steps:
            network = cast(nn.Module, module.network)
            for name, part in network.named_modules():
                if name.startswith(ENCODER):
                    part.train(network.training and not is_frozen)
            for name, weights in network.named_parameters():
                if name.startswith(ENCODER):  # several processes wait for gradients that were required at the start
                    weights.requires_grad_(trainer.world_size > 1 or not is_frozen)

    def on_before_optimizer_step(self, trainer: lightning.Trainer, _: lightning.LightningModule, optimizer: Optimizer) -> None:
        """Remove the gradients of a frozen encoder, so that they don't count in the gradient norm."""
        if trainer.global_step < self.frozen_steps:
            for group in optimizer.param_groups:
                if group["name"] == "encoder":
                    for weights in group["params"]:
                        weights.grad = None

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Lower the rate when the score no longer rises, if the schedule is plateau."""
        if self.section.schedule == "plateau" and self.score in trainer.callback_metrics:
            self.plateau.update(float(trainer.callback_metrics[self.score]))

    def state_dict(self) -> dict[str, float]:
        """Return the scale and the state of the plateau."""
        return {"scale": self.scale, **vars(self.plateau)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the state of a checkpoint."""
        self.scale = state["scale"]
        self.plateau = Plateau(state["factor"], state["best"], int(state["waited"]))


class Plateau:
    """Factor of the rate, which is lowered after PLATEAU_VALIDATIONS validations without a better score."""

    def __init__(self, factor: float = 1.0, best: float = -math.inf, waited: int = 0) -> None:
        self.factor = factor
        self.best = best
        self.waited = waited

    def update(self, score: float) -> None:
        """Add the score of a validation; higher is better."""
        if score > self.best:
            self.best, self.waited = score, 0
            return
        self.waited += 1
        if self.waited == PLATEAU_VALIDATIONS:
            self.factor, self.waited = self.factor * PLATEAU_SHARE, 0
