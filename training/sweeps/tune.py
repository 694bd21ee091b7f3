"""Many runs that differ in what a file of ranges allows: which values validate best, found by Optuna."""

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
from training.distributed import check_alone
from training.errors import NumericError
from training.objective.scoring import make_score
from training.publishing import BEST
from training.resuming.lineage import claim
from training.resuming.run_lock import only_one
from training.resuming.saving import best_score, mixed
from training.run import train
from training.sweeps.tune_ranges import Ranges, apply, read_ranges
from training.sweeps.tune_report import plot, tell

DATABASE, BEST_CONFIG, PICTURE = "tune.db", "best.yaml", "tune.png"  # in the run's folder
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
FIRST_UNPRUNED = 5  # trials, whose scores the others are measured by


@dataclass(frozen=True)
class TuningLimits:
    """When a tuning is over: so many trials in all its sittings, or no new one after so many minutes of this one."""

    trials: int = 20
    minutes: float | None = None


class Pruned(Exception):
    """A trial's score is worse than the median's of the others at that step."""


class Prune(lightning.Callback):
    """Reports each validation's score, and ends a trial that isn't worth going on with.

    Args:
        trial: Optuna's.
        config: of the trial.
        known: scores by step that were reported before the trial's process died.
    """

    def __init__(self, trial: Trial, config: Config, known: Mapping[int, float]) -> None:
        self.trial = trial
        self.score = make_score(config).name
        self.max_steps = config.trainer.max_steps
        self.reported = set(known)
        for step, value in known.items():
            trial.report(value, step)

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Nothing after the last step.

        Raises:
            Pruned: worse than the median.
        """
        step, value = trainer.global_step, float(trainer.callback_metrics.get(self.score, math.nan))
        if step not in self.reported and not math.isnan(value):
            self.reported.add(step)
            self.trial.report(value, step)
        if step < self.max_steps and self.trial.should_prune():
            raise Pruned


class Tuning:
    """A study and the folder of its runs.

    What a trial draws depends on the seed, its number and the trials that ended before it alone, so that a tuning that goes
    on does as it would have done.

    Args:
        config: what all trials have in common.
        ranges: what they differ in.
        storage: URL of Optuna's database; None: a file in the run's folder.
        console: where to say how it goes.

    Raises:
        ConfigError: the database can't be opened, or holds a tuning of that name with other ranges.
    """

    def __init__(self, config: Config, ranges: Ranges, storage: str | None, console: Console) -> None:
        self.config, self.ranges, self.console = config, ranges, console
        self.folder = config.run.folder / config.run.name
        self.study = _open(config, storage or f"sqlite:///{self.folder / DATABASE}")
        self.distributions = {key: found.distribution() for key, found in ranges.items()}
        wanted = json.dumps({key: found.model_dump(mode="json") for key, found in ranges.items()}, sort_keys=True)
        if self.study.user_attrs.get("ranges", wanted) != wanted:
            raise ConfigError(f"{self.folder} holds a tuning of other ranges; choose another run.name")
        self.study.set_user_attr("ranges", wanted)

    def ended(self) -> int:
        """Trials that are over, those of processes that died left out: they are done again."""
        again = {trial.user_attrs.get("after") for trial in self.study.trials}
        return sum(trial.state in ENDED and trial.number not in again for trial in self.study.trials)

    def take_up(self) -> None:
        """Ends trials whose process died, and has each done again: with its values, in its folder, from its checkpoint."""
        for dead in self.study.get_trials(states=(TrialState.RUNNING,)):
            facts = {"of": _number(dead), "after": dead.number, "known": dead.intermediate_values}
            self.study.enqueue_trial(dead.params, facts)
            self.study.tell(dead.number, state=TrialState.FAIL)

    def run_next(self) -> None:
        """One trial, from its draw to its score.

        Raises:
            DataError, StorageError, Stopped: as `train` does; the trial is taken up by the next sitting.
        """
        self.study.sampler = TPESampler(seed=mixed(self.config.run.seed, len(self.study.trials)))
        trial = self.study.ask(self.distributions)
        name = f"trial-{_number(trial):04d}"
        self.console.print(f"{name}: {', '.join(f'{key} = {value}' for key, value in self.values(trial).items())}")
        known = {int(step): value for step, value in trial.user_attrs.get("known", {}).items()}
        try:
            config = self.config_of(trial)
            train(config, self.console, [Prune(trial, config, known)])
            score = best_score(self.folder / name / "checkpoints" / BEST)
        except Pruned:
            self.console.print(f"{name}: given up, worse than the median of the others at its step")
            self.study.tell(trial, state=TrialState.PRUNED)
            shutil.rmtree(self.folder / name / "checkpoints")
        except (ConfigError, NumericError, torch.OutOfMemoryError) as error:
            self.console.print(f"{name}: failed: {error}", style="yellow")
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, None if math.isnan(score) else score, TrialState.FAIL if math.isnan(score) else None)

    def values(self, trial: Trial | FrozenTrial) -> dict[str, Any]:
        """What the trial's config says, by key."""
        return {key: self.ranges[key].value(drawn) for key, drawn in trial.params.items()}

    def config_of(self, trial: Trial | FrozenTrial) -> Config:
        """Of an ordinary run in a folder of its own.

        Raises:
            ConfigError: the values don't go together.
        """
        name = f"trial-{_number(trial):04d}"
        return _renamed(apply(self.config, self.values(trial), origin=name), folder=self.folder, name=name)


