"""The Lightning callback that monitors a run: history, pictures and page, without changing or ending the run."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytorch_lightning as lightning
from rich.console import Console

from configs.schema import Config
from imaging.errors import DataError
from inference.predictors.predictor import Predictor
from inference.tiling.stitch import Band
from models.bundle import CONFIG
from training.data.patch_dataset import TrainingPatch
from training.data.splitting import Splits
from training.errors import Stopped
from training.module import SegmentationModule
from training.monitoring.curves import best_of
from training.monitoring.history import Entry, MonitoringFolder
from training.monitoring.page import PageWriter, RunFacts
from training.monitoring.picture_recorder import PictureRecorder
from training.monitoring.step_recorder import StepRecorder, is_training_metric
from training.monitoring.tensorboard_log import RunLogger

MONITORING_ERRORS = (OSError, DataError, ValueError, RuntimeError, MemoryError)  # such as a full disk or a deleted file


def time_limit_message(trainer: lightning.Trainer, config: Config) -> str:
    """Say what a run reached that its time limit ended, and how to train on; empty for a run that ended otherwise."""
    section, step, stopping = config.trainer, trainer.global_step, trainer.early_stopping_callback
    is_out_of_patience = stopping is not None and stopping.wait_count >= section.patience
    if section.max_minutes is None or step >= section.max_steps or is_out_of_patience:
        return ""
    run = config.run.folder / config.run.name
    overrides = (
        f"run.name={config.run.name}_2",
        f"warm_start.weights={run}",
        "warm_start.part=all",
        f"trainer.max_minutes={2 * section.max_minutes:g}",
    )
    return (
        f"trainer.max_minutes={section.max_minutes:g} ended the run after {step} of at most {section.max_steps} steps; the "
        f"bundle is the best network so far. To train on from it: overtile train {shlex.join([str(run / CONFIG), *overrides])}"
    )


class RunMonitor(lightning.Callback):
    """Keeps the history of a run in its folder `watch`, sends it to TensorBoard, and writes the page `report.html`.

    A run has the same weights with and without it: it draws from no generator and changes no mode and no weight. Its errors
    become warnings, one of each kind. Of several processes only the first monitors.

    Args:
        facts: what the page shows besides history and pictures.
        folder: the run's.
        splits: the run's cases.
        predictor: its network is the one that is trained.
        console: takes the warnings.
    """

    def __init__(self, facts: RunFacts, folder: Path, splits: Splits, predictor: Predictor, console: Console) -> None:
        trainer = facts.config.trainer
        self.score, self.max_steps = facts.score, trainer.max_steps
        self.console = console
        self.files = MonitoringFolder(folder / "watch")
        self.steps = StepRecorder(trainer.validate_every_steps, predictor.device)
        self.pictures = PictureRecorder(self.files, facts.config, splits, predictor)
        self.page = PageWriter(facts, folder, self.files)
        self._warnings: set[str] = set()  # already printed
        self._time_limit = ""  # the message of a finished run that it ended

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Read what earlier sessions recorded, and draw the tracked cases."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        with self._errors_as_warnings("no record of earlier sessions"):
            self.files.open(step)
        self.steps.start(step, self.files.entries[-1]["seconds"] if self.files.entries else 0.0)
        if step and isinstance(trainer.logger, RunLogger):
            trainer.logger.purge_from(step)
        with self._errors_as_warnings("no pictures of validation cases"):
            self.pictures.draw_tracked_cases(trainer.world_size)
            cast(SegmentationModule, module).band_listeners.append(self._add_band)
        if step == 0:
            with self._errors_as_warnings("no picture of the first filters"):
                self.pictures.draw_first_filters()
        else:
            with self._errors_as_warnings("no new report.html"):
                self.page.write("training")

    def on_train_batch_start(self, trainer: lightning.Trainer, _: object, batch: TrainingPatch, __: int) -> None:
        """Draw the first batch of the run."""
        if trainer.is_global_zero and "batch" not in self.files.captions:
            self.files.captions["batch"] = []  # so that a failure is not repeated with every batch
            with self._errors_as_warnings("no pictures of the first batch"):
                self.pictures.draw_batch(batch)

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: object) -> None:
        """Measure the gradient before a step that is recorded."""
        if trainer.is_global_zero:
            self.steps.measure_gradient(trainer.global_step, module)

    def on_train_batch_end(self, trainer: lightning.Trainer, _: object, __: object, batch: TrainingPatch, *___: object) -> None:
        """Add the batch's metrics, and append an entry to the history every few steps."""
        if not trainer.is_global_zero:
            return
        self.steps.add(trainer, len(batch.image) * trainer.world_size)
        if (entry := self.steps.entry(trainer)) is not None:
            self._append(entry)

    def on_validation_end(self, trainer: lightning.Trainer, _: object) -> None:
        """Record the scores, draw masks, filters and features, and write the page unless the last one is too recent."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        step = trainer.global_step
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if not is_training_metric(name)}
        self._append({**self.steps.stamp(step), "scores": scores})
        with self._errors_as_warnings("no pictures of this validation"):
            best = best_of(self.files.entries, self.score)
            self.pictures.draw_validation(step, best[0] if best else None, trainer.logger)
        ends = trainer.should_stop or step >= self.max_steps  # then on_train_end writes the page
        if not ends and self.page.is_due():
            with self._errors_as_warnings("no new report.html"):
                self.page.write("training")
        self.steps.skip_time()

    def on_train_end(self, trainer: lightning.Trainer, _: object) -> None:
        """Write the page of a finished run."""
        if trainer.is_global_zero:
            self._time_limit = time_limit_message(trainer, self.page.facts.config)
            self.write_finished()

    def write_finished(self) -> None:
        """Write the page of a finished run, with the calibration if there is a bundle by now."""
        with self._errors_as_warnings("no new report.html"):
            self.page.write("time_limit" if self._time_limit else "finished", self._time_limit)

    def on_exception(self, trainer: lightning.Trainer, _: object, exception: BaseException) -> None:
        """Write the page of a run that stops early, with the reason."""
        if not trainer.is_global_zero:
            return
        reason = str(exception) or type(exception).__name__
        if isinstance(exception, Stopped | KeyboardInterrupt):
            reason = "a signal stopped it; run the same command to resume from the last checkpoint"
        with self._errors_as_warnings("no new report.html"):
            self.page.write("stopped", reason)

    def _append(self, entry: Entry) -> None:
        with self._errors_as_warnings("the run's history is not written"):
            self.files.append(entry)

    def _add_band(self, name: str, band: Band) -> None:
        with self._errors_as_warnings("no masks of validation cases"):
            self.pictures.add_band(name, band)

    @contextmanager
    def _errors_as_warnings(self, consequence: str) -> Iterator[None]:
        """Print an error as a warning that names its consequence, each consequence once."""
        try:
            yield
        except MONITORING_ERRORS as error:
            if consequence not in self._warnings:
                self._warnings.add(consequence)
                self.console.print(f"warning: {consequence}: {error}; training continues", style="yellow")
