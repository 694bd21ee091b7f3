"""A training recipe as fourteen checks, after "A Recipe for Training Neural Networks" (Karpathy 2019) and what goes wrong here.

Each asks one question of a run's own data, network, loss and augmentation, by a figure and a limit; what is short-trained for
one is used by the others. Nothing is written into the run's folder.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.schema import Config, ConfigError
from evaluation.report.html_page import render_page, write_page
from imaging.errors import DataError
from training.errors import NumericError
from training.run import SPLITS
from training.sanity_checks.data_checks import exact_tensors, sound_data
from training.sanity_checks.network_checks import (
    filters_look_structured,
    loss_at_the_start,
    nothing_leaks,
    same_for_every_batch_size,
    served_as_validated,
)
from training.sanity_checks.result import CheckResult, NotApplicable, OutOfTime
from training.sanity_checks.subject import Subject
from training.sanity_checks.training_checks import (
    dumb_baselines,
    overfits,
    same_seed,
    shuffled_references,
    through_training,
    wider_fits_better,
    zeroed_input,
)
from training.torch_settings import deterministic

MOST_OF_THE_TIME = 1 / 3  # that one check may take
MOST_LINES = 8  # of an error's message
UNUSABLE = "the data can't be used"

State = Literal["pass", "fail", "not run"]
Progress = Callable[[object, int, int], None]


@dataclass(frozen=True)
class Check:
    """One question of the recipe.

    Args:
        title: what is true when it passes.
        look: answers it.
        remedy: what to do where it doesn't pass.
        steps: of a short training that take about as long; for the progress.
    """

    title: str
    look: Callable[[Subject], CheckResult]
    remedy: str
    steps: int = 3


@dataclass(frozen=True)
class CheckOutcome:
    """What came of a check.

    Args:
        number: its place in CHECKS, from 1.
        check: the question.
        state: `not run` where there was no time for it, or it makes no sense here.
        finding: None where there is none.
        words: why there is none.
        seconds: it took.
        error: what kept it from an answer.
    """

    number: int
    check: Check
    state: State
    finding: CheckResult | None = None
    words: str = ""
    seconds: float = 0.0
    error: Exception | None = None

    @property
    def numeric(self) -> bool:
        """Whether a loss was no number."""
        return isinstance(self.error, NumericError)

    @property
    def unusable(self) -> bool:
        """Whether the data can't be trained on at all."""
        return isinstance(self.error, DataError)

    @property
    def stops(self) -> bool:
        """Whether it failed, and that is more than advice."""
        return self.state == "fail" and not (self.finding and self.finding.advisory)

    @property
    def remedy(self) -> str:
        """What to do; empty where nothing failed, and after an error, which says so itself."""
        if self.state != "fail" or self.finding is None:
            return ""
        return self.finding.remedy or self.check.remedy

    def __str__(self) -> str:
        figure = f"{self.finding.measured} (limit: {self.finding.limit})" if self.finding else self.words
        remedy = f"\n      what to do: {self.remedy}" if self.remedy else ""
        return f"{self.number:2d} {self.state}: {self.check.title}: {figure}{remedy}"


CHECKS: tuple[Check, ...] = (
    Check(
        "the cases are sound, and references lie on their images",
        sound_data,
        "look at the pictures: references that were shuffled, shifted or mirrored against their images spoil every training",
        10,
    ),
    Check(
        "the same seed gives the same losses",
        same_seed,
        "something draws numbers that run.seed doesn't fix, or runs on the GPU in no fixed order",
        8,
    ),
    Check(
        "the loss at the start is what its definition says",
        loss_at_the_start,
        "the loss is mis-scaled: look for a factor, a sum in the place of a mean, or weights of the wrong classes",
    ),
    Check(
        "images are needed: zeroed ones are harder",
        zeroed_input,
        "the network learns nothing from its images: check normalise (overtile inspect shows the intensities) and check 8",
        200,
    ),
    Check(
        "a short training beats dumb baselines",
        dumb_baselines,
        "try optimizer.learning_rate as overtile find-rate says; where it stays so, a threshold may be all that is needed",
    ),
    Check(
        "two images are learned by heart",
        overfits,
        "look at the masks: where they miss details, references may contradict each other, or the network is too small; else "
        "try another optimizer.learning_rate (overtile find-rate)",
        100,
    ),
    Check(
        "a wider network fits the training data as well",
        wider_fits_better,
        "more weights should fit better: lower optimizer.learning_rate, or check model.init and model.norm",
        120,
    ),
    Check(
        "what enters the network is what was meant",
        exact_tensors,
        "look at the pictures; check normalise, augment and the labels of the references",
    ),
    Check(
        "the same images' masks become better through training",
        through_training,
        "validation images don't gain from training: look at the strip, and try another optimizer.learning_rate",
    ),
    Check(
        "no image of a batch leaks into another's output",
        nothing_leaks,
        "something mixes the items of a batch: a norm in training mode, or a reshape that takes the batch for another axis",
    ),
    Check(
        "results are the same for every batch size",
        same_for_every_batch_size,
        "what is served must not depend on inference.batch_size: see check 10",
    ),
    Check(
        "what is served equals what was validated",
        served_as_validated,
        "the bundle isn't the network that was trained: look for weights or settings that don't travel in it",
    ),
    Check(
        "references are needed: shuffled ones are harder",
        shuffled_references,
        "the references tell no more than those of other cases: they may be shuffled already; see the pictures of check 1",
        100,
    ),
    Check(
        "the first filters learn structure, not noise",
        filters_look_structured,
        "the first filters learn noise: check normalise, augment.noise and optimizer.learning_rate",
    ),
)


