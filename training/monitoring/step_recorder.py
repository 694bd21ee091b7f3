"""Means over training steps between two entries of a run's history, with learning rates, memory and speed."""

import time

import pytorch_lightning as lightning
import torch
from torch import Tensor

from disk.process import peak_resident_bytes, resident_bytes
from training.monitoring.history import Entry

ENTRIES_PER_VALIDATION = 10


class StepRecorder:
    """Adds up the metrics of training steps and makes an entry of the history of them every few steps.

    Args:
        validate_every_steps: of the run.
        device: the network's.
    """

    def __init__(self, validate_every_steps: int, device: torch.device) -> None:
        self.device = device
        self.steps_per_entry = max(1, validate_every_steps // ENTRIES_PER_VALIDATION)
        self.last_step = -1  # of the last entry
        self._start = time.monotonic()
        self._earlier_s = 0.0  # of earlier sessions
        self._gradient_norm: Tensor | None = None
        self._reset()

    def start(self, step: int, earlier_s: float) -> None:
        """Start counting at `step`, `earlier_s` seconds into the run."""
        self.last_step, self._earlier_s = step, earlier_s
        self._start = self._mark = time.monotonic()

    def stamp(self, step: int) -> Entry:
        """Return the beginning of an entry: the step and the seconds since the run began."""
        return {"step": step, "seconds": round(self._earlier_s + time.monotonic() - self._start, 3)}

    def measure_gradient(self, step: int, module: lightning.LightningModule) -> None:
        """Compute the gradient's norm if the step that follows makes an entry."""
        if (step + 1) % self.steps_per_entry == 0:
            gradients = [weights.grad for weights in module.parameters() if weights.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def add(self, trainer: lightning.Trainer, patches: int) -> None:
        """Add the metrics and the patches of a batch."""
        for name, value in trainer.callback_metrics.items():
            if is_training_metric(name):
                self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._batches += 1
        self._patches += patches
        self._busy_s += time.monotonic() - self._mark
        self._mark = time.monotonic()

    def skip_time(self) -> None:
        """Leave the time since the last batch, that of a validation, out of the speed."""
        self._mark = time.monotonic()

    def entry(self, trainer: lightning.Trainer) -> Entry | None:
        """Return the entry of this step and start the next one; None at steps that make no entry."""
        step = trainer.global_step
        if step % self.steps_per_entry != 0 or step <= self.last_step:
            return None
        self.last_step = step
        means = {name: float(value) / self._batches for name, value in self._sums.items()}
        groups = trainer.optimizers[0].param_groups
        state = {"learning_rate": float(groups[0]["lr"])}
        if len(groups) > 1:
            state = {f"learning_rate {group.get('name', number)}": float(group["lr"]) for number, group in enumerate(groups)}
        state |= {"memory_bytes": resident_bytes(), "peak_bytes": peak_resident_bytes()}
        if self.device.type == "cuda":
            state["device_bytes"] = torch.cuda.max_memory_allocated(self.device)
        state["patches_per_s"] = self._patches / max(self._busy_s, 1e-9)
        if self._gradient_norm is not None:
            state["gradient_norm"] = float(self._gradient_norm)
        if trainer.logger is not None:
            trainer.logger.log_metrics({f"run/{name}": value for name, value in state.items()}, step)
        entry = self.stamp(step) | means | state
        self._reset()
        return entry

    def _reset(self) -> None:
        self._sums: dict[str, Tensor | int] = {}
        self._batches = self._patches = 0
        self._busy_s, self._mark = 0.0, time.monotonic()
        self._gradient_norm = None


def is_training_metric(name: str) -> bool:
    """Return whether a metric is one of training patches, as opposed to validation."""
    return name == "loss" or name.startswith("patch_")
