"""Common parts of the three studies: config, divided cases, folder, time and metrics, and the training and scoring of runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from configs.command_line import progress_bars
from configs.schema import Config
from evaluation.comparison.held_out import group_note
from evaluation.scoring.selection import Selection
from evaluation.scoring.table import ScoreTable
from training.distributed import check_single_process
from training.resuming.run_folder import lock_run_folder, write_or_check_config
from training.studies.held_out import StudyCases, divide_cases
from training.studies.result import PointCost
from training.studies.runs import StudyRun, train_runs
from training.studies.scoring import SCORES, score_bundle, study_selection


@dataclass(frozen=True)
class Study:
    """Study in progress.

    Args:
        config: config of one of the two methods.
        folder: folder of its runs, scores, table and page.
        console: console for progress messages.
        minutes: time of all trainings together; None: each as long as its config says.
        metric_names: chosen metrics, the headline first; empty: the defaults.
    """

    config: Config
    folder: Path
    console: Console
    minutes: float | None = None
    metric_names: tuple[str, ...] = ()

    @cached_property
    def cases(self) -> StudyCases:
        """The divided cases."""
        return divide_cases(self.config)

    @cached_property
    def selection(self) -> Selection:
        """The metrics that are computed."""
        return study_selection(self.config, self.metric_names)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the headline first."""
        names = [metric.name for metric in self.selection.metrics]
        return tuple(sorted(names, key=lambda name: self.metric_names.index(name))) if self.metric_names else tuple(names)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return how the cases were divided, and whether they are independent."""
        cases = self.cases
        counts = f"{len(cases.train)} cases for training, {len(cases.val)} for validation, {len(cases.held_out)} held out."
        note = group_note(cases.held_out)
        return (cases.origin, counts, *((note,) if note else ()), "Each setting was trained once, from one seed.")

    def train(self, runs: Sequence[StudyRun]) -> dict[str, Path]:
        """Train the runs, and return the folder of each one's bundle by name; see `train_runs` for the errors."""
        return train_runs(runs, self.config, self.cases, self.folder, minutes=self.minutes, console=self.console)

    def score(self, name: str, bundle: Path) -> tuple[ScoreTable, PointCost]:
        """Return the scores of a bundle on the held-out cases, and its cost; see `score_bundle` for the errors."""
        with progress_bars(self.console) as on_progress:
            return score_bundle(
                bundle,
                self.cases.held_out,
                self.selection,
                self.folder / SCORES / name,
                lambda done: on_progress(f"tiles of {name}", done, done),
            )


@contextmanager
def open_study(
    config: Config, folder: Path, console: Console, *, minutes: float | None = None, metrics: tuple[str, ...] = ()
) -> Iterator[Study]:
    """Open a study in its folder, which one process at a time may use; a stopped study of the same config is continued.

    Args:
        config: config of one of the two methods.
        folder: the study's folder; created if it is missing.
        console: console for progress messages.
        minutes: time of all trainings together; None: each as long as its config says.
        metrics: names of metrics, the headline first; empty: the defaults.

    Raises:
        ConfigError: the folder holds a study of another config, another process uses it, or a metric is unknown.
    """
    check_single_process("overtile study")
    folder.mkdir(parents=True, exist_ok=True)
    with lock_run_folder(folder):
        write_or_check_config(folder, config)
        study = Study(config, folder, console, minutes, metrics)
        study.selection  # noqa: B018  (refuses unknown metrics before anything is trained)
        yield study
