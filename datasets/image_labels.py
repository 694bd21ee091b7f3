"""Labels of whole images, as cases name them: their numbers, and what is wrong with them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from datasets.cases import Case
from datasets.problems import CaseReport, Problem
from imaging.errors import DataError

NO_LABEL = -1  # the number of no label


def label_number(case: Case, classes: Sequence[str]) -> int:
    """The place of the case's label in `image_label.classes`; NO_LABEL where it has none, or none is asked for.

    Raises:
        DataError: `image_label_unknown`: it is none of them.
    """
    if case.label is None or not classes:
        return NO_LABEL
    if case.label not in classes:
        raise DataError(
            "image_label_unknown",
            f"label {case.label!r} is none of image_label.classes ({', '.join(classes)}); "
            "correct it in cases.csv, leave it empty, or add it to image_label.classes",
        )
    return classes.index(case.label)


def image_label_problems(reports: Sequence[CaseReport], splits: Mapping[str, str], classes: Sequence[str]) -> Iterator[Problem]:
    """All that is wrong with them; nothing where no classes are asked for.

    Args:
        reports: of all cases.
        splits: by case; train, val and test, or the names of folds, each of which validates once while the others train.
        classes: `image_label.classes`.
    """
    if not classes:
        return
    cases = [report.case for report in reports]
    for case in cases:
        try:
            label_number(case, classes)
        except DataError as error:
            value, _, remedy = error.message.partition("; ")
            yield Problem("error", error.code, value, remedy, case.name)
    present = set(splits.values())
    for held_out in ("val",) if "train" in present else sorted(present - {"val", "test"}):
        yield from _training_problems(cases, splits, held_out, "train" if "train" in present else f"all but {held_out}")
    if "val" in present and not any(case.label in classes for case in cases if splits.get(case.name) == "val"):
        yield Problem(
            "note",
            "image_labels_not_validated",
            "no case of val has a label",
            "give one to some in cases.csv, or nobody knows how good the labels are",
        )


def _training_problems(cases: Sequence[Case], splits: Mapping[str, str], held_out: str, name: str) -> Iterator[Problem]:
    trained = [case for case in cases if splits.get(case.name, "test") not in (held_out, "test", "val")]
    counts = Counter(case.label for case in trained if case.label)
    if len(counts) < 2:
        held = ", ".join(f"{label}: {count}" for label, count in counts.items()) or "none"
        yield Problem(
            "error",
            "image_labels_too_few",
            f"training cases ({name}) have labels of fewer than two classes ({held})",
            "give column label of cases.csv at least two of image_label.classes there, or set image_label.classes to []",
        )
