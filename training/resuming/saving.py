"""When a run validates, saves its state, stops; and the best network, kept as it was validated."""

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
from training.distributed import largest
from training.errors import Stopped
from training.resuming.checkpoint import OURS, Checkpoints, State
from training.resuming.recovery import NonFinite, is_finite
from training.resuming.stopping import Signals

NEVER = 2**62  # batches
MARGIN_S = 4.0  # to write the page and the bundle, and for the process to start and end;
MARGIN_SHARE = 0.01  # of the minutes besides, since what is written grows with them
LONGER = 1.2  # a validation may take so many times what the longest took
MEASURE_BY = 0.2  # of the minutes: then validates once in any case, to know how long it takes


class Pace(Checkpoint):
    """Validates after every `validate_every_steps` and at the end, and saves before that, now and then, and on signals.

    A state is saved between two optimizer steps, when nothing is under way: before a validation, not after it. A run that
    goes on from there validates again, and comes to the same. To Lightning a run is one epoch whose end never comes; what it
    notes about its loops is put into the one form that it goes on from exactly.

    With `max_minutes` it ends when there is just time for a last validation and for the bundle.

    Args:
        config: the run's.
        stream: where the batches come from; begins where the run goes on.
        clock: the run's.
        signals: the process's.
    """

    def __init__(self, config: Config, stream: PatchStream, clock: Clock, signals: Signals) -> None:
        self.section = config.trainer
        self.accumulate = config.optimizer.accumulate
        self.stream = stream
        self.clock = clock
        self.signals = signals
        self.validation_is_due = False
        self.validation_s: float | None = None  # of the longest
        self.step_s = 0.0
        self._saved = self._stepped = time.monotonic()
        self._began_validation = 0.0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """From here on signals wait for the end of a step; Lightning's own handlers would end the process with code 0."""
        self.signals.install()
        self.signals.at_once = False
        self._saved = self._stepped = time.monotonic()
        self._set_validation(trainer)
        self._set_ending()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """After each step: what is to be done before the next."""
        if (trainer.fit_loop.total_batch_idx + 1) % self.accumulate:
            return
        now = time.monotonic()
        self.step_s, self._stepped = now - self._stepped, now
        is_late = now - self._saved >= self.section.checkpoint_minutes * 60
        due, stop, save = largest(trainer, self._is_due(trainer.global_step), self.signals.received or 0, is_late)
        self.validation_is_due = bool(due)
        self._set_validation(trainer)
        if due or stop or save:
            self._save(trainer)
        if stop:
            raise Stopped(int(stop))

    def on_validation_start(self, *_: Any) -> None:
        """A validation can be given up at any moment: the state from just before it is on the disk."""
        self._began_validation = time.monotonic()
        self.signals.at_once = True
        self.signals.stop_if_received()

    def on_validation_batch_start(self, *_: Any, **__: Any) -> None:
        """Once more, in case that a library swallowed it."""
        self.signals.stop_if_received()

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Trains on, or ends."""
        self.signals.at_once = False
        self.validation_s = max(self.validation_s or 0.0, time.monotonic() - self._began_validation)
        self.validation_is_due = False
        self._set_validation(trainer)
        self._set_ending()
        if any(largest(trainer, trainer.global_step >= self.section.max_steps or self._time_is_over())):
            trainer.should_stop = True
        self._stepped = time.monotonic()

    def on_save_checkpoint(self, trainer: lightning.Trainer, _: lightning.LightningModule, checkpoint: State) -> None:
        """Adds what is needed to go on, and puts Lightning's notes into the form of a batch that has just ended.

        Lightning trains on from there; where a validation is due, a case that was begun and not ended makes it validate first.
        """
        checkpoint[OURS] = {
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
            begun = int(self.validation_is_due)
            loops["epoch_loop.val_loop.batch_progress"][counts].update(ready=begun, started=begun, processed=0, completed=0)

    def on_load_checkpoint(self, trainer: lightning.Trainer, _: lightning.LightningModule, checkpoint: State) -> None:
        """Goes on from there.

        Raises:
            ConfigError: more or fewer processes trained before, which shared each batch otherwise.
        """
        ours = checkpoint[OURS]
        if (before := ours.get("processes", 1)) != trainer.world_size:
            raise ConfigError(
                f"{before} processes trained this run, and now there are {trainer.world_size}; start as many as before, or "
                "choose another run.name"
            )
        self.stream.start = ours["batches"]
        self.validation_is_due = ours["validation_is_due"]
        self.validation_s = ours["validation_s"]

    def _save(self, trainer: lightning.Trainer) -> None:
        network = cast(nn.Module, trainer.lightning_module.network)
        if not is_finite(network.state_dict().values()):
            raise NonFinite(trainer.global_step)
        io = cast(Checkpoints, trainer.strategy.checkpoint_io)
        trainer.save_checkpoint(io.folder / f"step-{trainer.global_step:08d}.ckpt", weights_only=False)
        self._saved = time.monotonic()

    def _set_validation(self, trainer: lightning.Trainer) -> None:
        """Lightning validates when a batch's number is a multiple of this."""
        trainer.val_check_batch = 1 if self.validation_is_due else NEVER

    def _is_due(self, step: int) -> bool:
        if step % self.section.validate_every_steps == 0 or step >= self.section.max_steps or self._time_is_over():
            return True
        return self.validation_s is None and self.clock.seconds >= MEASURE_BY * (self.clock.max_seconds or math.inf)

    def _set_ending(self) -> None:
        """Tells the clock how long a last validation and the bundle take."""
        margin_s = MARGIN_S + MARGIN_SHARE * (self.clock.max_seconds or 0.0)
        self.clock.ending_s = LONGER * (self.validation_s or 0.0) + margin_s

    def _time_is_over(self) -> bool:
        """Whether one more step wouldn't fit any more."""
        return self.clock.left_s <= self.step_s


