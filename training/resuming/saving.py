"""Callbacks that decide when a run validates, saves a checkpoint and ends, and that keep the network of the best validation."""

import math
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Checkpoint
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from configs.schema import Config, ConfigError
from disk.publish import publish
from training.clock import Clock
from training.data.stream import PatchStream
from training.distributed import reduce_max
from training.errors import Stopped
from training.resuming.checkpoint import STATE_KEY, Checkpoints, CheckpointState
from training.resuming.recovery import NonFiniteError, is_finite
from training.resuming.stopping import StopSignals

NEVER = 2**62  # batches
MARGIN_S = 4.0  # for the page, the bundle, and the start and end of the process;
MARGIN_SHARE = 0.01  # of the minutes is added, since page and bundle grow with them
VALIDATION_RESERVE = 1.2  # times the longest validation so far is reserved for the last one
FIRST_VALIDATION_SHARE = 0.2  # of the minutes: by then a first validation measures how long it takes


class RunScheduler(Checkpoint):
    """Validates every `validate_every_steps` and at the end, and saves a checkpoint before that, periodically, and on signals.

    A checkpoint is written between two optimizer steps, and before a validation, not after it: a run that resumes there
    repeats the validation with the same result. For Lightning a run is a single epoch that never ends; the state of its loops
    is rewritten in a checkpoint so that it resumes at exactly the next batch.

    With `max_minutes` the run ends when the remaining time just suffices for a last validation, the calibration and the bundle.

    Args:
        config: the run's.
        stream: yields the batches; its `start` is set when a run resumes.
        clock: the run's.
        signals: those that stop this process.
        later_validations: the time that calibration and scoring take after the run, in validations.
    """

    def __init__(
        self, config: Config, stream: PatchStream, clock: Clock, signals: StopSignals, *, later_validations: float = 0.0
    ) -> None:
        self.section = config.trainer
        self.later_validations = later_validations
        self.accumulate = config.optimizer.accumulate
        self.stream = stream
        self.clock = clock
        self.signals = signals
        self.validation_is_due = False
        self.validation_s: float | None = None  # of the longest validation
        self.step_s = 0.0
        self._last_save = self._last_step = time.monotonic()
        self._validation_start = 0.0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Have signals wait for the end of a step; Lightning's own handlers would end the process with code 0."""
        self.signals.install()
        self.signals.stop_immediately = False
        self._last_save = self._last_step = time.monotonic()
        self._set_validation(trainer)
        self._reserve_time()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Validate, save or stop after an optimizer step: in all processes, if it is time in one of them."""
        if (trainer.fit_loop.total_batch_idx + 1) % self.accumulate:
            return
        now = time.monotonic()
        self.step_s, self._last_step = now - self._last_step, now
        is_late = now - self._last_save >= self.section.checkpoint_minutes * 60
        step, section = trainer.global_step, self.section
        first_at_s = FIRST_VALIDATION_SHARE * (self.clock.max_seconds or math.inf)
        is_first_due = self.validation_s is None and self.clock.seconds >= first_at_s
        is_last_due = step >= section.max_steps or self._time_is_over()
        is_due = step % section.validate_every_steps == 0 or is_last_due or is_first_due
        due, stop, save = reduce_max(trainer, is_due, self.signals.received or 0, is_late)
        self.validation_is_due = bool(due)
        self._set_validation(trainer)
        if due or stop or save:
            if not is_finite(cast(nn.Module, trainer.lightning_module.network).state_dict().values()):
                raise NonFiniteError(trainer.global_step)
            io = cast(Checkpoints, trainer.strategy.checkpoint_io)
            trainer.save_checkpoint(io.folder / f"step-{trainer.global_step:08d}.ckpt", weights_only=False)
            self._last_save = time.monotonic()
        if stop:
            raise Stopped(int(stop))

    def on_validation_start(self, *_: Any) -> None:
        """Let signals interrupt the validation, since a checkpoint was written just before it."""
        self._validation_start = time.monotonic()
        self.signals.stop_immediately = True
        self.signals.stop_if_received()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Stop if a library suppressed the exception that the signal raised."""
        self.signals.stop_if_received()

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """End the run if its steps or its time are over."""
        self.signals.stop_immediately = False
        self.validation_s = max(self.validation_s or 0.0, time.monotonic() - self._validation_start)
        self.validation_is_due = False
        self._set_validation(trainer)
        self._reserve_time()
        if any(reduce_max(trainer, trainer.global_step >= self.section.max_steps or self._time_is_over())):
            trainer.should_stop = True
        self._last_step = time.monotonic()

    def on_save_checkpoint(self, trainer: lightning.Trainer, _: lightning.LightningModule, checkpoint: CheckpointState) -> None:
        """Add this callback's state, and rewrite that of Lightning's loops as if a batch had just ended.

        Lightning then resumes with the next batch; if a validation is due, a validation batch that started and did not end
        makes it validate first.
        """
        checkpoint[STATE_KEY] = {
            "batches": trainer.fit_loop.total_batch_idx + 1,
            "validation_is_due": self.validation_is_due,
            "validation_s": self.validation_s,
            "clock": self.clock.state_dict(),
            "processes": trainer.world_size,
        }
        loops = checkpoint["loops"]["fit_loop"]
        for counts in ("total", "current"):
            batches = loops["epoch_loop.batch_progress"][counts]
            batches["completed"] = batches["processed"] - 1
            started = int(self.validation_is_due)
            loops["epoch_loop.val_loop.batch_progress"][counts].update(ready=started, started=started, processed=0, completed=0)

    def on_load_checkpoint(self, trainer: lightning.Trainer, _: lightning.LightningModule, checkpoint: CheckpointState) -> None:
        """Restore this callback's state.

        Raises:
            ConfigError: the number of processes changed, and with it the batch.
        """
        state = checkpoint[STATE_KEY]
        if (processes := state.get("processes", 1)) != trainer.world_size:
            raise ConfigError(
                f"this run was trained by {processes} processes, and now there are {trainer.world_size}; start {processes}, or "
                "choose another run.name"
            )
        self.stream.start = state["batches"]
        self.validation_is_due = state["validation_is_due"]
        self.validation_s = state["validation_s"]

    def _set_validation(self, trainer: lightning.Trainer) -> None:
        """Have Lightning validate after this batch or never: it does so when a batch's number is a multiple of this value."""
        trainer.val_check_batch = 1 if self.validation_is_due else NEVER

    def _reserve_time(self) -> None:
        """Reserve time for a last validation, the calibration and the bundle."""
        margin_s = MARGIN_S + MARGIN_SHARE * (self.clock.max_seconds or 0.0)
        validations = VALIDATION_RESERVE * (1 + self.later_validations)
        self.clock.reserved_s = validations * (self.validation_s or 0.0) + margin_s

    def _time_is_over(self) -> bool:
        """Return whether the remaining time is too short for another step."""
        return self.clock.remaining_s <= self.step_s


