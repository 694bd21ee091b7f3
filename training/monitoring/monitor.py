"""Looks on while a run trains: curves, pictures and the page; never changes the run, and never ends it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as lightning
import torch
from rich.console import Console
from torch import Tensor

from disk.process import peak_resident_bytes, resident_bytes
from evaluation.comparison.panels import enlarge, region_with_most_foreground
from evaluation.rendering import to_png
from imaging.errors import DataError
from inference.predictors.predictor import Predictor
from inference.tiling.grid import read_mirrored
from inference.tiling.stitch import Band
from training.data.open_cases import open_case
from training.data.splitting import Splits
from training.data.training_patch import TrainingPatch
from training.errors import Stopped
from training.module import SegmentationModule
from training.monitoring.curves import best_of
from training.monitoring.history import Entry, WatchFolder, mask_name
from training.monitoring.page import RunFacts, State, write_report
from training.monitoring.tensor_pictures import activations, entering, filter_picture, weight_picture
from training.monitoring.tensorboard_log import RunLogger
from training.monitoring.tracked_cases import WatchedCase, film, pale, sheet, watched_cases

HARMLESS = (OSError, DataError, ValueError, RuntimeError, MemoryError)  # of looking on: a full disk, a file that is gone
MOST_PATCHES = 8  # of the first batch
ENTRIES = 10  # of the history between two validations
PAGE_SHARE = 0.05  # of a run's time, at most, that goes into its page


class Watch(lightning.Callback):
    """Keeps the history of a run in `watch` of its folder, sends it to TensorBoard, and writes the page.

    No generator is drawn from, no mode and no weight is changed: a run has equal weights with it and without it. What goes
    wrong here is said once and otherwise ignored.

    Args:
        facts: what the page says besides.
        folder: the run's.
        splits: the run's cases.
        predictor: whose network is trained.
        console: takes warnings.
    """

    def __init__(self, facts: RunFacts, folder: Path, splits: Splits, predictor: Predictor, console: Console) -> None:
        self.facts, self.folder, self.splits, self.predictor, self.console = facts, folder, splits, predictor, console
        self.kept = WatchFolder(folder / "watch")
        self.colours = [section.colour for section in facts.config.data.classes]
        self.every = max(1, facts.config.trainer.validate_every_steps // ENTRIES)
        self.cases: dict[str, WatchedCase] = {}
        self.probe: Tensor | None = None  # (1, C, *patch), what the levels are asked about
        self.gradient_norm: Tensor | None = None
        self.told: set[str] = set()
        self.began = self.page_done = time.monotonic()
        self.before_s = self.page_s = 0.0
        self.recorded = -1  # the last step in the history
        self._forget_sums()

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Takes up what earlier sittings left."""
        if not trainer.is_global_zero:
            return
        self.began = self.mark = time.monotonic()
        self.recorded = step = trainer.global_step
        with self._harmless("no record of earlier sittings"):
            self.kept.begin(step)
        self.before_s = self.kept.entries[-1]["seconds"] if self.kept.entries else 0.0
        if step and isinstance(trainer.logger, RunLogger):
            trainer.logger.forget_from(step)
        with self._harmless("no pictures of validation cases"):
            self._begin_cases(trainer.world_size)
            cast(SegmentationModule, module).band_listeners.append(self._take)
        if step == 0:
            with self._harmless("no picture of the first filters"):
                self.kept.add_picture("filters_start.png", to_png(filter_picture(self.predictor.network)))
        else:
            self.write_page("training")

    def on_train_batch_start(self, trainer: lightning.Trainer, _: object, batch: TrainingPatch, __: int) -> None:
        """Draws the very first batch."""
        if trainer.is_global_zero and "batch" not in self.kept.captions:
            self.kept.captions["batch"] = []  # not again, whatever comes of it
            with self._harmless("no pictures of the first batch"):
                self._draw_batch(batch)

    def on_before_optimizer_step(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: object) -> None:
        """Measures the gradient before a step that is recorded."""
        if trainer.is_global_zero and (trainer.global_step + 1) % self.every == 0:
            gradients = [weights.grad for weights in module.parameters() if weights.grad is not None]
            self.gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(self, trainer: lightning.Trainer, _: object, __: object, batch: TrainingPatch, *___: object) -> None:
        """Adds up, and records every few steps."""
        if not trainer.is_global_zero:
            return
        for name, value in trainer.callback_metrics.items():
            if _of_training(name):
                self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.batches += 1
        self.patches += len(batch.image) * trainer.world_size
        self.busy_s += time.monotonic() - self.mark
        self.mark = time.monotonic()
        if trainer.global_step % self.every == 0 and trainer.global_step > self.recorded:
            self.recorded = trainer.global_step
            self._record(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, _: object) -> None:
        """Keeps scores, masks, filters and features, and writes the page where it isn't too soon."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items() if not _of_training(name)}
        self._add({**self._now(trainer.global_step), "scores": scores})
        with self._harmless("no pictures of this validation"):
            self._draw_validation(trainer)
        over = trainer.should_stop or trainer.global_step >= self.facts.config.trainer.max_steps  # then on_train_end writes it
        if not over and time.monotonic() - self.page_done >= self.page_s / PAGE_SHARE:
            self.write_page("training")
        self.mark = time.monotonic()

    def on_train_end(self, trainer: lightning.Trainer, _: object) -> None:
        """The last page."""
        if trainer.is_global_zero:
            self.write_page("finished")

    def on_exception(self, trainer: lightning.Trainer, _: object, exception: BaseException) -> None:
        """The last page of a run that didn't come to its end."""
        if trainer.is_global_zero:
            self.write_page("stopped", _why(exception))

    def write_page(self, state: State, remark: str = "") -> None:
        """Writes `report.html` as things stand."""
        began = time.monotonic()
        with self._harmless("no new report.html"):
            write_report(self.facts, self.folder, self.kept.entries, state, remark)
        self.page_done = time.monotonic()
        self.page_s = self.page_done - began

    @contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """Turns trouble into a line, one for each kind."""
        try:
            yield
        except HARMLESS as error:
            if what not in self.told:
                self.told.add(what)
                self.console.print(f"warning: {what}: {error}; training goes on", style="yellow")

    def _now(self, step: int) -> Entry:
        return {"step": step, "seconds": round(self.before_s + time.monotonic() - self.began, 3)}

    def _add(self, entry: Entry) -> None:
        with self._harmless("the run's history isn't kept"):
            self.kept.add(entry)

    def _forget_sums(self) -> None:
        """Begins to add up anew."""
        self.sums: dict[str, Tensor | int] = {}
        self.batches = self.patches = 0
        self.busy_s, self.mark = 0.0, time.monotonic()
        self.gradient_norm = None

    def _record(self, trainer: lightning.Trainer) -> None:
        """What training was like since the last time."""
        means = {name: float(value) / self.batches for name, value in self.sums.items()}
        state = _rates(trainer) | self._memory() | {"patches_per_s": self.patches / max(self.busy_s, 1e-9)}
        if self.gradient_norm is not None:
            state["gradient_norm"] = float(self.gradient_norm)
        self._add(self._now(trainer.global_step) | means | state)
        if trainer.logger is not None:
            trainer.logger.log_metrics({f"run/{name}": value for name, value in state.items()}, trainer.global_step)
        self._forget_sums()

    def _memory(self) -> dict[str, float]:
        found: dict[str, float] = {"memory_bytes": resident_bytes(), "peak_bytes": peak_resident_bytes()}
        if self.predictor.device.type == "cuda":
            found["device_bytes"] = torch.cuda.max_memory_allocated(self.predictor.device)
        return found

    def _begin_cases(self, processes: int) -> None:
        """Draws the watched cases; of several processes the first one validates every so-manieth."""
        watched = watched_cases(self.splits.val[::processes], self.facts.config, self.predictor.head)
        self.cases = {case.name: case for case in watched}
        for number, case in enumerate(watched):
            drawn = (
                ("image", enlarge(case.picture, case.aspect)),
                ("pale", pale(case)),
                ("reference", film(case, case.reference, self.colours)),
            )
            for what, picture in drawn:
                self.kept.add_picture(f"case{number}_{what}.png", to_png(picture))
        self.kept.caption("cases", [(case.name, case.where) for case in watched])
        self.probe = self._probe()

    def _probe(self) -> Tensor:
        """A patch of the first validation case, about the middle of its plane with the most foreground."""
        config = self.facts.config
        labelled = open_case(self.splits.val[0], config)
        with labelled.image as image, labelled.reference as reference:
            middles = [(axis.start + axis.stop) // 2 for axis in region_with_most_foreground(reference)]
            starts = [middle - size // 2 for middle, size in zip(middles, config.patch_size, strict=True)]
            region = tuple(slice(start, start + size) for start, size in zip(starts, config.patch_size, strict=True))
            patch = labelled.statistics.normalise(read_mirrored(image, region))
        return torch.from_numpy(patch)[None]

    def _take(self, name: str, band: Band) -> None:
        """What validation made of some rows of a case."""
        if name in self.cases:
            with self._harmless("no masks of validation cases"):
                self.cases[name].take(band, self.predictor.head)

    def _draw_batch(self, batch: TrainingPatch) -> None:
        words = []
        for number in range(min(MOST_PATCHES, len(batch.image))):
            image, reference, weights = (
                part[number].detach().cpu().numpy() for part in (batch.image, batch.reference, batch.weights)
            )
            self.kept.add_picture(f"batch{number}.png", to_png(entering(image, reference, self.colours)))
            if weights.ndim > 1:  # a window has one weight, which is said
                self.kept.add_picture(f"batch{number}_weights.png", to_png(weight_picture(weights)))
            words.append(self._patch_words(int(batch.case[number]), reference, weights))
        self.kept.caption("batch", words)

    def _patch_words(self, case: int, reference: "np.ndarray[Any, Any]", weights: "np.ndarray[Any, Any]") -> str:
        classes = self.facts.config.data.classes
        label = f": {classes[int(reference)].name}" if reference.ndim == 0 and int(reference) < len(classes) else ""
        weight = f", weight {weights.item():.2g} more" if weights.size == 1 else ""
        return f"{self.splits.train[case].name}{label}{weight}"

    def _draw_validation(self, trainer: lightning.Trainer) -> None:
        step, network = trainer.global_step, self.predictor.network
        for number, case in enumerate(self.cases.values()):
            self.kept.add_picture(mask_name(number, step), to_png(film(case, case.answer, self.colours)))
        best = best_of(self.kept.entries, self.facts.score)
        self.kept.thin(best[0] if best else None)
        self.kept.add_picture("filters.png", to_png(filter_picture(network)))
        if self.probe is not None:
            self._draw_levels(self.probe)
        if isinstance(trainer.logger, RunLogger):
            trainer.logger.add_picture("run/filters", filter_picture(network), step)
            if self.cases:
                trainer.logger.add_picture("run/image, reference, mask", sheet([*self.cases.values()], self.colours), step)

    def _draw_levels(self, probe: Tensor) -> None:
        words = []
        for number, (name, shape, picture) in enumerate(activations(self.predictor.network, probe.to(self.predictor.device))):
            self.kept.add_picture(f"level{number}.png", to_png(picture))
            words.append((name, shape))
        self.kept.caption("levels", words)


def _why(exception: BaseException) -> str:
    """What the page says of it."""
    if isinstance(exception, Stopped | KeyboardInterrupt):
        return "it was told to; the same command goes on from the last checkpoint"
    return str(exception) or type(exception).__name__


def _of_training(name: str) -> bool:
    """Whether a metric is one of patches, and not of validation."""
    return name == "loss" or name.startswith("patch_")


def _rates(trainer: lightning.Trainer) -> dict[str, float]:
    """The learning rate of each group of weights, by its name where it has one."""
    groups: Sequence[dict[str, Any]] = trainer.optimizers[0].param_groups
    if len(groups) == 1:
        return {"learning_rate": float(groups[0]["lr"])}
    return {f"learning_rate {group.get('name', number)}": float(group["lr"]) for number, group in enumerate(groups)}
