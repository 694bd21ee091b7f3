"""Checks of a data set as a whole, from the reports of all its cases and their splits; one function for each check."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from datasets.declaration_checks import declared_cases, declared_channels, declared_labels
from datasets.labels.counts import join_first
from datasets.labels.kinds import LabelKind, label_kind, labels_number_objects, labels_without_gap
from datasets.problems import CaseReport, Problem, short_path

Reports = Sequence[CaseReport]
Splits = Mapping[str, str]  # train, val, test or the name of a fold, by the case's name

SPACING_RATIO = 1.25  # of the largest to the smallest on one axis, above which objects differ in size

_TRAINING_SPLITS = ("train", "val")


def dataset_problems(reports: Reports, splits: Splits) -> list[Problem]:
    """Return the problems that all checks find, check by check."""
    return [problem for check in CHECKS for problem in check(reports, splits)]


def missing_references(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find cases outside the test split that have no reference."""
    missing = [
        report.case.name for report in reports if report.case.reference is None and splits.get(report.case.name) != "test"
    ]
    if missing:
        yield Problem(
            "error" if len(missing) == len(reports) else "note",
            "reference_missing",
            f"{len(missing)} of {len(reports)} cases have no reference: {join_first(missing)}",
            "they are left out of training and validation; add their references to use them",
        )


