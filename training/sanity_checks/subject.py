"""The subject of sanity checks: a run's data, network and loss, and short trainings on the same batches."""

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
from training.data.examination import ExaminedData, examine_data, make_sampler
from training.data.open_cases import ImageStatistics
from training.data.patch_dataset import PatchDataset, TrainingPatch
from training.data.sampling import PatchSampler
from training.data.splitting import Splits
from training.data.stream import PatchBatchSampler
from training.errors import NumericError
from training.objective.losses import Loss, make_loss
from training.optimization.optimizers import make_optimizer
from training.optimization.schedule import rate_factor
from training.sanity_checks.image_parts import MOST_PX, CaseCrop, case_crops, without_normalisation
from training.sanity_checks.result import OutOfTime

STEPS = 100  # of a short training
POOL_BYTES = 256 * 2**20  # of the batches that short trainings cycle through
POOL_BATCHES = (4, 12)  # least and most
VALIDATION_BATCHES = 8  # batches of validation patches, whose losses are compared in pairs
CROPS = 3  # crops of validation cases that are segmented

Losses = NDArray[np.float64]
Logits = list[NDArray[np.float32]]  # (R, *S) of each crop
OnStep = Callable[[int, Network], bool]  # called with the number of completed steps; True ends the training


@dataclass
class ShortRun:
    """A short training: the loss before each step, and the network after the last one."""

    network: Network
    losses: list[float] = field(default_factory=list)


