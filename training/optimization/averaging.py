"""The running mean of the weights, which is what is validated and kept."""

from typing import Any, cast

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from configs.schema import Config


class Averaging(lightning.Callback):
    """An exponential mean of weights and norms' statistics, swapped in for validation; `ema_decay` 0 does nothing.

    A step t counts 1 - min(decay, (1 + t) / (10 + t)), so that the beginning is soon forgotten (Tarvainen and Valpola 2017,
    arXiv:1703.01780, take the mean for the teacher). A checkpoint may be written at any moment: it says whether the network or
    this callback holds the mean.
    """

    def __init__(self, config: Config) -> None:
        self.decay = config.optimizer.ema_decay
        self.mean: dict[str, Tensor] = {}  # while a validation runs: the weights that are trained
        self.updates = 0
        self.swapped = False

    def on_train_start(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Begins with the network as it is, or goes on, out of the middle of a validation too."""
        if self.decay == 0:
            return
        weights = _weights(module)
        self.mean = {name: self.mean.get(name, value).detach().clone().to(value.device) for name, value in weights.items()}
        if self.swapped:
            self._swap(module)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        """Takes the weights in, once an optimizer step."""
        if self.decay == 0 or trainer.global_step == self.updates:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates = trainer.global_step
        weights = _weights(module)
        floating = [name for name, value in weights.items() if value.is_floating_point()]
        update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update([self.mean[name] for name in floating], [weights[name] for name in floating], self.updates)
        for name in weights.keys() - set(floating):  # counts, which have no mean
            self.mean[name].copy_(weights[name])

    def on_validation_epoch_start(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """The mean is what is validated."""
        self._swap(module)

    def on_validation_end(self, _: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Training goes on with what it had."""
        self._swap(module)

    @torch.no_grad()
    def _swap(self, module: lightning.LightningModule) -> None:
        if not self.mean:
            return
        for name, value in _weights(module).items():
            kept = value.clone()
            value.copy_(self.mean[name])
            self.mean[name].copy_(kept)
        self.swapped = not self.swapped

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"mean": self.mean, "updates": self.updates, "swapped": self.swapped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self.mean, self.updates, self.swapped = state["mean"], state["updates"], state["swapped"]


def _weights(module: lightning.LightningModule) -> dict[str, Tensor]:
    """The network's own tensors, by name."""
    return cast(nn.Module, module.network).state_dict()
