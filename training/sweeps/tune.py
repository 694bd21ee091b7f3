"""Hyperparameter tuning: train a run many times with values that Optuna draws from ranges, and write the best config."""

import json
import math
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as lightning
import torch
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from configs import schema
from configs.schema import Config, ConfigError
from disk.publish import publish
from training.distributed import check_single_process
from training.errors import NumericError
from training.objective.scoring import make_score
from training.publishing import BEST_WEIGHTS
from training.resuming.run_folder import lock_run_folder, write_or_check_config
from training.resuming.saving import best_score, mix_seed
from training.run import train
from training.sweeps.tune_ranges import Ranges, read_ranges, with_values
from training.sweeps.tune_report import plot_trials, print_best

DATABASE, BEST_CONFIG, PICTURE = "tune.db", "best.yaml", "tune.png"  # in the run's folder
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FIRST_UNPRUNED = 5  # trials that are never pruned; later ones are compared with their median


@dataclass(frozen=True)
class TuningLimits:
    """Limits of a tuning: the number of trials over all its sessions, and minutes of this one after which none starts."""

    trials: int = 20
    minutes: float | None = None


class Pruned(Exception):
    """A trial's score is below the median of the other trials at the same step."""


class PruningCallback(lightning.Callback):
    """Reports each validation's score to Optuna, and ends a trial that Optuna prunes.

    Args:
        trial: Optuna's trial.
        config: config of the trial.
        earlier_scores: scores by step that were reported before the trial's process died.
    """

    def __init__(self, trial: Trial, config: Config, earlier_scores: Mapping[int, float]) -> None:
        self.trial = trial
        self.score = make_score(config).name
        self.max_steps = config.trainer.max_steps
        self.reported = set(earlier_scores)
        for step, value in earlier_scores.items():
            trial.report(value, step)

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Report the score; after the last step a trial is no longer pruned.

        Raises:
            Pruned: the score is below the median.
        """
        step, value = trainer.global_step, float(trainer.callback_metrics.get(self.score, math.nan))
        if step not in self.reported and not math.isnan(value):
            self.reported.add(step)
            self.trial.report(value, step)
        if step < self.max_steps and self.trial.should_prune():
            raise Pruned


class Tuning:
    """An Optuna study, and the folder of its runs.

    The values of a trial depend only on the seed, its number and the trials that ended before it, so that a resumed tuning
    draws the same values as an uninterrupted one.

    Args:
        config: values that all trials share.
        ranges: ranges of the values that trials draw.
        storage: URL of Optuna's database; None: a file in the run's folder.
        console: console for progress messages.

    Raises:
        ConfigError: the database can't be opened, or holds a tuning of that name with other ranges.
    """

    def __init__(self, config: Config, ranges: Ranges, storage: str | None, console: Console) -> None:
        self.config, self.ranges, self.console = config, ranges, console
        self.folder = config.run.folder / config.run.name
        url = storage or f"sqlite:///{self.folder / DATABASE}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(
                storage=RDBStorage(url),
                study_name=config.run.name,
                load_if_exists=True,
                direction="maximize",
                pruner=MedianPruner(FIRST_UNPRUNED),
            )
        except (SQLAlchemyError, StorageInternalError, ImportError) as error:
            detail = str(error).splitlines()[0]
            raise ConfigError(f"--storage {url}: can't be opened ({detail}); give a URL such as sqlite:///tune.db") from error
        self.distributions = {key: value_range.distribution() for key, value_range in ranges.items()}
        dump = json.dumps({key: value_range.model_dump(mode="json") for key, value_range in ranges.items()}, sort_keys=True)
        if self.study.user_attrs.get("ranges", dump) != dump:
            raise ConfigError(f"{self.folder} holds a tuning with other ranges; choose another run.name")
        self.study.set_user_attr("ranges", dump)

    def count_ended(self) -> int:
        """Return the number of ended trials, without those whose process died, which are repeated."""
        repeated = {trial.user_attrs.get("after") for trial in self.study.trials}
        return sum(trial.state in ENDED and trial.number not in repeated for trial in self.study.trials)

    def requeue_interrupted(self) -> None:
        """End trials whose process died, and queue each again with its values; it resumes in its folder from its checkpoint."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            facts = {"of": _folder_number(trial), "after": trial.number, "known": trial.intermediate_values}
            self.study.enqueue_trial(trial.params, facts)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def run_next(self) -> None:
        """Draw the values of the next trial, train it and report its score to Optuna.

        Raises:
            DataError, StorageError, Stopped: as `train` does; the next session resumes the trial.
        """
        self.study.sampler = TPESampler(seed=mix_seed(self.config.run.seed, len(self.study.trials)))
        trial = self.study.ask(self.distributions)
        name = f"trial-{_folder_number(trial):04d}"
        self.console.print(f"{name}: {', '.join(f'{key} = {value}' for key, value in self.values(trial).items())}")
        earlier_scores = {int(step): value for step, value in trial.user_attrs.get("known", {}).items()}
        try:
            config = self.config_of(trial)
            train(config, self.console, [PruningCallback(trial, config, earlier_scores)])
            score = best_score(self.folder / name / "checkpoints" / BEST_WEIGHTS)
        except Pruned:
            self.console.print(f"{name}: pruned, its score is below the median of the other trials at this step")
            self.study.tell(trial, state=TrialState.PRUNED)
            shutil.rmtree(self.folder / name / "checkpoints")
        except (ConfigError, NumericError, torch.OutOfMemoryError) as error:
            self.console.print(f"{name}: failed: {error}", style="yellow")
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, None if math.isnan(score) else score, TrialState.FAIL if math.isnan(score) else None)

    def values(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """Return the config values of a trial by key."""
        return {key: self.ranges[key].value(parameter) for key, parameter in trial.params.items()}

    def config_of(self, trial: Trial | FrozenTrial) -> Config:
        """Return the config of a trial, an ordinary run in a folder of its own.

        Raises:
            ConfigError: the values contradict each other.
        """
        name = f"trial-{_folder_number(trial):04d}"
        return _with_run(with_values(self.config, self.values(trial), origin=name), folder=self.folder, name=name)


def tune(config: Config, ranges: Path, limits: TuningLimits, console: Console, storage: str | None = None) -> Path:
    """Run trials up to the limits, and return the path of the best one's config.

    Args:
        config: values that all trials share.
        ranges: YAML file of the ranges.
        limits: when to stop.
        console: console for progress messages.
        storage: URL of Optuna's database; None: a file in the run's folder.

    Raises:
        ConfigError: a range is invalid, the folder or the database hold another tuning, or no trial was completed.
        DataError, StorageError, Stopped: as `train` does.
    """
    check_single_process("overtile tune")
    for key, value, single in (("folds", config.trainer.folds, 0), ("devices", config.trainer.devices, 1)):
        if value != single:
            raise ConfigError(
                f"trainer.{key}: {value}; each trial is one run in one process, set it to {single} for overtile tune"
            )
    value_ranges = read_ranges(ranges, config)
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with lock_run_folder(folder):
        write_or_check_config(folder, config)
        tuning = Tuning(config, value_ranges, storage, console)
        tuning.requeue_interrupted()
        while tuning.count_ended() < limits.trials and time.monotonic() - start < (limits.minutes or math.inf) * 60:
            console.print(f"{config.run.name}: trial {tuning.count_ended() + 1} of {limits.trials}")
            tuning.run_next()
        return _write_results(tuning)


def _folder_number(trial: Trial | FrozenTrial) -> int:
    """Return the number in the folder's name: a repeated trial has the folder of the one whose process died."""
    return int(trial.user_attrs.get("of", trial.number))


def _with_run(config: Config, **run: object) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update=run)})