def too_few_cases(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find an empty training or validation split, and data of a single patient."""
    usable = [report.case for report in reports if report.case.reference is not None and splits.get(report.case.name) != "test"]
    table_splits = {case.split for case in usable if case.split}
    for split in _TRAINING_SPLITS:
        if table_splits and split not in table_splits:
            value = f"no case with a reference has split {split}"
            yield Problem("error", "split_empty", value, "training needs cases in train and in val")
    if len({case.patient for case in usable}) == 1:
        value = f"all {len(usable)} cases come from one patient" if len(usable) > 1 else "there is one case to train with"
        remedy = "add cases of another patient: training and validation need different ones"
        yield Problem("error", "groups_too_few", value, remedy)


def mixed_images(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find images whose dimensions or channels differ from those of most images."""
    facts = [report.facts for report in reports if report.facts]
    for name, code, values in (
        ("dimensions", "dimensions_mixed", {fact.name: len(fact.shape) for fact in facts}),
        ("channels", "channels_mixed", {fact.name: len(fact.image) for fact in facts}),
    ):
        tally = Counter(values.values())
        if len(tally) > 1:
            usual = tally.most_common(1)[0][0]
            exceptions = [f"{case} ({value})" for case, value in values.items() if value != usual]
            value = f"most images have {usual} {name}, except for {join_first(exceptions)}"
            yield Problem("error", code, value, "keep one kind of image in a data set")


def undeclared_labels(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find labels that few cases have, gaps, and labels whose meaning is not clear, where no classes are given."""
    labelled = [report for report in reports if report.label_counts and not report.case.classes]
    if not labelled:
        return
    kind = label_kind([report.label_counts or {} for report in labelled])
    if kind.number_objects:
        yield Problem(
            "note",
            "labels_count_objects",
            "the labels seem to number objects: they differ from case to case",
            "overtile plan sets data.instances to true, so that any label above 0 is class 1",
        )
        return
    for label in kind.odd:
        yield from (_odd_label(report, label, kind) for report in labelled if label in (report.label_counts or {}))
    labels = [label for label in kind.labels if label not in kind.odd]
    if kind.unclear is not None:
        yield Problem(
            "error",
            "ignore_label_unclear",
            f"references hold {join_first(list(map(str, labels)))}, and {kind.unclear} often is the label of unlabelled pixels",
            f"if it is, plan with --ignore {kind.unclear}; if it is a class, name all {len(labels)} with --classes",
        )
    elif kind.has_gap:
        yield Problem(
            "note",
            "labels_not_contiguous",
            f"references hold {join_first(list(map(str, labels)))}",
            "overtile plan writes each as the value of a class; if any label above 0 is one class, set data.instances to true",
        )


def _odd_label(report: CaseReport, label: int, kind: LabelKind) -> Problem:
    pixels = (report.label_counts or {})[label]
    others = [str(each) for each in kind.labels if each not in kind.odd]
    return Problem(
        "error",
        "labels_unknown",
        f"reference holds {label} ({pixels} pixels), which almost no other case has",
        f"correct it (other cases have labels {join_first(others)}), or give all labels with --config or --classes",
        report.case.name,
        short_path(report.case.reference) if report.case.reference else None,
    )


def missing_foreground(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find splits whose references are all background."""
    labelled = [report for report in reports if report.label_counts is not None]
    if labelled and not any(map(_has_foreground, labelled)):
        remedy = "annotate some objects, or check the references"
        yield Problem("error", "no_foreground", "no reference holds a label above 0", remedy)
        return
    for split, members in _by_split(labelled, splits).items():
        if not any(map(_has_foreground, members)):
            yield Problem(
                "error" if split in _TRAINING_SPLITS else "note",
                "no_foreground",
                f"no reference of {split} holds a label above 0",
                f"put a case that has some into {split}",
            )


def absent_classes(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find classes that no reference has, of the data set or of a split."""
    labelled = [report for report in reports if report.label_counts is not None]
    if not labelled or (not labelled[0].case.classes and labels_number_objects([each.label_counts or {} for each in labelled])):
        return
    labels = {label for report in labelled for label in report.label_counts or {}}
    declaration = labelled[0].case.declaration
    if declaration and declaration.is_lookup and labelled[0].case.classes == declaration.names:
        return  # a table of all structures that exist, of which an image shows few
    names = labelled[0].case.classes or tuple(f"label {label}" for label in labels_without_gap(labels))
    for label, name in list(enumerate(names))[1:]:
        if label not in labels:
            value = f"class {name} (label {label}) is in no reference"
            yield Problem("error", "class_absent", value, "annotate it, or remove it from the classes")
            continue
        for split, members in _by_split(labelled, splits).items():
            is_absent = not any((report.label_counts or {}).get(label) for report in members)
            if is_absent and any(map(_has_foreground, members)):
                value = f"class {name} (label {label}) is in no reference of {split}"
                yield Problem("note", "class_absent_in_split", value, f"it gets no score there; move a case with it to {split}")


def _has_foreground(report: CaseReport) -> bool:
    return any(label > 0 for label in report.label_counts or {})


def _by_split(reports: Reports, splits: Splits) -> dict[str, list[CaseReport]]:
    members: dict[str, list[CaseReport]] = defaultdict(list)
    for report in reports:
        if report.case.name in splits:
            members[splits[report.case.name]].append(report)
    return dict(sorted(members.items()))


def spacing_problems(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find images without a spacing, and spacings that differ much."""
    facts = [report.facts for report in reports if report.facts]
    missing = [fact.name for fact in facts if fact.spacing_um is None]
    if missing:
        value = "no image has a spacing"
        if len(missing) < len(facts):
            value = f"{len(missing)} of {len(facts)} images have no spacing: {join_first(missing)}"
        yield Problem(
            "note", "spacing_missing", value, "add it to cases.csv as spacing_um, in micrometres (1 mm is 1000), if you know it"
        )
    spacings = {fact.name: fact.spacing_um for fact in facts if fact.spacing_um}
    if len({len(spacing) for spacing in spacings.values()}) != 1:
        return
    names, table = list(spacings), np.array(list(spacings.values()))  # (cases, axes)
    ratios = table.max(axis=0) / table.min(axis=0)
    if ratios.max() > SPACING_RATIO:
        factor, unit = (1e-3, "mm") if len(ratios) == 3 else (1, "um")
        axis = factor * table[:, int(ratios.argmax())]
        smallest, largest = (f"{axis[number]:.4g} {unit} ({names[number]})" for number in (axis.argmin(), axis.argmax()))
        yield Problem(
            "note",
            "spacing_differs",
            f"spacings reach from {smallest} to {largest}",
            "set data.spacing_um, or train on one spacing",
        )


def duplicate_images(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find cases with the same image, by the decoded pixels (whatever the header or compression), or a large slide's files."""
    names_of: dict[object, list[str]] = defaultdict(list)  # by digest
    for report in reports:
        if report.facts:
            names_of[report.facts.pixels_sha256 or report.facts.sha256].append(report.case.name)
    for names in names_of.values():
        if len(names) == 1:
            continue
        across = len({splits.get(name) for name in names}) > 1
        cases = [f"{name} ({splits[name]})" if across and name in splits else name for name in names]
        yield Problem(
            "error" if across else "note",
            "image_twice",
            f"{len(names)} cases hold the same image: {join_first(cases)}",
            "keep one of them: no image may train and validate" if across else "keep one of them, or give them one group",
        )


def patient_problems(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find groups in several splits, and data without groups."""
    splits_of: dict[str, set[str]] = defaultdict(set)  # by group
    for report in reports:
        if report.case.group:
            splits_of[report.case.group].add(splits.get(report.case.name, ""))
    divided = [f"{group} ({', '.join(sorted(names))})" for group, names in sorted(splits_of.items()) if len(names) > 1]
    if divided:
        value = f"groups are in several splits: {join_first(divided)}"
        yield Problem("error", "group_in_several_splits", value, "put every case of a group into one split")
    if not splits_of:
        yield Problem(
            "note",
            "groups_missing",
            "there are no groups, so each case counts as a patient of its own",
            "add a column group to cases.csv if several cases come from one patient",
        )


CHECKS: tuple[Callable[[Reports, Splits], Iterator[Problem]], ...] = (
    missing_references,
    too_few_cases,
    mixed_images,
    declared_channels,
    declared_labels,
    declared_cases,
    undeclared_labels,
    missing_foreground,
    absent_classes,
    spacing_problems,
    duplicate_images,
    patient_problems,
)