class SaveBest(lightning.Callback):
    """Keeps the network of the best validation as `best.safetensors`, with its score in the file's metadata.

    Args:
        path: the file.
        score: the name of the score.
    """

    def __init__(self, path: Path, score: str) -> None:
        self.path = path
        self.score = score

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the network if its score is higher than that in the file, or if there is no file."""
        value = float(trainer.callback_metrics.get(self.score, math.nan))
        state = cast(nn.Module, module.network).state_dict()
        if not is_finite(state.values()):
            raise NonFiniteError(trainer.global_step)
        if not trainer.is_global_zero:
            return
        if self.path.exists():
            best = best_score(self.path)
            if not (value > best or (math.isnan(best) and not math.isnan(value))):  # any number is higher than NaN
                return
        weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        facts = {"score": repr(value), "name": self.score, "step": str(trainer.global_step)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        publish(self.path, lambda part: save_file(weights, part, facts))


def best_score(path: Path) -> float:
    """Return the score of the network in the file; NaN if no validation case had a finite score."""
    with safe_open(path, "pt") as file:
        return float(file.metadata()["score"])


class Reseed(lightning.Callback):
    """Seeds all generators before each batch, so that dropout depends on the run's seed and the batch's number alone.

    A checkpoint then needs no generator state, and draws between two batches have no effect.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Seed torch's generators on every device, NumPy's and Python's."""
        batch = trainer.fit_loop.total_batch_idx * trainer.world_size + trainer.global_rank
        lightning.seed_everything(mix_seed(self.seed, batch), verbose=False)


def mix_seed(seed: int, number: int) -> int:
    """Combine two numbers into a seed of 32 bits, of which torch's generator uses no more."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