def parse_check_numbers(text: str) -> tuple[int, ...]:
    """The checks that are asked for: `3,6`; empty: all.

    Raises:
        ConfigError: something else than numbers of checks.
    """
    try:
        numbers = tuple(int(part) for part in text.split(",")) if text else tuple(range(1, len(CHECKS) + 1))
    except ValueError as error:
        raise ConfigError(f"--only {text!r}: not numbers of checks with commas between, such as 3,6") from error
    unknown = [number for number in numbers if not 1 <= number <= len(CHECKS)]
    if unknown:
        raise ConfigError(f"--only {text!r}: there is no check {unknown[0]}; they are 1 to {len(CHECKS)}")
    return numbers


def run_checks(config: Config, only: Collection[int], minutes: float, on_progress: Progress) -> Iterator[CheckOutcome]:
    """Makes the checks one after the other.

    Args:
        config: the run's.
        only: numbers of those to make.
        minutes: for all of them, and a third of that for each; a check that comes to no verdict in its time isn't run.
        on_progress: called with what is counted, how many parts of the work are done, and how many there are.
    """
    with tempfile.TemporaryDirectory() as name:
        written, table = Path(name) / SPLITS, config.run.folder / config.run.name / SPLITS
        if table.exists():
            shutil.copy(table, written)
        yield from check_all(Subject(config, written), only, minutes, on_progress)


def check_all(subject: Subject, only: Collection[int], minutes: float, on_progress: Progress) -> Iterator[CheckOutcome]:
    """`run_checks` of a subject; after a data error the rest isn't run."""
    last = time.monotonic() + 60 * minutes
    chosen = [(number, check) for number, check in enumerate(CHECKS, start=1) if number in only]
    whole, done, unusable = sum(check.steps for _, check in chosen), 0, False
    for number, check in chosen:
        subject.ends = min(last, time.monotonic() + 60 * minutes * MOST_OF_THE_TIME)
        subject.on_step = _Steps(on_progress, done, check.steps, whole)
        with deterministic(subject.device):
            outcome = _check(number, check, subject) if not unusable else CheckOutcome(number, check, "not run", words=UNUSABLE)
        unusable |= outcome.unusable
        done += check.steps
        on_progress("checks", done, whole)
        yield outcome


class _Steps:
    """Tells the progress of a check, step by step of its short trainings, up to what it was thought to take."""

    def __init__(self, on_progress: Progress, before: int, most: int, whole: int) -> None:
        self.on_progress = on_progress
        self.before = before
        self.most = most
        self.whole = whole
        self.steps = 0

    def __call__(self) -> None:
        self.steps += 1
        self.on_progress("checks", self.before + min(self.steps, self.most), self.whole)


def _check(number: int, check: Check, subject: Subject) -> CheckOutcome:
    began = time.monotonic()
    state: State = "not run"
    finding, words, problem = None, "", None
    try:
        if began > subject.ends:
            raise OutOfTime
        finding = check.look(subject)
        state = "pass" if finding.passed else "fail"
    except NotApplicable as reason:
        words = f"not applicable: {reason}"
    except OutOfTime:
        words = "no time left for it; give more --minutes, or fewer checks with --only"
    except (DataError, NumericError) as error:
        state, words, problem = "fail", _shortened(str(error)), error
    return CheckOutcome(number, check, state, finding, words, time.monotonic() - began, problem)


def _shortened(message: str) -> str:
    """Its first lines, and the last one, which says what to do."""
    lines = message.splitlines()
    if len(lines) <= MOST_LINES:
        return message
    return "\n".join([*lines[: MOST_LINES - 2], f"  and {len(lines) - MOST_LINES + 1} more", lines[-1]])


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
        stops=[outcome for outcome in outcomes if outcome.stops],
        counts={state: sum(outcome.state == state for outcome in outcomes) for state in ("pass", "fail", "not run")},
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
    write_page(page, path)
