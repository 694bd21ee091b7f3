"""One training run, from a config to a bundle; the same command again goes on where it stopped."""

import logging
import math
import platform
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from torch.utils.data import DataLoader

from configs import schema
from configs.schema import Config, ConfigError
from datasets.cases import about
from datasets.doctor import conclude, read_reports, refuse_unfit
from datasets.fingerprint import sha256_of
from datasets.splits import write_splits
from inference.predictor import Predictor, best_device, make_predictor
from inference.segment import check_suitable
from models import bundle
from models.networks import build, count_parameters
from training.data import EpochSampler, PatchDataset, ValidationDataset
from training.module import DICE, SegmentationModule
from training.open_cases import Statistics, open_case
from training.progress import RunProgress
from training.sampling import PatchSampler, take_census
from training.splitting import Splits, split_cases, trainable_cases

INTENDED_USE = "Research only. Not a medical device; not for diagnosis or treatment."
SPLITS = "splits.csv"  # in the run's folder
MAY_CHANGE = {"trainer.workers", "trainer.max_minutes"}  # between two sittings of one run


@dataclass(frozen=True)
class Run:
    """What one run is made of, from its data to its network."""

    config: Config
    folder: Path
    splits: Splits
    sampler: PatchSampler
    statistics: Mapping[int, Statistics]  # of the training cases
    predictor: Predictor
    console: Console


def train(config: Config, console: Console) -> Path:
    """Trains until `max_steps`, `max_minutes` or `patience` ends it, and gives the bundle's folder.

    A run that was stopped goes on from its last checkpoint; a finished one is left as it is.

    Raises:
        ConfigError: the run's folder holds a run with another config.
        DataError: the data can't be used.
        NumericError: the loss is no longer a number.
    """
    folder = config.run.folder / config.run.name
    _claim(folder, config)
    if (folder / "bundle").exists():
        console.print(f"{folder}: already trained; choose another run.name to train anew")
        return folder / "bundle"
    lightning.seed_everything(config.run.seed, verbose=False)
    splits = _examined_splits(config, folder / SPLITS)
    sampler, statistics = _sampler(splits, config)
    predictor = make_predictor(config, build(config), sampler.class_prior, best_device())
    run = Run(config, folder, splits, sampler, statistics, predictor, console)
    _introduce(run)
    return _publish(run, _fit(run))


def _examined_splits(config: Config, written: Path) -> Splits:
    """Reads every case once before the first step, so that all that is wrong is told at once."""
    cases = trainable_cases(config.data)
    reports = read_reports(cases, lambda image: check_suitable(image, config))
    refuse_unfit(conclude(reports, {case.name: case.split for case in cases if case.split}))
    counts = {report.case.name: report.label_counts or {} for report in reports}
    splits = split_cases(config.data, config.run.seed, counts, written)
    refuse_unfit(conclude(reports, splits.by_case))
    if not written.exists():
        write_splits(written, splits.by_case, splits.folds)
    return splits


def _claim(folder: Path, config: Config) -> None:
    """Writes the resolved config into the run's folder, or compares it with what is there."""
    path = folder / bundle.CONFIG
    if path.exists():
        changed = sorted(_differences(schema.load(path).model_dump(), config.model_dump()) - MAY_CHANGE)
        if changed:
            raise ConfigError(f"{folder} holds a run with another {', '.join(changed)}; choose another run.name")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(schema.dump(config))


