"""Run the sanity checks of a config on its own data, network, loss and augmentation, and write their outcomes as a page.

Short trainings are shared between the checks. Nothing is written into the run's folder.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from configs.schema import Config, ConfigError
from evaluation.report.html_page import render_page, write_page
from imaging.errors import DataError
from training.data.splitting import SPLITS_FILE
from training.errors import NumericError
from training.sanity_checks.checks import CHECKS, Check, CheckOutcome
from training.sanity_checks.result import NotApplicable, OutOfTime
from training.sanity_checks.subject import Subject
from training.torch_settings import deterministic_algorithms

MOST_OF_THE_TIME = 1 / 3  # share of the minutes that one check may take
MOST_LINES = 8  # of an error's message

Progress = Callable[[object, int, int], None]


def parse_check_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of the checks in a text such as `3,6`; empty: all checks.

    Raises:
        ConfigError: the text isn't a list of numbers of checks.
    """
    try:
        numbers = tuple(int(part) for part in text.split(",")) if text else tuple(range(1, len(CHECKS) + 1))
    except ValueError as error:
        raise ConfigError(f"--only {text!r}: not numbers of checks; give numbers separated by commas, such as 3,6") from error
    unknown = [number for number in numbers if not 1 <= number <= len(CHECKS)]
    if unknown:
        raise ConfigError(f"--only {text!r}: there is no check {unknown[0]}; the checks are 1 to {len(CHECKS)}")
    return numbers


def run_checks(config: Config, only: Collection[int], minutes: float, on_progress: Progress) -> Iterator[CheckOutcome]:
    """Run the checks one after the other, and yield their outcomes.

    Args:
        config: config of the run.
        only: numbers of the checks.
        minutes: limit for all checks together; one check takes at most a third. A check that doesn't finish is `not run`.
        on_progress: called with a unit, how many parts of the work are done, and how many there are.
    """
    with tempfile.TemporaryDirectory() as name:
        copy, table = Path(name) / SPLITS_FILE, config.run.folder / config.run.name / SPLITS_FILE
        if table.exists():
            shutil.copyfile(table, copy)
        yield from check_subject(Subject(config, copy), only, minutes, on_progress)


def check_subject(subject: Subject, only: Collection[int], minutes: float, on_progress: Progress) -> Iterator[CheckOutcome]:
    """Run the checks of a subject as `run_checks` does; after a data error the other checks are `not run`."""
    end = time.monotonic() + 60 * minutes
    checks = [(number, check) for number, check in enumerate(CHECKS, start=1) if number in only]
    total = sum(check.steps for _, check in checks)
    completed, is_usable = 0, True
    for number, check in checks:
        outcome = CheckOutcome(number, check, "not run", reason="the data can't be used")
        if is_usable:
            subject.deadline = min(end, time.monotonic() + 60 * minutes * MOST_OF_THE_TIME)
            subject.on_step = _StepProgress(on_progress, completed, check.steps, total)
            with deterministic_algorithms(subject.device):
                outcome = _run_check(number, check, subject)
        is_usable = is_usable and not outcome.is_data_error
        completed += check.steps
        on_progress("checks", completed, total)
        yield outcome


class _StepProgress:
    """Reports the progress of a check at each step of its short trainings, up to its estimated number of steps."""

    def __init__(self, on_progress: Progress, completed: int, estimate: int, total: int) -> None:
        self.on_progress = on_progress
        self.completed = completed
        self.estimate = estimate
        self.total = total
        self.steps = 0

    def __call__(self) -> None:
        self.steps += 1
        self.on_progress("checks", self.completed + min(self.steps, self.estimate), self.total)


def _run_check(number: int, check: Check, subject: Subject) -> CheckOutcome:
    start = time.monotonic()
    outcome = CheckOutcome(number, check, "not run")
    try:
        if start > subject.deadline:
            raise OutOfTime
        result = check.run(subject)
        outcome = replace(outcome, state="pass" if result.passed else "fail", result=result)
    except NotApplicable as reason:
        outcome = replace(outcome, reason=f"not applicable: {reason}")
    except OutOfTime:
        outcome = replace(outcome, reason="no time left for it; give more --minutes, or fewer checks with --only")
    except (DataError, NumericError) as error:
        lines = str(error).splitlines()
        if len(lines) > MOST_LINES:  # the last line says what to do
            lines = [*lines[: MOST_LINES - 2], f"  and {len(lines) - MOST_LINES + 1} more", lines[-1]]
        outcome = replace(outcome, state="fail", reason="\n".join(lines), error=error)
    return replace(outcome, seconds=time.monotonic() - start)


def write_checks(config: Config, outcomes: Sequence[CheckOutcome], path: Path) -> None:
    """Write the outcomes of a run's checks as an HTML page, and create missing folders.

    The page escapes every name that comes from the data, and forbids scripts and external resources.

    Raises:
        OSError: the file can't be written.
    """
    page = render_page(
        "checks.html.j2",
        config=config,
        outcomes=outcomes,
        failures=[outcome for outcome in outcomes if outcome.is_failure],
        counts={state: sum(outcome.state == state for outcome in outcomes) for state in ("pass", "fail", "not run")},
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
    write_page(page, path)
