"""Runs of a study: their configs, which differ in one setting, and their training, which resumes where it was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from rich.console import Console

from configs import schema
from configs.schema import Config
from datasets.cases import Case
from datasets.fingerprint import CaseFacts, read_facts
from datasets.splits import write_splits
from disk.publish import publish
from inference.predictors.predictor import best_device
from models import bundle
from training.data.splitting import SPLITS_FILE
from training.planning.budget import Budget, values_with
from training.planning.plan import PlanRequest, plan
from training.planning.time_budget import choose_length
from training.planning.window_choices import window_convolutions
from training.run import train
from training.studies.held_out import StudyCases

Method = Literal["unet", "sliding_window"]
METHODS: tuple[Method, ...] = ("unet", "sliding_window")
RUNS = "runs"  # in the study's folder
MEMORY_BYTES = 8 * 10**9  # of a training step, as `overtile plan` without --memory


@dataclass(frozen=True)
class StudyRun:
    """Run of a study.

    Args:
        name: name of its folder.
        method: unet or sliding_window.
        window: side of the sliding window in pixels; None: as the config or a plan says.
        train: the training cases; None: all of the study.
    """

    name: str
    method: Method
    window: int | None = None
    train: tuple[Case, ...] | None = None


def train_runs(
    runs: Sequence[StudyRun], config: Config, cases: StudyCases, folder: Path, *, minutes: float | None, console: Console
) -> dict[str, Path]:
    """Train the runs one after the other, and return the folder of each one's bundle by name.

    The config's own method is trained as the config says. The other one gets a network and a batch that are planned for the
    same cases, with the config's data, normalisation, length and seed. Each run's config is written before its training, so
    that a study that was stopped resumes with the same configs, and skips finished runs.

    Args:
        runs: runs of the study.
        config: config of one of the two methods.
        cases: cases of the study.
        folder: the study's folder.
        minutes: time of all trainings together, in equal shares; None: each as long as its config says.
        console: console for progress messages.

    Raises:
        ConfigError, DataError, NumericError, StorageError, Stopped: as `train` does.
    """
    bundles: dict[str, Path] = {}
    facts: list[CaseFacts] = []
    for number, run in enumerate(runs):
        run_folder = folder / RUNS / run.name
        config_path = run_folder / bundle.CONFIG
        if not config_path.exists():
            facts = facts or [read_facts(case) for case in cases.train]
            run_config = _config_of(run, config, facts, minutes and minutes / len(runs))
            named = run_config.run.model_copy(update={"folder": folder / RUNS, "name": run.name})
            run_folder.mkdir(parents=True, exist_ok=True)
            publish(run_folder / SPLITS_FILE, partial(write_splits, splits=cases.splits(run.train), folds={}))
            publish(config_path, partial(Path.write_text, data=schema.dump(run_config.model_copy(update={"run": named}))))
        console.print(f"run {number + 1} of {len(runs)}: {run.name}", style="bold")
        bundles[run.name] = train(schema.load(config_path), console)
    return bundles


def _config_of(run: StudyRun, config: Config, facts: Sequence[CaseFacts], minutes: float | None) -> Config:
    """Return the config of a run without its folder and name."""
    values: dict[str, Any] = config.model_dump(mode="json")
    if run.method != config.model.name:
        request = PlanRequest(
            config.data.path,
            run.method,
            MEMORY_BYTES,
            channels=config.data.channels,
            classes=tuple(section.name for section in config.data.classes),
        )
        planned = plan(facts, request, best_device()).text
        shared = {section: values[section] for section in ("run", "data", "normalise", "head")}
        own: Any = OmegaConf.to_container(OmegaConf.create(planned))
        trainer = values["trainer"] | {"batch_size": own["trainer"]["batch_size"]}
        values = own | shared | {"trainer": trainer}
    if run.window is not None:
        convolutions = window_convolutions(run.window, config.data.dimensions)
        values["model"] |= {"window": run.window, "convolutions": convolutions, "pool": 2}
    if minutes is not None:
        values = values_with(values, choose_length(values, {}, Budget(MEMORY_BYTES, best_device(), minutes)))
    return schema.parse(values, origin=run.name)
