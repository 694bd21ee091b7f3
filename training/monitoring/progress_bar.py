"""Progress of a run in the terminal: a bar over its steps, or a line for each validation where output goes to a file."""

from typing import Any

import pytorch_lightning as lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgressBar(lightning.Callback):
    """Shows completed steps, loss, Dice of patches, validation score and remaining time.

    Args:
        console: takes the bar or the lines.
        name: the run's.
        max_steps: the run's.
        score: the name of the validation score.
    """

    def __init__(self, console: Console, name: str, max_steps: int, score: str) -> None:
        self.console = console
        self.name = name
        self.max_steps = max_steps
        self.metrics = (("loss", "loss"), ("Dice", "patch_dice"), (f"val {'Dice' if score == 'dice' else score}", score))
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
        """Show the bar, at the step at which the session starts."""
        self.task = self.progress.add_task("", total=self.max_steps, completed=trainer.global_step, numbers="")
        self.progress.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Advance the bar."""
        self.progress.update(self.task, completed=trainer.global_step, numbers=self._numbers(trainer))

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Print a line if the console is no terminal."""
        if not self.console.is_terminal:
            self.console.print(f"{self.name}: step {trainer.global_step} of {self.max_steps}, {self._numbers(trainer)}")

    def on_exception(self, *_: Any) -> None:
        """Remove the bar before the error is printed."""
        self.progress.stop()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Remove the bar."""
        self.progress.stop()

    def _numbers(self, trainer: lightning.Trainer) -> str:
        metrics = trainer.callback_metrics
        return ", ".join(f"{label} {float(metrics[key]):.3f}" for label, key in self.metrics if key in metrics)
