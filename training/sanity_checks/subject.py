"""What a recipe's checks look at: a run's own data and parts, and short trainings on them, all on the same batches."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from configs.schema import Config
from configs.sections import WarmStartSection
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor, best_device
from models.architectures import Network, build
from training.data.examination import Examined, examine, make_sampler
from training.data.open_cases import Statistics
from training.data.patch_dataset import PatchDataset
from training.data.sampling import PatchSampler
from training.data.splitting import Splits
from training.data.stream import BatchDraws
from training.data.training_patch import TrainingPatch
from training.errors import NumericError
from training.objective.losses import Loss, make_loss
from training.optimization.optimizers import make_optimizer
from training.optimization.schedule import rate_factor
from training.sanity_checks.image_parts import MOST_PX, CaseCrop, as_seen, case_crops
from training.sanity_checks.result import OutOfTime

STEPS = 100  # of a short training
POOL_BYTES = 256 * 2**20  # of the batches that short trainings go round in
POOL_BATCHES = (4, 12)  # least and most
PROBE_BATCHES = 8  # of validation patches, whose losses are compared in pairs
VIEWS = 3  # validation cases that are segmented

Losses = NDArray[np.float64]
OnStep = Callable[[int, Network], bool]  # after so many steps; True ends the training


@dataclass
class ShortRun:
    """A short training: the loss before each step, and the network after the last one."""

    network: Network
    losses: list[float] = field(default_factory=list)


@dataclass
class Subject:
    """What is checked.

    What a short training changes lies in the run's own hands: optimizer, rate and loss are the config's, the rate's schedule
    goes over the short training's steps, and the weights begin anew, without a warm start.

    Args:
        config: the run's.
        written: the run's table of splits, or a path in a folder that goes away; the checks leave nothing in the run's folder.
        build: makes networks; tests put faulty ones in.
        make_loss: makes the loss; tests put faulty ones in.
        ends: when the check at work runs out of time, by the monotonic clock.
        on_step: called after each step of each short training.
    """

    config: Config
    written: Path
    build: Callable[[Config], Network] = build
    make_loss: Callable[[Config, Sequence[float]], Loss] = make_loss
    ends: float = inf
    on_step: Callable[[], object] = lambda: None

    @cached_property
    def device(self) -> torch.device:
        """Where networks run."""
        return best_device()

    @cached_property
    def examined(self) -> Examined:
        """Every case, read once.

        Raises:
            DataError: all that would spoil a training.
        """
        return examine(self.config, self.written)

    @cached_property
    def _sampling(self) -> tuple[PatchSampler, dict[int, Statistics]]:
        return make_sampler(self.examined.splits, self.config)

    @property
    def sampler(self) -> PatchSampler:
        """Says where training patches are cut."""
        return self._sampling[0]

    @property
    def statistics(self) -> dict[int, Statistics]:
        """Of the training cases, by number."""
        return self._sampling[1]

    @property
    def class_prior(self) -> tuple[float, ...]:
        """Each class's share of the training pixels."""
        return self.sampler.class_prior

    @cached_property
    def pool(self) -> list[TrainingPatch]:
        """The first training batches, augmented: short trainings go round in them."""
        batch = self.train_batches(1)
        size = sum(tensor.nbytes for tensor in batch[0])
        least, most = POOL_BATCHES
        return [*batch, *self.train_batches(max(least, min(most, POOL_BYTES // size)), first=1)]

    def train_batches(self, end: int, *, first: int = 0) -> list[TrainingPatch]:
        """Batches `first` .. `end` - 1 of the run, cut anew."""
        patches = PatchDataset(self.examined.splits.train, self.config, self.statistics)
        return _cut(patches, self.sampler, self.config, first, end)

    @cached_property
    def probe(self) -> list[TrainingPatch]:
        """Batches of the validation's cases, drawn as in training, without augmentation."""
        splits, config = self.examined.splits, unaugmented(self.config)
        sampler, statistics = make_sampler(Splits(splits.val, splits.train), config)
        return _cut(PatchDataset(splits.val, config, statistics), sampler, config, 0, PROBE_BATCHES)

    @cached_property
    def views(self) -> tuple[CaseCrop, ...]:
        """Of the first validation cases."""
        cases, dimensions = self.examined.splits.val[:VIEWS], self.config.data.dimensions
        return case_crops(cases, self.config, MOST_PX[dimensions])

    def predictor(self, network: Network, config: Config | None = None) -> Predictor:
        """Segments views with a network."""
        return make_predictor(as_seen(config or self.config), network.eval(), self.class_prior, self.device)

    def logits(self, network: Network) -> list[NDArray[np.float32]]:
        """The logits (R, *S) of each view."""
        predictor = self.predictor(network)
        return [view.logits(predictor) for view in self.views]

    @cached_property
    def _followed(self) -> tuple[ShortRun, dict[int, list[NDArray[np.float32]]]] | None:
        """None where there is no time for it, so that it isn't tried again."""
        snapshots = {}

        def note(step: int, network: Network) -> bool:
            if step in (0, STEPS // 3, 2 * STEPS // 3, STEPS):
                snapshots[step] = self.logits(network)
            return False

        try:
            return self.short_run(self.pool, STEPS, on_step=note), snapshots
        except OutOfTime:
            return None

    def _in_time(self) -> tuple[ShortRun, dict[int, list[NDArray[np.float32]]]]:
        if self._followed is None:
            raise OutOfTime
        return self._followed

    @property
    def real(self) -> ShortRun:
        """The short training as it is meant; the others are compared with it.

        Raises:
            NumericError: a loss is no number.
            OutOfTime: there is no time for it.
        """
        return self._in_time()[0]

    @property
    def snapshots(self) -> dict[int, list[NDArray[np.float32]]]:
        """The logits (R, *S) of the views by the steps of `real` that were done: none, a third, two thirds, all."""
        return self._in_time()[1]

    def short_run(
        self, batches: Sequence[TrainingPatch], steps: int, *, until: int | None = None,
        on_step: OnStep | None = None, config: Config | None = None,
    ) -> ShortRun:  # fmt: skip
        """Trains a new network on the batches, round and round.

        Args:
            batches: at least one.
            steps: over which the rate falls as the config says.
            until: ends after so many steps already.
            on_step: called before the first step and after each one; True ends the training.
            config: another than the subject's, for a network that is wider.

        Raises:
            NumericError: a loss is no number.
            OutOfTime: the check's time is over.
        """
        stepper = self._stepper(config or self.config, steps)
        run = ShortRun(stepper.network)
        for step in range(until or steps):
            if on_step and on_step(step, run.network):
                return run
            run.losses.append(stepper.step(step, batches[step % len(batches)]))
            self.on_step()
            if time.monotonic() > self.ends:
                raise OutOfTime
        if on_step:
            on_step(until or steps, run.network)
        return run

    def _stepper(self, config: Config, steps: int) -> "_Stepper":
        """Without a warm start, and with a warm-up of a tenth of the steps at most."""
        warmup = min(config.optimizer.warmup_steps, steps // 10)
        optimizer = config.optimizer.model_copy(update={"warmup_steps": warmup})
        config = config.model_copy(update={"warm_start": WarmStartSection(), "optimizer": optimizer})
        torch.manual_seed(config.run.seed)
        network = self.predictor(self.build(config), config).network
        return _Stepper(config, network, self.make_loss(config, self.class_prior), steps, self.device)

    def losses(self, network: Network, batches: Iterable[TrainingPatch]) -> Losses:
        """Of each batch, as the network is used."""
        loss = self.make_loss(self.config, self.class_prior)
        with torch.no_grad():
            return np.array([float(loss_of(network.eval(), loss, batch, self.device)) for batch in batches])


class _Stepper:
    """Changes a network's weights, a batch at a time."""

    def __init__(self, config: Config, network: Network, loss: Loss, steps: int, device: torch.device) -> None:
        self.section = config.optimizer
        self.network = network
        self.loss = loss
        self.steps = steps
        self.device = device
        self.optimizer = make_optimizer(network, config)

    def step(self, number: int, batch: TrainingPatch) -> float:
        """The loss before the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.section.learning_rate * rate_factor(self.section, number / self.steps, number)
        self.optimizer.zero_grad()
        loss = loss_of(self.network.train(), self.loss, batch, self.device)
        value = float(loss.detach())
        if not isfinite(value):
            raise NumericError(
                f"the loss is {value:g} after {number} steps of a short training; lower optimizer.learning_rate or check "
                "the images with overtile inspect"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if self.section.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.section.clip_norm)
        self.optimizer.step()
        return value


def loss_of(network: Network, loss: Loss, batch: TrainingPatch, device: torch.device) -> Tensor:
    """Of one batch, ()."""
    image, reference, weights = (tensor.to(device) for tensor in (batch.image, batch.reference, batch.weights))
    return loss(network.outputs(image).logits, reference, weights)


def unaugmented(config: Config) -> Config:
    """The config with patches as they are."""
    return config.model_copy(update={"augment": config.augment.model_copy(update={"probability": 0.0})})


def _cut(patches: PatchDataset, sampler: PatchSampler, config: Config, first: int, end: int) -> list[TrainingPatch]:
    draws = BatchDraws(sampler, config)
    draws.first, draws.end = first, end
    return [default_collate([patches[draw] for draw in batch]) for batch in draws]
