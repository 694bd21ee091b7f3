"""Every case read once -> its facts, and all that is wrong with them and with their splits, each with a remedy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from datasets.cases import Case, open_case_image
from datasets.dataset_checks import dataset_problems
from datasets.fingerprint import CaseFacts, count_reference_labels, measure_facts
from datasets.image_labels import image_label_problems
from datasets.problems import CaseReport, Problem, problem_from_error, short_path
from datasets.references import check_aligned, check_label_counts, open_reference
from imaging.errors import DataError
from imaging.source import ImageSource

ImageCheck = Callable[[ImageSource], object]  # raises a DataError about an image that a config can't take
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Examination:
    """A data set that was read.

    Args:
        reports: one a case.
        problems: what stops first, then notes; by case.
    """

    reports: tuple[CaseReport, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What would spoil a training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is worth a look."""
        return tuple(problem for problem in self.problems if problem.severity == "note")


def examine_cases(
    cases: Sequence[Case], suits: ImageCheck | None = None, on_progress: Progress | None = None
) -> tuple[CaseReport, ...]:
    """A report a case; each file is read once, or of a large slide's image only blocks, see `facts_of`.

    Args:
        cases: whose files are opened, read and closed one after the other.
        suits: called with each open image; None takes any.
        on_progress: called with cases done and cases in all.
    """
    reports = []
    for number, case in enumerate(cases, start=1):
        reports.append(_report(case, suits))
        if on_progress:
            on_progress(number, len(cases))
    return tuple(reports)


def examine_dataset(reports: Sequence[CaseReport], splits: Mapping[str, str], image_labels: Sequence[str] = ()) -> Examination:
    """All problems: of the cases, and of the data set as it is split.

    Args:
        reports: of all cases.
        splits: by case; train, val and test, or the names of folds.
        image_labels: the config's `image_label.classes`.
    """
    problems = [*(problem for report in reports for problem in report.problems), *dataset_problems(reports, splits)]
    problems += image_label_problems(reports, splits, image_labels)
    return Examination(tuple(reports), tuple(sorted(problems, key=lambda problem: problem.severity != "error")))


def check_trainable(examination: Examination) -> None:
    """Nothing, when the data can be trained on.

    Raises:
        DataError: `data_unfit`, with every problem that stops.
    """
    if examination.errors:
        lines = "\n".join(f"  {problem}" for problem in examination.errors)
        raise DataError("data_unfit", f"the data can't be trained on:\n{lines}\novertile inspect shows them with pictures")


def _report(case: Case, suits: ImageCheck | None) -> CaseReport:
    problems: list[Problem] = []
    image = reference = facts = None
    counts: Mapping[int, int] | None = None
    with ExitStack() as opened:
        with _noted(problems, case, *case.images):
            image = opened.enter_context(open_case_image(case))
            if suits:
                suits(image)
        if case.reference is not None:
            with _noted(problems, case, case.reference):
                reference = opened.enter_context(open_reference(case))
                counts = None if case.values else count_reference_labels(reference, case.ignore_label)
        if case.reference is not None and image and reference:
            with _noted(problems, case, case.reference):
                check_aligned(image, reference)
        if image:
            lies = reference if reference and counts is not None and reference.shape == image.shape else None
            with _noted(problems, case, *case.images):
                facts = measure_facts(case, image, lies, counts or {})
    problems += [*_image_problems(case, facts), *_label_problems(case, counts)]
    return CaseReport(case, facts, counts, tuple(problems))


@contextmanager
def _noted(problems: list[Problem], case: Case, *paths: Path) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        problems.append(problem_from_error(error, case, *paths))


def _image_problems(case: Case, facts: CaseFacts | None) -> Iterator[Problem]:
    constant = [number for number, channel in enumerate(facts.image) if channel.minimum == channel.maximum] if facts else []
    if facts and constant:
        whole = len(constant) == len(facts.image)
        yield Problem(
            "error" if whole else "note",
            "image_constant",
            f"every pixel{'' if whole else f' of channel {constant[0] + 1}'} is {facts.image[constant[0]].minimum:g}",
            "export the image again, or leave the case out" if whole else "check that the channel was exported",
            case.name,
            short_path(case.images[0]),
        )


def _label_problems(case: Case, counts: Mapping[int, int] | None) -> Iterator[Problem]:
    if case.reference is None or counts is None:
        return
    place = case.name, short_path(case.reference)
    if case.classes:
        problems: list[Problem] = []
        with _noted(problems, case, case.reference):
            check_label_counts(counts, len(case.classes))
        yield from problems
    if set(counts) <= {0}:
        yield Problem(
            "note", "reference_empty", "the reference holds no label above 0", "check that nothing is to be seen", *place
        )
    elif len(counts) == 1:
        value = f"every pixel of the reference has label {next(iter(counts))}"
        yield Problem("note", "reference_full", value, "check that there is no background", *place)