def tune(config: Config, ranges: Path, until: TuningLimits, console: Console, storage: str | None = None) -> Path:
    """Tries values until there are as many trials as wanted, and gives the path of the best one's config.

    Args:
        config: what all trials have in common.
        ranges: a YAML file.
        until: when it is over.
        console: where to say how it goes.
        storage: URL of Optuna's database; None: a file in the run's folder.

    Raises:
        ConfigError: a range can't be, the folder or the database hold another tuning, or no trial came to a score.
        DataError, StorageError, Stopped: as `train` does.
    """
    check_alone("overtile tune")
    _check_single(config)
    known_ranges = read_ranges(ranges, config)
    folder = config.run.folder / config.run.name
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with only_one(folder):
        claim(folder, config)
        tuning = Tuning(config, known_ranges, storage, console)
        tuning.take_up()
        while tuning.ended() < until.trials and time.monotonic() - began < (until.minutes or math.inf) * 60:
            console.print(f"{config.run.name}: trial {tuning.ended() + 1} of {until.trials}")
            tuning.run_next()
        return _conclude(tuning)


def _check_single(config: Config) -> None:
    for key, value, plain in (("folds", config.trainer.folds, 0), ("devices", config.trainer.devices, 1)):
        if value != plain:
            raise ConfigError(
                f"trainer.{key}: {value}; each trial is one run in one process, set it to {plain} for overtile tune"
            )


def _open(config: Config, storage: str) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(
            storage=RDBStorage(storage),
            study_name=config.run.name,
            load_if_exists=True,
            direction="maximize",
            pruner=MedianPruner(FIRST_UNPRUNED),
        )
    except (SQLAlchemyError, StorageInternalError, ImportError) as error:
        raise ConfigError(
            f"--storage {storage}: can't be opened ({str(error).splitlines()[0]}); give a URL such as sqlite:///tune.db"
        ) from error


def _number(trial: Trial | FrozenTrial) -> int:
    """That names the folder: of the trial whose process died, where this one is it again."""
    return int(trial.user_attrs.get("of", trial.number))


def _renamed(config: Config, **run: object) -> Config:
    return config.model_copy(update={"run": config.run.model_copy(update=run)})


def _conclude(tuning: Tuning) -> Path:
    """The table, the picture and the best config."""
    done = tuning.study.get_trials(states=(TrialState.COMPLETE,))
    if not done:
        raise ConfigError(f"{tuning.folder}: no trial came to a score; narrow the ranges, or give it more trials or minutes")
    ranked = sorted(done, key=lambda trial: -(trial.value or 0.0))
    score = make_score(tuning.config).name
    tell([(_number(trial), trial.value or 0.0, tuning.values(trial)) for trial in ranked], score, tuning.console)
    picture = plot(tuning.study, score, _importances(tuning.study))
    publish(tuning.folder / PICTURE, lambda part: part.write_bytes(picture))
    best = tuning.config_of(ranked[0])
    named = _renamed(best, folder=tuning.config.run.folder, name=f"{tuning.config.run.name}-best")
    head = f"# The best of {len(done)} trials that were trained to the end: {best.run.name}, {score} {ranked[0].value:.4f}\n"
    path = tuning.folder / BEST_CONFIG
    publish(path, lambda part: part.write_text(head + schema.dump(named)))
    tuning.console.print(
        f"{path}: train it with: overtile train {path}; its network: {tuning.folder / best.run.name / 'bundle'}"
    )
    return path


def _importances(study: optuna.Study) -> dict[str, float]:
    """Each key's share in what tells the better trials from the others; empty where too few are known, or one key alone.

    Source: Watanabe et al. 2023, PED-ANOVA, arXiv:2304.10255.
    """
    keys = {key for trial in study.trials for key in trial.params}
    if len(keys) < 2 or len(study.get_trials(states=(TrialState.COMPLETE,))) < 2 * FIRST_UNPRUNED:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
