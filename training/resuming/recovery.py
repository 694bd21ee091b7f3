"""Recovery from a NaN or infinite loss: detected before it changes the weights, recorded, survived once at a lower rate."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from configs.schema import Config
from disk.publish import publish
from training.data.patch_dataset import TrainingPatch
from training.distributed import gather, reduce_sum
from training.errors import NumericError
from training.optimization.schedule import RateSchedule

EVENTS_FILE = "non_finite.json"  # in the run's folder
RECOVERY_SCALE = 0.1  # of the learning rate, after the first event


class NonFiniteError(Exception):
    """A loss, a gradient or a weight is NaN or infinite.

    Args:
        step: optimizer steps before it.
        cases: numbers of the cases in the step's patches, the likeliest cause first.
    """

    def __init__(self, step: int, cases: Iterable[int] = ()) -> None:
        super().__init__(step)
        self.step = step
        self.cases = list(dict.fromkeys(cases))


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no value of the floating-point tensors is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


class FiniteGuard(lightning.Callback):
    """Checks each step's losses and the norm of its gradient before the optimizer uses them.

    It fetches one number from the device per step. In float16 gradients overflow regularly, and Lightning skips such steps;
    only the loss is checked then.

    Args:
        config: the run's.
        schedule: the run's learning rates.
        scale: of the rates; less than 1 after an event.
    """

    def __init__(self, config: Config, schedule: RateSchedule, scale: float) -> None:
        self.loss_only = config.trainer.precision == "float16"
        self.schedule = schedule
        self.scale = scale
        self._batches: list[tuple[Tensor, Tensor]] = []  # of this step: cases (B,) and loss ()
        self._cases = torch.empty(0)

    def on_train_start(self, *_: Any) -> None:
        """Set the scale of the rates, after a checkpoint has set the one that it was written with."""
        self.schedule.scale = self.scale

    def on_train_batch_start(
        self, _: lightning.Trainer, __: lightning.LightningModule, batch: TrainingPatch, *___: Any
    ) -> None:
        """Store the cases of the batch."""
        self._cases = batch.case

    def on_before_backward(self, _: lightning.Trainer, __: lightning.LightningModule, loss: Tensor) -> None:
        """Store the loss of the batch."""
        self._batches.append((self._cases, loss.detach()))

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: Optimizer) -> None:
        """Check losses and gradient of the step.

        Raises:
            NonFiniteError: one of them is NaN or infinite.
        """
        batches, self._batches = self._batches, []
        total = torch.stack([loss for _, loss in batches]).sum()
        if not self.loss_only:
            gradients = [weights.grad for weights in module.parameters() if weights.grad is not None]
            total = total + get_total_norm(gradients).to(total.device)
        if not bool(torch.isfinite(reduce_sum(trainer, total))):
            losses = gather(trainer, [(bool(torch.isfinite(loss)), cases.tolist()) for cases, loss in batches])
            losses.sort(key=lambda batch: batch[0])  # batches with a NaN or infinite loss first
            raise NonFiniteError(trainer.global_step, (case for _, cases in losses for case in cases))


class Recovery:
    """The events of NaN or infinite losses of a run, in a file, so that a resumed run behaves as an uninterrupted one.

    Args:
        folder: the run's.
        config: the run's.
        names: of the training cases, by their number.
        console: takes the message of the first event.
    """

    def __init__(self, folder: Path, config: Config, names: list[str], console: Console) -> None:
        self.path = folder / EVENTS_FILE
        self.config = config
        self.names = names
        self.console = console
        self.events: list[dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else []

    @property
    def scale(self) -> float:
        """Return the factor of all learning rates."""
        return RECOVERY_SCALE if self.events else 1.0

    def record(self, error: NonFiniteError, last_good: str | None, *, write: bool = True) -> None:
        """Record an event, which lowers the learning rates.

        Args:
            error: the step and the cases.
            last_good: the name of the checkpoint before the event; None if there is none.
            write: whether this process, of several, writes the file.

        Raises:
            NumericError: it is the second event.
        """
        cases = [self.names[number] for number in error.cases]
        is_second = bool(self.events)
        accumulate = self.config.optimizer.accumulate
        first = error.step * accumulate
        event = {
            "step": error.step,
            "cases": cases,
            "seed": self.config.run.seed,
            "batches": list(range(first, first + accumulate)),
            "last_good": last_good,
        }
        self.events.append(event)
        if write:
            publish(self.path, lambda part: part.write_text(json.dumps(self.events, indent=2) + "\n"))
        message = f"the loss or its gradient is NaN or infinite at step {error.step}"
        if cases:
            message += f", with cases {', '.join(cases)}"
        if is_second:
            raise NumericError(
                f"{message}, and a lower learning rate didn't help; lower optimizer.learning_rate or check the images: "
                f"{self.path} lists their cases"
            )
        self.console.print(
            f"{message}; goes back to {last_good or 'the beginning'} with {RECOVERY_SCALE:g} of the learning rate",
            style="bold red",
        )
