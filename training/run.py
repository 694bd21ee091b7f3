"""A training run, from a config to a bundle; the same command again resumes a run that was stopped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as lightning
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from configs.schema import Config
from inference.predictors.methods import make_predictor
from inference.predictors.predictor import Predictor
from models.architectures import build, count_parameters
from training.clock import Clock
from training.data.patch_dataset import PatchDataset, ValidationDataset
from training.data.stream import PatchStream
from training.distributed import ProcessGroup, detect_process_group
from training.errors import NumericError, Stopped
from training.module import SegmentationModule
from training.monitoring.layer_table import table_lines
from training.monitoring.monitor import RunMonitor, time_limit_message
from training.monitoring.page import describe_run
from training.objective.scoring import make_score
from training.pretraining.warm_start import warm_start
from training.publishing import publish_best
from training.resuming.checkpoint import STATE_KEY, StoredCheckpoint
from training.resuming.lineage import record_session
from training.resuming.recovery import NonFiniteError
from training.resuming.run_folder import lock_run_folder, write_or_check_config
from training.resuming.stopping import StopSignals
from training.session import Session, prepare_session
from training.torch_settings import deterministic_algorithms, quiet_lightning
from training.trainer import make_trainer


def train(config: Config, console: Console, callbacks: Sequence[lightning.Callback] = ()) -> Path:
    """Train until `max_steps`, `max_minutes` or `patience` ends the run, and return the folder of its bundle.

    A run that was stopped or killed resumes from its last checkpoint and ends with the weights of an uninterrupted run. A
    finished run is left as it is.

    Args:
        config: the run's.
        console: takes messages and the progress bar.
        callbacks: additional ones, which end the run by raising.

    Raises:
        ConfigError: the run's folder belongs to another config, or another process trains in it.
        DataError: the data can't be used, or changed since the run began.
        NumericError: the loss or its gradient was NaN or infinite a second time.
        StorageError: a checkpoint can't be written, or there are checkpoints and none can be read.
        Stopped: a signal came.
    """
    clock = Clock(config.trainer.max_steps, config.trainer.max_minutes)
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    processes = detect_process_group(config)
    console = console if processes.is_first else Console(quiet=True)
    with StopSignals() as signals, _own_folder(folder, config, processes):
        if (folder / "bundle").exists():
            console.print(f"{folder}: already trained; choose another run.name to train again")
            return folder / "bundle"
        try:
            session = prepare_session(
                config, clock=clock, signals=signals, console=console, callbacks=callbacks, processes=processes
            )
            with deterministic_algorithms(session.device):
                fit = _fit(session)
            return _publish(session, fit)
        except Stopped:
            console.print(f"{config.run.name}: stopped; run the same command to resume")
            raise


class _Fit(NamedTuple):
    """Result of the steps: the predictor of the last network, their number, the monitor, and why the time limit ended them."""

    predictor: Predictor
    steps: int
    monitor: RunMonitor
    time_limit: str


@contextmanager
def _own_folder(folder: Path, config: Config, processes: ProcessGroup) -> Iterator[None]:
    """Lock the run's folder in the first process; let the others end silently when all processes stop or fail."""
    if processes.is_first:
        with lock_run_folder(folder):
            write_or_check_config(folder, config)
            yield
        return
    try:
        yield
    except (Stopped, NumericError) as error:
        raise SystemExit(0) from error


def _fit(session: Session) -> _Fit:
    """Train from the last checkpoint or from the beginning, and go back to it once if a loss is NaN or infinite."""
    checkpoint = session.checkpoints.newest()
    if checkpoint:
        session.clock.load_state_dict(checkpoint.state[STATE_KEY]["clock"])
    if session.processes.is_first:
        step = checkpoint.state["global_step"] if checkpoint else 0
        record_session(session.folder, step, session.device, session.console)
    while True:
        try:
            return _fit_from(session, checkpoint)
        except NonFiniteError as error:
            checkpoint = session.checkpoints.newest()
            last_good = checkpoint.path.name if checkpoint else None
            session.recovery.record(error, last_good, write=session.processes.is_first)
            session.signals.stop_if_received()