def _differences(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    keys = {(section, key) for values in (old, new) for section, content in values.items() for key in content}
    return {f"{section}.{key}" for section, key in keys if old[section].get(key) != new[section].get(key)}


def _sampler(splits: Splits, config: Config) -> tuple[PatchSampler, dict[int, Statistics]]:
    """What says where patches are cut, and each training image's statistics, so that no image is read for them again."""
    censuses, statistics = [], {}
    for number, case in enumerate(splits.train):
        labelled = open_case(case, config)
        with labelled.image, labelled.reference, about(case):
            censuses.append(take_census(labelled.reference, len(config.data.classes), config.run.seed + number))
            statistics[number] = labelled.statistics
    return PatchSampler(censuses, config), statistics


def _introduce(run: Run) -> None:
    run.console.print(
        f"{run.config.run.name}: {run.config.model.name}, {count_parameters(run.predictor.network):,} parameters, patch "
        f"{' x '.join(map(str, run.config.patch_size))}, {len(run.splits.train)} training and {len(run.splits.val)} validation "
        f"cases, on {run.predictor.device.type}"
    )


def _fit(run: Run) -> lightning.Trainer:
    section = run.config.trainer
    epochs = math.ceil(section.max_steps / section.validate_every_steps)  # an epoch is what lies between two validations
    steps = section.max_steps // epochs
    patches = DataLoader(
        PatchDataset(run.splits.train, run.config, run.sampler, run.statistics),
        batch_size=section.batch_size,
        sampler=EpochSampler(steps * section.batch_size),
        num_workers=section.workers,
        persistent_workers=section.workers > 0,
    )
    images = DataLoader(ValidationDataset(run.splits.val, run.config), batch_size=None, collate_fn=lambda image: image)
    last = run.folder / "checkpoints" / "last.ckpt"
    if last.exists():
        run.console.print(f"{run.config.run.name}: goes on from {last}")
    with _lightning_quiet():
        trainer = _trainer(run, epochs, steps)
        module = SegmentationModule(run.predictor, run.config)
        trainer.fit(module, patches, images, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer


def _trainer(run: Run, epochs: int, steps: int) -> lightning.Trainer:
    cuda = run.predictor.device.type == "cuda"
    return lightning.Trainer(
        accelerator="gpu" if cuda else "cpu",
        devices=1,
        precision="bf16-mixed" if cuda else "32-true",
        max_epochs=epochs,
        max_steps=run.config.trainer.max_steps,
        log_every_n_steps=min(10, steps),
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=_callbacks(run),
        logger=TensorBoardLogger(run.folder, name="", version="logs"),
    )


def _callbacks(run: Run) -> list[lightning.Callback]:
    section = run.config.trainer
    limit = timedelta(minutes=section.max_minutes) if section.max_minutes is not None else None
    checkpoints = run.folder / "checkpoints"
    return [
        RunProgress(run.console, run.config.run.name, section.max_steps),
        Timer(limit, interval="epoch", verbose=False),
        EarlyStopping(DICE, mode="max", patience=section.patience, check_on_train_epoch_end=False),
        # right after validation: a run that goes on ends the epoch again, and then there is no Dice to go by
        ModelCheckpoint(
            checkpoints,
            filename="best",
            monitor=DICE,
            mode="max",
            save_last=True,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        ),
    ]


def _publish(run: Run, trainer: lightning.Trainer) -> Path:
    """Writes the best checkpoint's network as a bundle."""
    state = torch.load(run.folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    network = build(run.config)
    network.load_state_dict({key.removeprefix("network."): value for key, value in state.items()})
    dice = float(cast(torch.Tensor, cast(ModelCheckpoint, trainer.checkpoint_callback).best_model_score))
    callbacks = cast(list[Callback], trainer.callbacks)  # type: ignore[attr-defined]  # set in a connector
    timer = next(callback for callback in callbacks if isinstance(callback, Timer))
    folder = run.folder / "bundle"
    bundle.write(
        folder,
        network,
        run.config,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        margin_px=run.predictor.margin,
        class_prior=run.sampler.class_prior,
        validation={DICE: dice},
        training_steps=trainer.global_step,
        training_seconds=round(timer.time_elapsed(), 1),
        training_images=tuple(sha256_of(path) for case in (*run.splits.train, *run.splits.val) for path in case.images),
        versions={"python": platform.python_version(), **{name: version(name) for name in ("overtile", "torch", "monai")}},
        commit=_commit(),
        intended_use=INTENDED_USE,
    )
    run.console.print(f"{run.config.run.name}: best validation Dice {dice:.3f}, bundle in {folder}")
    return folder


def _commit() -> str | None:
    """The checkout's commit, with -dirty where files were changed since; None where Overtile doesn't run from a checkout."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


@contextmanager
def _lightning_quiet() -> Iterator[None]:
    """Lightning's advice about workers and log folders is for people who write their own loops."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*Checkpoint directory .* exists.*",
            ".*isinstance.treespec, LeafSpec.*",
        ):
            warnings.filterwarnings("ignore", message)
        yield
    logger.setLevel(level)