class Best(lightning.Callback):
    """Keeps the network of the best validation as `best.safetensors`; the file itself says how good it was.

    Args:
        path: the file.
        score: what the number is called that it goes by.
    """

    def __init__(self, path: Path, score: str) -> None:
        self.path = path
        self.score = score

    def on_validation_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Writes the network if it is better than the one in the file; the first one in any case."""
        value = float(trainer.callback_metrics.get(self.score, math.nan))
        state = cast(nn.Module, module.network).state_dict()
        if not is_finite(state.values()):
            raise NonFinite(trainer.global_step)
        if not trainer.is_global_zero or (self.path.exists() and not _is_better(value, best_score(self.path))):
            return
        weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        facts = {"score": repr(value), "name": self.score, "step": str(trainer.global_step)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        publish(self.path, lambda part: save_file(weights, part, facts))


def best_score(path: Path) -> float:
    """Of the network in the file; NaN where no validation case said anything."""
    with safe_open(path, "pt") as file:
        return float(file.metadata()["score"])


def _is_better(value: float, before: float) -> bool:
    """Any number is better than none."""
    return value > before or (math.isnan(before) and not math.isnan(value))


class Reseed(lightning.Callback):
    """Makes what a batch draws, dropout for example, depend on the seed and on the batch's number alone.

    So no generator's state has to be kept, and nothing that draws between two batches plays a part.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Seeds torch's generators on every device, NumPy's and Python's."""
        batch = trainer.fit_loop.total_batch_idx * trainer.world_size + trainer.global_rank
        lightning.seed_everything(mixed(self.seed, batch), verbose=False)


def mixed(seed: int, batch: int) -> int:
    """A seed of 32 bits out of two numbers."""
    return int(np.random.SeedSequence((seed, batch)).generate_state(1)[0])  # torch's generator takes 32 bits of a seed alone
