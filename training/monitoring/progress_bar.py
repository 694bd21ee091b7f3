"""What a person sees while a run goes on: one bar over all its steps, or a line a validation where there is no terminal."""

from typing import Any

import pytorch_lightning as lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunProgress(lightning.Callback):
    """Steps done, loss, Dice of patches, score of whole validation images, time gone and time left.

    Args:
        console: where to.
        name: the run's.
        max_steps: the run's.
        score: what the validation's number is called.
    """

    def __init__(self, console: Console, name: str, max_steps: int, score: str) -> None:
        self.console = console
        self.name = name
        self.max_steps = max_steps
        self.shown = (("loss", "loss"), ("Dice", "patch_dice"), (f"val {'Dice' if score == 'dice' else score}", score))
        self.progress = Progress(
            BarColumn(bar_width=8),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Shows the bar, at the step where the run goes on."""
        self.task = self.progress.add_task("", total=self.max_steps, completed=trainer.global_step, numbers="")
        self.progress.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=trainer.global_step, numbers=self._numbers(trainer))

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Leaves a line a validation where no bar can be drawn."""
        if not self.console.is_terminal:
            self.console.print(f"{self.name}: step {trainer.global_step} of {self.max_steps}, {self._numbers(trainer)}")

    def on_exception(self, *_: Any) -> None:
        """Takes the bar down before anything is said about the error."""
        self.progress.stop()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Takes the bar down."""
        self.progress.stop()

    def _numbers(self, trainer: lightning.Trainer) -> str:
        metrics = trainer.callback_metrics
        return ", ".join(f"{label} {float(metrics[key]):.3f}" for label, key in self.shown if key in metrics)
