"""Labels of whole images: their numbers in the config, and problems with them in a data set."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from datasets.cases import Case
from datasets.problems import CaseReport, Problem
from imaging.errors import DataError

NO_LABEL = -1  # label number of an image without a label


def label_number(case: Case, classes: Sequence[str]) -> int:
    """Return the index of the case's label in `image_label.classes`; NO_LABEL where there are no classes or no label.

    Raises:
        DataError: `image_label_unknown`: the label is none of the classes.
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
    """Find problems with the labels of whole images; none where the config has no classes for them.

    Args:
        reports: reports of all cases.
        splits: split of each case by name: train, val and test, or folds, each of which validates once.
        classes: the config's `image_label.classes`.
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
    names = set(splits.values())
    for held_out in ("val",) if "train" in names else sorted(names - {"val", "test"}):
        yield from _too_few_classes(cases, splits, held_out, "train" if "train" in names else f"all but {held_out}")
    if "val" in names and not any(case.label in classes for case in cases if splits.get(case.name) == "val"):
        yield Problem(
            "note",
            "image_labels_not_validated",
            "no case of val has a label",
            "add labels to some of them in cases.csv, or the quality of the predicted labels stays unknown",
        )


def _too_few_classes(cases: Sequence[Case], splits: Mapping[str, str], held_out: str, name: str) -> Iterator[Problem]:
    training_cases = [case for case in cases if splits.get(case.name, "test") not in (held_out, "test", "val")]
    counts = Counter(case.label for case in training_cases if case.label)
    if len(counts) < 2:
        labels = ", ".join(f"{label}: {count}" for label, count in counts.items()) or "none"
        yield Problem(
            "error",
            "image_labels_too_few",
            f"training cases ({name}) have labels of fewer than two classes ({labels})",
            "give column label of cases.csv at least two of image_label.classes there, or set image_label.classes to []",
        )
