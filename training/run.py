"""One training run, from a config to a bundle; the same command again goes on where it stopped."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import EarlyStopping
from rich.console import Console
from torch.utils.data import DataLoader

from configs.schema import Config
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor, best_device
from models.architectures import build, count_parameters
from training.clock import Clock
from training.data.examination import Examined, examine, make_sampler
from training.data.hard_negatives import HardNegatives
from training.data.open_cases import Statistics
from training.data.patch_dataset import PatchDataset, ValidationDataset
from training.data.sampling import PatchSampler
from training.data.stream import PatchStream
from training.distributed import SameNetwork, Team, check_shares, team_of
from training.errors import NumericError, Stopped
from training.module import SegmentationModule
from training.monitoring.layer_table import lines
from training.monitoring.monitor import Watch
from training.monitoring.page import describe_run
from training.monitoring.progress_bar import RunProgress
from training.monitoring.tensorboard_log import RunLogger
from training.objective.scoring import make_score
from training.optimization.averaging import Averaging
from training.optimization.precision import precision_of
from training.optimization.schedule import RateSchedule
from training.pretraining.warm_start import warm_start
from training.publishing import BEST, publish_best
from training.resuming.checkpoint import OURS, Checkpoints, State
from training.resuming.lineage import claim, identity, keep_to, record_sitting
from training.resuming.recovery import FiniteGuard, NonFinite, Recovery
from training.resuming.run_lock import only_one
from training.resuming.saving import Best, Pace, Reseed
from training.resuming.stopping import Signals
from training.torch_settings import check_compiler, deterministic, lightning_quiet

SPLITS = "splits.csv"  # in the run's folder


@dataclass(frozen=True)
class Run:
    """What one sitting of a run is made of."""

    config: Config
    folder: Path
    device: torch.device
    examined: Examined
    sampler: PatchSampler
    statistics: Mapping[int, Statistics]  # of the training cases
    checkpoints: Checkpoints
    recovery: Recovery
    clock: Clock
    signals: Signals
    console: Console
    looking_on: Sequence[lightning.Callback]
    team: Team


def train(config: Config, console: Console, looking_on: Sequence[lightning.Callback] = ()) -> Path:
    """Trains until `max_steps`, `max_minutes` or `patience` ends it, and gives the bundle's folder.

    A run that was stopped, in whatever way, goes on from its last checkpoint and comes to the same weights as one that wasn't;
    a finished one is left as it is.

    Args:
        config: the run's.
        console: where to say how it goes.
        looking_on: are told as Lightning tells its callbacks, and end the run by raising.

    Raises:
        ConfigError: the run's folder holds a run with another config, or one that is at work.
        DataError: the data can't be used, or isn't what the run began with.
        NumericError: the loss is no number, again.
        StorageError: a checkpoint can't be written, or none can be read.
        Stopped: a signal came.
    """
    clock = Clock(config.trainer.max_steps, config.trainer.max_minutes)
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    team = team_of(config)
    console = console if team.is_first else Console(quiet=True)
    with Signals() as signals, _claimed(folder, config, team):
        if (folder / "bundle").exists():
            console.print(f"{folder}: already trained; choose another run.name to train anew")
            return folder / "bundle"
        try:
            run = _prepare(config, clock, signals, console, looking_on, team)
            with deterministic(run.device):
                predictor, steps = _fit(run)
            return _publish(run, predictor, steps)
        except Stopped:
            console.print(f"{config.run.name}: stopped; the same command goes on")
            raise


@contextmanager
def _claimed(folder: Path, config: Config, team: Team) -> Iterator[None]:
    """The folder is the first process's, which alone speaks for the others when all of them stop or fail."""
    if team.is_first:
        with only_one(folder):
            claim(folder, config)
            yield
        return
    try:
        yield
    except (Stopped, NumericError) as error:
        raise SystemExit(0) from error


def _prepare(
    config: Config, clock: Clock, signals: Signals, console: Console, looking_on: Sequence[lightning.Callback], team: Team
) -> Run:
    """Reads the data, and clears away what a killed sitting left half-written."""
    folder = config.run.folder / config.run.name
    device = team.device(best_device())
    precision_of(config, device)  # refused before anything is read
    check_compiler(config)
    examined = examine(config, folder / SPLITS, write=team.is_first)
    check_shares(team, examined.splits.val)
    checkpoints = Checkpoints(folder / "checkpoints", identity(config, examined.digests), console)
    if team.is_first:
        keep_to(folder, examined.digests)
        _sweep(folder)
    sampler, statistics = make_sampler(examined.splits, config)
    recovery = Recovery(folder, config, [case.name for case in examined.splits.train], console)
    return Run(
        config, folder, device, examined, sampler, statistics, checkpoints, recovery, clock, signals, console, looking_on, team
    )


def _sweep(folder: Path) -> None:
    """Deletes what a killed sitting had begun to write."""
    for part in folder.rglob(".*.part*"):
        part.unlink()
    for part in folder.glob(".bundle-*"):
        shutil.rmtree(part)