@dataclass
class Subject:
    """A run to be checked; its data, batches and short trainings are read or computed on first use.

    Short trainings use the config's optimizer, learning rate and loss. The rate's schedule covers the steps of the short
    training, and the weights are initialised without a warm start.

    Args:
        config: config of the run.
        splits_table: a copy of the run's table of splits, or a path in a temporary folder for a new one.
        build: makes networks; tests pass faulty ones.
        make_loss: makes the loss; tests pass faulty ones.
        deadline: end of the current check's time, by the monotonic clock.
        on_step: called after each step of each short training.
    """

    config: Config
    splits_table: Path
    build: Callable[[Config], Network] = build
    make_loss: Callable[[Config, Sequence[float]], Loss] = make_loss
    deadline: float = inf
    on_step: Callable[[], object] = lambda: None

    @cached_property
    def device(self) -> torch.device:
        """Return the device of the networks."""
        return best_device()

    @cached_property
    def examined(self) -> ExaminedData:
        """Read every case once, and return the splits and notes.

        Raises:
            DataError: the cases can't be trained on.
        """
        return examine_data(self.config, self.splits_table)

    @cached_property
    def _sampling(self) -> tuple[PatchSampler, dict[int, ImageStatistics]]:
        return make_sampler(self.examined.splits, self.config)

    @property
    def sampler(self) -> PatchSampler:
        """Return the sampler of training patches."""
        return self._sampling[0]

    @property
    def statistics(self) -> dict[int, ImageStatistics]:
        """Return the statistics of the training images by case number."""
        return self._sampling[1]

    @property
    def class_prior(self) -> tuple[float, ...]:
        """Return each class's share of the training pixels."""
        return self.sampler.class_prior

    @cached_property
    def pool(self) -> list[TrainingPatch]:
        """Return the first training batches, augmented, which short trainings cycle through."""
        batch = self.train_batches(1)
        size_bytes = sum(tensor.nbytes for tensor in batch[0])
        least, most = POOL_BATCHES
        return [*batch, *self.train_batches(max(least, min(most, POOL_BYTES // size_bytes)), first=1)]

    def train_batches(self, end: int, *, first: int = 0) -> list[TrainingPatch]:
        """Cut the run's training batches `first` .. `end` - 1."""
        patches = PatchDataset(self.examined.splits.train, self.config, self.statistics)
        return _cut_batches(patches, self.sampler, self.config, first, end)

    @cached_property
    def validation_batches(self) -> list[TrainingPatch]:
        """Return batches of validation cases, sampled as in training, without augmentation."""
        splits, config = self.examined.splits, without_augmentation(self.config)
        sampler, statistics = make_sampler(Splits(splits.val, splits.train), config)
        return _cut_batches(PatchDataset(splits.val, config, statistics), sampler, config, 0, VALIDATION_BATCHES)

    @cached_property
    def crops(self) -> tuple[CaseCrop, ...]:
        """Return crops of the first validation cases."""
        cases, dimensions = self.examined.splits.val[:CROPS], self.config.data.dimensions
        return case_crops(cases, self.config, MOST_PX[dimensions])

    def predictor(self, network: Network, config: Config | None = None) -> Predictor:
        """Return a predictor that segments crops with a network."""
        config = without_normalisation(config or self.config)
        return make_predictor(config, network.eval(), self.class_prior, self.device)

    def logits(self, network: Network) -> Logits:
        """Return the logits (R, *S) of each crop."""
        predictor = self.predictor(network)
        return [crop.logits(predictor) for crop in self.crops]

    @cached_property
    def _standard_run(self) -> tuple[ShortRun, dict[int, Logits]] | None:
        """Return the standard short training and its snapshots; None if there was no time, so that it isn't tried again."""
        snapshots = {}

        def take_snapshot(step: int, network: Network) -> bool:
            if step in (0, STEPS // 3, 2 * STEPS // 3, STEPS):
                snapshots[step] = self.logits(network)
            return False

        try:
            return self.train_short(self.pool, STEPS, on_step=take_snapshot), snapshots
        except OutOfTime:
            return None

    @property
    def standard_run(self) -> ShortRun:
        """Return the short training of the unchanged config, with which others are compared.

        Raises:
            NumericError: a loss is NaN or infinite.
            OutOfTime: there is no time for it.
        """
        if self._standard_run is None:
            raise OutOfTime
        return self._standard_run[0]

    @property
    def snapshots(self) -> dict[int, Logits]:
        """Return the crops' logits by completed steps of the standard run: none, a third, two thirds, all.

        Raises:
            NumericError, OutOfTime: as `standard_run` does.
        """
        if self._standard_run is None:
            raise OutOfTime
        return self._standard_run[1]

    def train_short(
        self, batches: Sequence[TrainingPatch], steps: int, *, until: int | None = None,
        on_step: OnStep | None = None, config: Config | None = None,
    ) -> ShortRun:  # fmt: skip
        """Train a new network on the batches, cycling through them.

        Args:
            batches: at least one.
            steps: number of steps that the schedule of the learning rate covers.
            until: number of steps after which the training ends earlier.
            on_step: called before the first step and after each one; True ends the training.
            config: config to use in place of the subject's, for example of a wider network.

        Raises:
            NumericError: a loss is NaN or infinite.
            OutOfTime: the check's time is over.
        """
        config = config or self.config
        warmup = min(config.optimizer.warmup_steps, steps // 10)
        optimizer = config.optimizer.model_copy(update={"warmup_steps": warmup})
        config = config.model_copy(update={"warm_start": WarmStartSection(), "optimizer": optimizer})
        torch.manual_seed(config.run.seed)
        network = self.predictor(self.build(config), config).network
        stepper = _Stepper(config, network, self.make_loss(config, self.class_prior), steps, self.device)
        run = ShortRun(network)
        for step in range(until or steps):
            if on_step and on_step(step, network):
                return run
            run.losses.append(stepper.step(step, batches[step % len(batches)]))
            self.on_step()
            if time.monotonic() > self.deadline:
                raise OutOfTime
        if on_step:
            on_step(until or steps, network)
        return run

    def losses(self, network: Network, batches: Iterable[TrainingPatch]) -> Losses:
        """Return the loss of each batch, with the network in evaluation mode."""
        loss = self.make_loss(self.config, self.class_prior)
        with torch.no_grad():
            return np.array([float(batch_loss(network.eval(), loss, batch, self.device)) for batch in batches])


class _Stepper:
    """Makes optimizer steps, one batch each."""

    def __init__(self, config: Config, network: Network, loss: Loss, steps: int, device: torch.device) -> None:
        self.section = config.optimizer
        self.network = network
        self.loss = loss
        self.steps = steps
        self.device = device
        self.optimizer = make_optimizer(network, config)

    def step(self, number: int, batch: TrainingPatch) -> float:
        """Make a step, and return the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.section.learning_rate * rate_factor(self.section, number / self.steps, number)
        self.optimizer.zero_grad()
        loss = batch_loss(self.network.train(), self.loss, batch, self.device)
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


def batch_loss(network: Network, loss: Loss, batch: TrainingPatch, device: torch.device) -> Tensor:
    """Return the loss of a batch, ()."""
    image, reference, weights = (tensor.to(device) for tensor in (batch.image, batch.reference, batch.weights))
    return loss(network.outputs(image).logits, reference, weights)


def without_augmentation(config: Config) -> Config:
    """Return the config with augmentation turned off."""
    return config.model_copy(update={"augment": config.augment.model_copy(update={"probability": 0.0})})


def _cut_batches(patches: PatchDataset, sampler: PatchSampler, config: Config, first: int, end: int) -> list[TrainingPatch]:
    draws = PatchBatchSampler(sampler, config)
    draws.first, draws.end = first, end
    return [default_collate([patches[draw] for draw in batch]) for batch in draws]
