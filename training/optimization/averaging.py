"""Exponential moving average of the weights, which is validated and saved in place of the trained ones."""

from typing import Any, cast

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from configs.schema import Config


class Averaging(lightning.Callback):
    """Exponential moving average of weights and norm statistics, swapped in for validation; `ema_decay` 0 turns it off.

    Step t is weighted by 1 - min(decay, (1 + t) / (10 + t)), so that the initial weights soon lose influence (Tarvainen and
    Valpola 2017, arXiv:1703.01780, use this mean as the teacher). A checkpoint may be written at any time: its state says
    whether the network or this callback holds the mean.
    """

    def __init__(self, config: Config) -> None:
        self.decay = config.optimizer.ema_decay
        self.mean: dict[str, Tensor] = {}  # during a validation: the trained weights
        self.updates = 0
        self.swapped = False

    def on_train_start(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Start with the network's weights, or resume, also from the middle of a validation."""
        if self.decay == 0:
            return
        weights = _weights(module)
        self.mean = {name: self.mean.get(name, value).detach().clone().to(value.device) for name, value in weights.items()}
        if self.swapped:
            self._swap(module)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Add the weights to the mean, once per optimizer step."""
        if self.decay == 0 or trainer.global_step == self.updates:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates = trainer.global_step
        weights = _weights(module)
        floating = [name for name, value in weights.items() if value.is_floating_point()]
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update([self.mean[name] for name in floating], [weights[name] for name in floating], self.updates)
        for name in weights.keys() - set(floating):  # counters of batch norms, which are copied
            self.mean[name].copy_(weights[name])

    def on_validation_epoch_start(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Put the mean into the network."""
        self._swap(module)

    def on_validation_end(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Put the trained weights back into the network."""
        self._swap(module)

    @torch.no_grad()
    def _swap(self, module: lightning.LightningModule) -> None:
        if not self.mean:
            return
        for name, value in _weights(module).items():
            previous = value.clone()
            value.copy_(self.mean[name])
            self.mean[name].copy_(previous)
        self.swapped = not self.swapped

    def state_dict(self) -> dict[str, Any]:
        """Return the mean, the step that it contains last, and whether it is swapped in."""
        return {"mean": self.mean, "updates": self.updates, "swapped": self.swapped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.mean, self.updates, self.swapped = state["mean"], state["updates"], state["swapped"]


def _weights(module: lightning.LightningModule) -> dict[str, Tensor]:
    """Return the network's tensors by name."""
    return cast(nn.Module, module.network).state_dict()
