"""A session of a run: what one call of `train` builds from its config and data, before the network."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as lightning
import torch
from rich.console import Console

from configs.schema import Config
from inference.predictors.predictor import best_device
from training.clock import Clock
from training.data.examination import ExaminedData, examine_data, make_sampler
from training.data.open_cases import ImageStatistics
from training.data.sampling import PatchSampler
from training.data.splitting import SPLITS_FILE
from training.distributed import ProcessGroup, check_validation_shares
from training.optimization.precision import precision_of
from training.resuming.checkpoint import Checkpoints
from training.resuming.recovery import Recovery
from training.resuming.run_folder import run_digest, write_or_check_digests
from training.resuming.stopping import StopSignals
from training.torch_settings import check_compiler


@dataclass(frozen=True, kw_only=True)
class Session:
    """The parts of a run that live as long as one call of `train`.

    Args:
        config: the run's.
        folder: the run's.
        device: of this process.
        examined: the cases, with digests of their files.
        sampler: draws the location of each patch.
        statistics: of the training images, by the number of the case.
        checkpoints: the run's.
        recovery: the run's losses and gradients that were NaN or infinite.
        clock: the run's.
        signals: those that stop this process.
        console: takes messages; quiet in all processes but the first.
        callbacks: additional ones, which end the run by raising.
        processes: those that train together.
    """

    config: Config
    folder: Path
    device: torch.device
    examined: ExaminedData
    sampler: PatchSampler
    statistics: Mapping[int, ImageStatistics]
    checkpoints: Checkpoints
    recovery: Recovery
    clock: Clock
    signals: StopSignals
    console: Console
    callbacks: Sequence[lightning.Callback]
    processes: ProcessGroup


def prepare_session(
    config: Config,
    *,
    clock: Clock,
    signals: StopSignals,
    console: Console,
    callbacks: Sequence[lightning.Callback],
    processes: ProcessGroup,
) -> Session:
    """Check config and data, and delete the partial files of an earlier session that was killed.

    Raises:
        ConfigError: the machine lacks the precision, the compiler or the GPUs that the config asks for.
        DataError: the data can't be used, or changed since the run began.
    """
    folder = config.run.folder / config.run.name
    device = processes.device(best_device())
    precision_of(config, device)  # raises before any case is read
    check_compiler(config)
    examined = examine_data(config, folder / SPLITS_FILE, write=processes.is_first)
    splits = examined.splits
    check_validation_shares(processes, splits.val)
    if processes.is_first:
        write_or_check_digests(folder, examined.digests)
        for part in folder.rglob(".*.part*"):  # of a process that was killed while it wrote
            part.unlink()
        for part in folder.glob(".bundle-*"):
            shutil.rmtree(part)
    sampler, statistics = make_sampler(splits, config)
    return Session(
        config=config,
        folder=folder,
        device=device,
        examined=examined,
        sampler=sampler,
        statistics=statistics,
        checkpoints=Checkpoints(folder / "checkpoints", run_digest(config, examined.digests), console),
        recovery=Recovery(folder, config, [case.name for case in splits.train], console),
        clock=clock,
        signals=signals,
        console=console,
        callbacks=callbacks,
        processes=processes,
    )