def _fit(run: Run) -> tuple[Predictor, int]:
    """Trains from the last checkpoint or from the beginning, and once more so after a loss that is no number."""
    found = run.checkpoints.newest()
    if found:
        run.clock.load_state_dict(found[1][OURS]["clock"])
    if run.team.is_first:
        record_sitting(run.folder, found[1]["global_step"] if found else 0, run.device, run.console)
    while True:
        try:
            return _attempt(run, found)
        except NonFinite as non_finite:
            found = run.checkpoints.newest()
            run.recovery.take(non_finite, found[0].name if found else None, write=run.team.is_first)
            run.signals.stop_if_received()


def _attempt(run: Run, found: tuple[Path, State] | None) -> tuple[Predictor, int]:
    lightning.seed_everything(run.config.run.seed, verbose=False)
    network = build(run.config)
    begun = f"goes on from {found[0]}" if found else warm_start(network, run.config)
    predictor = make_predictor(run.config, network, run.sampler.class_prior, run.device)
    _introduce(run, predictor, begun)
    patches = PatchDataset(run.examined.splits.train, run.config, run.statistics)
    stream = PatchStream(patches, run.sampler, run.config, pin=run.device.type == "cuda", team=run.team)
    images = DataLoader(
        ValidationDataset(run.examined.splits.val[run.team.rank :: run.team.size], run.config),
        batch_size=None,
        collate_fn=lambda image: image,
        generator=torch.Generator(),
    )
    try:
        with lightning_quiet():
            trainer = _trainer(run, stream, _watch(run, predictor, new=found is None))
            module = SegmentationModule(predictor, run.config, run.sampler.class_prior)
            trainer.fit(module, stream, images, ckpt_path=found[0] if found else None, weights_only=True)
    except RuntimeError as error:
        if (explained := stream.workers.explain(error)) is None:
            raise
        raise explained from error
    finally:
        run.signals.at_once = False  # or workers would be left behind
        stream.close()
    return predictor, trainer.global_step


def _introduce(run: Run, predictor: Predictor, begun: str | None) -> None:
    splits = run.examined.splits
    run.console.print(
        f"{run.config.run.name}: {run.config.model.name}, {count_parameters(predictor.network):,} parameters, patch "
        f"{' x '.join(map(str, run.config.patch_size))}, {len(splits.train)} training and {len(splits.val)} validation "
        f"cases, on {run.device.type}"
    )
    if begun:
        run.console.print(f"{run.config.run.name}: {begun}")


def _watch(run: Run, predictor: Predictor, *, new: bool) -> Watch:
    """What keeps the run's history and page; a new run begins with a look at its network."""
    examined = run.examined
    facts = describe_run(run.config, make_score(run.config).name, examined.examination, examined.splits.by_case)
    if new:
        run.console.print("\n".join(lines(facts.summary)))
    return Watch(facts, run.folder, examined.splits, predictor, run.console)


def _trainer(run: Run, stream: PatchStream, watch: Watch) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="gpu" if run.device.type == "cuda" else "cpu",
        devices=run.config.trainer.devices,
        num_nodes=run.team.nodes,
        strategy="ddp" if run.team.size > 1 else "auto",
        use_distributed_sampler=False,
        precision=precision_of(run.config, run.device),
        max_epochs=1,
        accumulate_grad_batches=run.config.optimizer.accumulate,
        gradient_clip_val=run.config.optimizer.clip_norm,
        val_check_interval=1,  # Pace says when
        check_val_every_n_epoch=None,
        log_every_n_steps=min(10, run.config.trainer.validate_every_steps, run.config.trainer.max_steps),
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=_callbacks(run, stream, watch),
        plugins=[run.checkpoints],
        logger=RunLogger(run.folder, run.console),
    )


def _callbacks(run: Run, stream: PatchStream, watch: Watch) -> list[lightning.Callback]:
    config, section = run.config, run.config.trainer
    score = make_score(config).name
    schedule, splits = RateSchedule(config, run.clock), run.examined.splits
    return [
        RunProgress(run.console, config.run.name, section.max_steps, score),
        watch,
        Reseed(config.run.seed),
        schedule,
        FiniteGuard(config, schedule, run.recovery.scale),
        Averaging(config),
        SameNetwork(),
        HardNegatives(splits.train, run.sampler, config, run.statistics, len(splits.val)),  # as many as a validation sees
        EarlyStopping(
            score, mode="max", patience=section.patience, strict=False, check_finite=False, check_on_train_epoch_end=False
        ),
        Best(run.checkpoints.folder / BEST, score),
        *run.looking_on,
        Pace(config, stream, run.clock, run.signals),  # the last, so that it saves what all others came to
    ]


def _publish(run: Run, predictor: Predictor, steps: int) -> Path:
    run.signals.at_once = True
    run.signals.stop_if_received()
    if not run.team.is_first:
        return run.folder / "bundle"
    (name, score), *labels = publish_best(
        run.folder,
        run.config,
        predictor,
        class_prior=run.sampler.class_prior,
        splits=run.examined.splits,
        images=run.examined.images,
        training_steps=steps,
        training_seconds=round(run.clock.seconds, 1),
    ).items()
    shown = "Dice" if name == "dice" else name
    said = "".join(f", {label.replace('_', ' ')} {value:.3f}" for label, value in labels)
    run.console.print(f"{run.config.run.name}: best validation {shown} {score:.3f}{said}, bundle in {run.folder / 'bundle'}")
    return run.folder / "bundle"
