"""Examination of a data set: every case is read once, and its facts and problems are collected with those of the splits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import Case, open_case_image
from datasets.dataset_checks import dataset_problems
from datasets.fingerprint import CaseFacts, count_reference_labels, measure_facts
from datasets.image_labels import image_label_problems
from datasets.labels.counts import check_label_counts
from datasets.problems import CaseReport, Problem, ProblemGroup, group_problems, problem_from_error, short_path
from datasets.references import check_aligned, open_reference
from imaging.errors import DataError
from imaging.remarks import REMARKS
from imaging.source import ImageSource

ImageCheck = Callable[[ImageSource], object]  # raises a DataError for an image that does not suit a config
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """Examined data set.

    Args:
        reports: one report for each case.
        problems: errors first, then notes.
    """

    reports: tuple[CaseReport, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Problems that must be fixed before training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Problems that training tolerates."""
        return tuple(problem for problem in self.problems if problem.severity == "note")

    @property
    def grouped_errors(self) -> tuple[ProblemGroup, ...]:
        """Errors, those that many cases share once."""
        return group_problems(self.errors, len(self.reports))

    @property
    def grouped_notes(self) -> tuple[ProblemGroup, ...]:
        """Notes, those that many cases share once."""
        return group_problems(self.notes, len(self.reports))


def examine_cases(
    cases: Sequence[Case], check_image: ImageCheck | None = None, on_progress: Progress | None = None
) -> tuple[CaseReport, ...]:
    """Report on each case; every file is read once, and of a large slide only blocks, see `measure_facts`.

    Args:
        cases: cases whose files are opened, read and closed one after the other.
        check_image: called with each open image; None accepts any.
        on_progress: called with the cases done and the cases in all.
    """
    reports = []
    for number, case in enumerate(cases, start=1):
        reports.append(_examine_case(case, check_image))
        if on_progress:
            on_progress(number, len(cases))
    return tuple(reports)


def examine_dataset(reports: Sequence[CaseReport], splits: Mapping[str, str], image_labels: Sequence[str] = ()) -> Examination:
    """Collect the problems of the cases and of the data set with its splits.

    Args:
        reports: reports of all cases.
        splits: split of each case by name: train, val and test, or the name of a fold.
        image_labels: the config's `image_label.classes`.
    """
    problems = [problem for report in reports for problem in report.problems]
    problems += dataset_problems(reports, splits)
    problems += image_label_problems(reports, splits, image_labels)
    return Examination(tuple(reports), tuple(sorted(problems, key=lambda problem: problem.severity != "error")))


def check_trainable(examination: Examination) -> None:
    """Refuse data with errors.

    Raises:
        DataError: `data_unfit`, with every error.
    """
    if examination.errors:
        lines = "\n".join(f"  {problem}" for problem in examination.grouped_errors)
        raise DataError("data_unfit", f"the data can't be trained on:\n{lines}\novertile inspect shows them with pictures")


def _examine_case(case: Case, check_image: ImageCheck | None) -> CaseReport:
    problems: list[Problem] = []
    image = reference = facts = None
    counts: Mapping[int, int] | None = None
    with ExitStack() as open_sources:
        with _collect_errors(problems, case, *case.images):
            image = open_sources.enter_context(open_case_image(case))
            if check_image:
                check_image(image)
        if case.reference is not None:
            with _collect_errors(problems, case, case.reference):
                reference = open_sources.enter_context(open_reference(case))
                counts = None if case.values else count_reference_labels(reference, case.ignore_label)
        if case.reference is not None and image and reference:
            with _collect_errors(problems, case, case.reference):
                check_aligned(image, reference)
        if image:
            usable_reference = reference if reference and counts is not None and reference.shape == image.shape else None
            with _collect_errors(problems, case, *case.images):
                facts = measure_facts(case, image, usable_reference, counts or {})
        problems += _remarks(case, image, reference)
    if facts:
        problems += _constant_channels(case, facts)
    if counts is not None:
        problems += _label_problems(case, counts)
    return CaseReport(case, facts, counts, tuple(problems))


@contextmanager
def _collect_errors(problems: list[Problem], case: Case, *paths: Path) -> Iterator[None]:
    """Append a DataError to the problems instead of raising it."""
    try:
        yield
    except DataError as error:
        problems.append(problem_from_error(error, case, *paths))


def _remarks(case: Case, image: ImageSource | None, reference: ImageSource | None) -> Iterator[Problem]:
    """Yield a note for each remark of the files that were read."""
    for source, path, name in ((image, case.images[0], "image"), (reference, case.reference, "reference")):
        if source is None or path is None:
            continue
        for code in source.file_warnings:
            what = f"{REMARKS[code]}, in the {name}"
            yield Problem("note", code, what, "nothing is to be done if that is right", case.name, short_path(path))


def _constant_channels(case: Case, facts: CaseFacts) -> Iterator[Problem]:
    constant = [number for number, channel in enumerate(facts.image, start=1) if channel.minimum == channel.maximum]
    if constant:
        whole = len(constant) == len(facts.image)
        yield Problem(
            "error" if whole else "note",
            "image_constant",
            f"every pixel{'' if whole else f' of channel {constant[0]}'} is {facts.image[constant[0] - 1].minimum:g}",
            "export the image again, or leave the case out" if whole else "check that the channel was exported",
            case.name,
            short_path(case.images[0]),
        )


def _label_problems(case: Case, counts: Mapping[int, int]) -> list[Problem]:
    if case.reference is None:
        return []
    problems: list[Problem] = []
    place = case.name, short_path(case.reference)
    if case.classes:
        with _collect_errors(problems, case, case.reference):
            check_label_counts(counts, len(case.classes))
    if set(counts) <= {0}:
        value = "the reference has no label above 0"
        problems.append(Problem("note", "reference_empty", value, "check that the image shows no object", *place))
    elif len(counts) == 1:
        value = f"every pixel of the reference has label {next(iter(counts))}"
        problems.append(Problem("note", "reference_full", value, "check that there is no background", *place))
    return problems
