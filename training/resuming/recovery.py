"""A loss or a gradient that is no number: found before it touches the weights, noted with its cases, and got over once."""

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
from training.data.training_patch import TrainingPatch
from training.distributed import gathered, summed
from training.errors import NumericError
from training.optimization.schedule import RateSchedule

NON_FINITE = "non_finite.json"  # in the run's folder
LOWERED = 0.1  # times the learning rate, from the first time on


class NonFinite(Exception):
    """A loss, a gradient or a weight is no number.

    Args:
        step: optimizer steps that were done before.
        cases: the numbers of those whose patches were in it, the suspects first.
    """

    def __init__(self, step: int, cases: Iterable[int] = ()) -> None:
        super().__init__(step)
        self.step = step
        self.cases = list(dict.fromkeys(cases))


def is_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether each value of each tensor is a number."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


class FiniteGuard(lightning.Callback):
    """Looks at each step's losses and at the length of its gradient before the optimizer does.

    One number is fetched from the device a step. In float16 gradients overflow as a matter of course, and Lightning leaves
    out such steps: there only the loss is looked at.

    Args:
        config: the run's.
        schedule: the run's rates.
        scale: what they are multiplied by; less than 1 in a run that had a loss that was no number.
    """

    def __init__(self, config: Config, schedule: RateSchedule, scale: float) -> None:
        self.losses_alone = config.trainer.precision == "float16"
        self.schedule = schedule
        self.scale = scale
        self._batches: list[tuple[Tensor, Tensor]] = []  # of this step: cases (B,) and loss ()
        self._cases = torch.empty(0)

    def on_train_start(self, *_: Any) -> None:
        """After what a checkpoint said."""
        self.schedule.scale = self.scale

    def on_train_batch_start(
        self, _: lightning.Trainer, __: lightning.LightningModule, batch: TrainingPatch, *___: Any
    ) -> None:
        """Whose patches they are."""
        self._cases = batch.case

    def on_before_backward(self, _: lightning.Trainer, __: lightning.LightningModule, loss: Tensor) -> None:
        """What they gave."""
        self._batches.append((self._cases, loss.detach()))

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: Optimizer) -> None:
        """Nothing, where all are numbers.

        Raises:
            NonFinite: they aren't.
        """
        batches, self._batches = self._batches, []
        total = torch.stack([loss for _, loss in batches]).sum()
        if not self.losses_alone:
            gradients = [weights.grad for weights in module.parameters() if weights.grad is not None]
            total = total + get_total_norm(gradients).to(total.device)
        if not bool(torch.isfinite(summed(trainer, total))):
            found = gathered(trainer, [(bool(torch.isfinite(loss)), cases.tolist()) for cases, loss in batches])
            suspects = sorted(found, key=lambda batch: batch[0])
            raise NonFinite(trainer.global_step, (case for _, cases in suspects for case in cases))


class Recovery:
    """What a run remembers about it, in a file, so that a run that goes on does as it would have done.

    Args:
        folder: the run's.
        config: the run's.
        names: of the training cases, by their number.
        console: where the first time is told.
    """

    def __init__(self, folder: Path, config: Config, names: list[str], console: Console) -> None:
        self.path = folder / NON_FINITE
        self.config = config
        self.names = names
        self.console = console
        self.events: list[dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else []

    @property
    def scale(self) -> float:
        """Of all rates."""
        return LOWERED if self.events else 1.0

    def take(self, found: NonFinite, good: str | None, *, write: bool = True) -> None:
        """Writes down what was found, of several processes the first alone, and lowers the rates.

        Args:
            found: where, and with which cases.
            good: the checkpoint before it; None where there is none yet.
            write: whether to.

        Raises:
            NumericError: it isn't the first time.
        """
        cases = [self.names[number] for number in found.cases]
        known = bool(self.events)
        event = {"step": found.step, "cases": cases, "seed": self.config.run.seed, "batches": self._batches(found)}
        self.events.append({**event, "last_good": good})
        if write:
            publish(self.path, lambda part: part.write_text(json.dumps(self.events, indent=2) + "\n"))
        told = f"the loss or its gradient is no number at step {found.step}"
        if cases:
            told += f", with cases {', '.join(cases)}"
        if known:
            raise NumericError(
                f"{told}, and a lower learning rate didn't help; lower optimizer.learning_rate or check the images: "
                f"{self.path} names their cases"
            )
        back = good or "the beginning"
        self.console.print(f"{told}; goes back to {back} with {LOWERED:g} of the learning rate", style="bold red")

    def _batches(self, found: NonFinite) -> list[int]:
        first = found.step * self.config.optimizer.accumulate
        return list(range(first, first + self.config.optimizer.accumulate))