def _write_results(tuning: Tuning) -> Path:
    """Print the best trials, write the plot and the best config, and return the config's path."""
    complete = tuning.study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise ConfigError(f"{tuning.folder}: no trial was completed; narrow the ranges, or allow more trials or minutes")
    ranked = sorted(complete, key=lambda trial: -(trial.value or 0.0))
    score = make_score(tuning.config).name
    print_best([(_folder_number(trial), trial.value or 0.0, tuning.values(trial)) for trial in ranked], score, tuning.console)
    picture = plot_trials(tuning.study, score, _importances(tuning.study))
    publish(tuning.folder / PICTURE, lambda part: part.write_bytes(picture))
    best = tuning.config_of(ranked[0])
    final = _with_run(best, folder=tuning.config.run.folder, name=f"{tuning.config.run.name}-best")
    head = (
        f"# The best of {len(complete)} trials that were trained to the end: {best.run.name}, {score} {ranked[0].value:.4f}\n"
    )
    path = tuning.folder / BEST_CONFIG
    publish(path, lambda part: part.write_text(head + schema.dump(final)))
    tuning.console.print(
        f"{path}: train it with: overtile train {path}; its network: {tuning.folder / best.run.name / 'bundle'}"
    )
    return path


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return each key's importance for the score; empty with too few completed trials or a single key.

    Source: Watanabe et al. 2023, PED-ANOVA, arXiv:2304.10255.
    """
    keys = {key for trial in study.trials for key in trial.params}
    if len(keys) < 2 or len(study.get_trials(states=(TrialState.COMPLETE,))) < 2 * FIRST_UNPRUNED:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
