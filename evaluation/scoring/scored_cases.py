"""Cases of a data set that masks are scored on, and what their references hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.schema import Config
from configs.sections import MAX_CLASSES
from datasets.cases import Case, prefix_errors, read_cases
from datasets.declared.class_values import ClassValues, is_gapless
from datasets.declared.declaration import BACKGROUND
from datasets.fingerprint import count_reference_labels
from datasets.labels.counts import join_first
from datasets.labels.kinds import label_kind
from datasets.references import open_reference
from evaluation.scoring.selection import ReferenceKind
from imaging.errors import DataError

ALL = "all"  # instead of a split: all cases that have a reference
FEWEST_READ = 20  # cases that show what labels mean, if the data set has as many
MEMBRANE = "membrane"  # in the name of a class whose cells are scored


@dataclass(frozen=True)
class ScoredCases:
    """Cases that masks are scored on.

    Args:
        cases: cases of the split, each with a reference.
        split: train, val, test or all.
        others: the other cases of the data set, whose masks are not scored.
        kind: what the references hold.
        notes: what a reader of the scores must know about the cases.
    """

    cases: tuple[Case, ...]
    split: str
    others: tuple[Case, ...]
    kind: ReferenceKind
    notes: tuple[str, ...] = ()


def read_scored_cases(data: Path, split: str | None = None, config: Config | None = None) -> ScoredCases:
    """Read the cases of a split, with their classes from the config, from what the data set declares, or from its labels.

    Args:
        data: folder of the data set.
        split: train, val, test or all; None: test, or else val, or else all.
        config: config of a model that the masks are made by or compared with.

    Raises:
        DataError: the data set can't be read; `held_out_missing`: no case has that split; `reference_missing`: none of the
            cases has a reference; `values_not_scored`: the references hold values; `ignore_label_unclear`,
            `labels_unknown`: labels whose meaning has to be asked for.
    """
    if config is not None and len(config.data.classes) == 1:
        raise DataError(
            "values_not_scored",
            f"head.kind {config.head.kind} gives a value for each pixel, but masks of classes are scored; give another config",
        )
    every_case = read_cases(data, config.data if config else None)
    splits = {case.split for case in every_case}
    name = split or next((held_out for held_out in ("test", "val") if held_out in splits), ALL)
    in_split = tuple(case for case in every_case if name in (ALL, case.split))
    cases = tuple(case for case in in_split if case.reference is not None)
    if not in_split:
        raise DataError("held_out_missing", f"no case has the split {name}; give the split that has cases, or --split all")
    if not cases:
        raise DataError("reference_missing", f"none of the {len(in_split)} cases has a reference; name them in cases.csv")
    notes = []
    if len(cases) < len(in_split):
        notes.append(f"{len(in_split) - len(cases)} of {len(in_split)} cases have no reference and are left out.")
    if config is None and not cases[0].classes:
        others = [case for case in every_case if case.reference is not None and case not in cases]
        cases, note = classes_of_labels(cases, others[: max(0, FEWEST_READ - len(cases))])
        notes.append(note)
    labels = tuple(sorted({case.label for case in every_case if case.label}))
    kind = reference_kind(config, cases[0].classes, instances=cases[0].instances, labels=labels)
    return ScoredCases(cases, name, tuple(case for case in every_case if case not in in_split), kind, tuple(notes))


def reference_kind(
    config: Config | None, classes: tuple[str, ...], *, instances: bool, labels: tuple[str, ...] = ()
) -> ReferenceKind:
    """Return what references hold.

    Args:
        config: config of a model, whose head says whether classes are grades; None without one.
        classes: names of the classes, the background first.
        instances: references number objects.
        labels: labels of whole images, where no config has them.
    """
    return ReferenceKind(
        classes,
        instances=instances,
        ordered=config is not None and config.head.kind == "ordinal",
        membranes=any(MEMBRANE in name.casefold() for name in classes[1:2]),
        image_labels=config.image_label.classes if config is not None else labels,
    )


def classes_of_labels(cases: Sequence[Case], others: Sequence[Case] = ()) -> tuple[tuple[Case, ...], str]:
    """Return cases that nothing declares classes for with those that their labels show, and a note that says so.

    Args:
        cases: the cases.
        others: further cases of the data set, which show whether labels number objects where `cases` are few.

    Raises:
        DataError: `ignore_label_unclear`, `labels_unknown`; a reference can't be read.
    """
    files = max(len(case.other_references) for case in cases) + 1
    if files > 1:
        names = _placeholders(range(files + 1))
        return tuple(replace(case, classes=names) for case in cases), "Classes are named by the order of the references' files."
    counts = []
    for case in (*cases, *others):
        with prefix_errors(case), open_reference(case) as reference:
            counts.append(count_reference_labels(reference))
    names, values, instances = _classes_of_labels(counts)
    read_as = "numbers of objects" if instances else f"the classes {join_first(names[1:])}"
    return (
        tuple(replace(case, classes=names, class_values=values, instances=instances) for case in cases),
        f"Nothing declares the classes, so the labels of the references are read as {read_as}; --config says it otherwise.",
    )


def _classes_of_labels(counts: Sequence[Mapping[int, int]]) -> tuple[tuple[str, ...], ClassValues | None, bool]:
    """Return the names of the classes, their values where these aren't the indices, and whether labels number objects."""
    kind = label_kind(counts)
    if kind.number_objects:
        return (BACKGROUND, "object"), None, True
    listed = join_first([str(label) for label in kind.labels])
    if kind.odd:
        raise DataError(
            "labels_unknown",
            f"references hold {listed}, and almost no case has {join_first([str(label) for label in kind.odd])}; correct them "
            "(overtile inspect names the cases), or give the classes with --config",
        )
    if kind.unclear is not None:
        raise DataError(
            "ignore_label_unclear",
            f"references hold {listed}, and {kind.unclear} often is the label of unlabelled pixels; give --config with "
            "data.ignore_label, or with all classes",
        )
    labels = (0, *(label for label in kind.labels if label > 0)) if any(kind.labels) else (0, 1)
    if len(labels) > MAX_CLASSES:
        raise DataError(
            "labels_unknown",
            f"references hold {len(labels)} labels, at most {MAX_CLASSES} are classes; if they number objects, give --config "
            "with data.instances true",
        )
    names = _placeholders(labels)
    return names, None if is_gapless(labels) else ClassValues(names, tuple((label,) for label in labels)), False


def _placeholders(labels: Sequence[int]) -> tuple[str, ...]:
    return (BACKGROUND, *(f"class_{label}" for label in labels[1:]))