def _fit_from(session: Session, checkpoint: StoredCheckpoint | None) -> _Fit:
    """Train from a checkpoint or from the beginning until the run ends."""
    config, splits, processes = session.config, session.examined.splits, session.processes
    predictor = _build_predictor(session, checkpoint)
    patches = PatchDataset(splits.train, config, session.statistics)
    stream = PatchStream(patches, session.sampler, config, pin=session.device.type == "cuda", processes=processes)
    images = DataLoader(
        ValidationDataset(splits.val[processes.rank :: processes.size], config),
        batch_size=None,
        collate_fn=lambda image: image,
        generator=torch.Generator(),
    )
    try:
        with quiet_lightning():
            monitor = _make_monitor(session, predictor, is_new=checkpoint is None)
            trainer = make_trainer(session, stream, monitor)
            module = SegmentationModule(predictor, config, session.sampler.class_prior)
            trainer.fit(module, stream, images, ckpt_path=checkpoint.path if checkpoint else None, weights_only=True)
    except RuntimeError as error:
        if (data_error := stream.workers.to_data_error(error)) is None:
            raise
        raise data_error from error
    finally:
        session.signals.stop_immediately = False  # a signal now would leave workers behind
        stream.close()
    return _Fit(predictor, trainer.global_step, monitor, time_limit_message(trainer, config))


def _build_predictor(session: Session, checkpoint: StoredCheckpoint | None) -> Predictor:
    """Build the network from the seed or for a checkpoint, and print its size and the number of cases."""
    config, splits = session.config, session.examined.splits
    lightning.seed_everything(config.run.seed, verbose=False)
    network = build(config)
    start = f"resumes from {checkpoint.path}" if checkpoint else warm_start(network, config)
    predictor = make_predictor(config, network, session.sampler.class_prior, session.device)
    session.console.print(
        f"{config.run.name}: {config.model.name}, {count_parameters(network):,} parameters, patch "
        f"{' x '.join(map(str, config.patch_size))}, {len(splits.train)} training and {len(splits.val)} validation "
        f"cases, on {session.device.type}"
    )
    if start:
        session.console.print(f"{config.run.name}: {start}")
    return predictor


def _make_monitor(session: Session, predictor: Predictor, *, is_new: bool) -> RunMonitor:
    """Build the run's monitor; for a new run, print its network's layers."""
    examined = session.examined
    facts = describe_run(session.config, make_score(session.config).name, examined.examination, examined.splits.by_case)
    if is_new:
        session.console.print("\n".join(table_lines(facts.summary)))
    return RunMonitor(facts, session.folder, examined.splits, predictor, session.console)


def _publish(session: Session, fit: _Fit) -> Path:
    """Write the bundle in the first process, and print the scores of the best network."""
    session.signals.stop_immediately = True
    session.signals.stop_if_received()
    bundle = session.folder / "bundle"
    if not session.processes.is_first:
        return bundle
    manifest = publish_best(
        session.folder,
        session.config,
        fit.predictor,
        class_prior=session.sampler.class_prior,
        splits=session.examined.splits,
        images=session.examined.images,
        clock=session.clock,
        training_steps=fit.steps,
        training_seconds=round(session.clock.seconds, 1),
    )
    fit.monitor.write_finished()
    (name, score), *label_scores = manifest.validation.items()
    scores = f"{'Dice' if name == 'dice' else name} {score:.3f}"
    scores += "".join(f", {label.replace('_', ' ')} {value:.3f}" for label, value in label_scores)
    if manifest.calibration:
        session.console.print(f"{session.config.run.name}: {manifest.calibration.text}")
    session.console.print(f"{session.config.run.name}: best validation {scores}, bundle in {bundle}")
    if fit.time_limit:
        session.console.print(f"{session.config.run.name}: {fit.time_limit}", style="yellow")
    return bundle
