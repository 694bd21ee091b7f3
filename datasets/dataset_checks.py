"""Reports of all cases and their splits -> what is wrong with the data set as a whole; one function a question."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from datasets.problems import CaseReport, Problem, short_path
from datasets.references import join_first

Reports = Sequence[CaseReport]
Splits = Mapping[str, str]  # train, val, test or a fold's name, by case

SPACING_RATIO = 1.25  # of the largest to the smallest on one axis; beyond it objects have other sizes
ENOUGH_CASES = 5  # to say that a label that few of them hold is an odd one
ODD_SHARE = 0.1  # of the cases, at most, that hold an odd label
MANY_LABELS = 16  # in the middling case; more are counted objects where cases differ in them

_TRAINED = ("train", "val")


def dataset_problems(reports: Reports, splits: Splits) -> list[Problem]:
    """All of them, question by question."""
    return [problem for question in _QUESTIONS for problem in question(reports, splits)]


def _references(reports: Reports, splits: Splits) -> Iterator[Problem]:
    missing = [
        report.case.name for report in reports if report.case.reference is None and splits.get(report.case.name) != "test"
    ]
    if missing:
        yield Problem(
            "error" if len(missing) == len(reports) else "note",
            "reference_missing",
            f"{len(missing)} of {len(reports)} cases have no reference: {join_first(missing)}",
            "only cases with one train and validate",
        )


def _enough(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Whole patients to train and to validate with."""
    usable = [report.case for report in reports if report.case.reference is not None and splits.get(report.case.name) != "test"]
    given = {case.split for case in usable if case.split}
    for split in _TRAINED:
        if given and split not in given:
            value = f"no case with a reference has split {split}"
            yield Problem("error", "split_empty", value, "training needs one in train and in val")
    patients = {case.patient for case in usable}
    if len(patients) == 1:
        value = f"all {len(usable)} cases come from one patient" if len(usable) > 1 else "there is one case to train with"
        yield Problem("error", "groups_too_few", value, "add cases of another: to train and to validate takes 2")


def _one_kind(reports: Reports, splits: Splits) -> Iterator[Problem]:
    facts = [report.facts for report in reports if report.facts]
    for what, code, values in (
        ("dimensions", "dimensions_mixed", {fact.name: len(fact.shape) for fact in facts}),
        ("channels", "channels_mixed", {fact.name: len(fact.image) for fact in facts}),
    ):
        tally = Counter(values.values())
        if len(tally) > 1:
            usual = tally.most_common(1)[0][0]
            odd = [f"{name} ({value})" for name, value in values.items() if value != usual]
            yield Problem(
                "error", code, f"most images have {usual} {what}, not so {join_first(odd)}", "keep one kind a data set"
            )


def _labels(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Where nobody says which labels there are: those that few cases hold, and gaps."""
    counted = [report for report in reports if report.label_counts and not report.case.classes]
    if not counted or labels_count_objects(counted):
        if counted:
            yield Problem(
                "note",
                "labels_count_objects",
                "the labels seem to count objects: their numbers differ from case to case",
                "set data.instances to true, and any label above 0 is class 1",
            )
        return
    holders: dict[int, list[CaseReport]] = defaultdict(list)
    for report in counted:
        for label in report.label_counts or {}:
            holders[label].append(report)
    run = _run_from_zero(holders)
    odd = {label for label, cases in holders.items() if label not in run and _is_odd(len(cases), len(counted))}
    for label in sorted(odd):
        yield from (_odd_label(report, label, run) for report in holders[label])
    gaps = sorted(set(holders) - set(run) - odd)
    if gaps:
        yield Problem(
            "error",
            "labels_not_contiguous",
            f"references hold {join_first([str(label) for label in sorted(set(holders) - odd)])}",
            "number the classes 0, 1, 2 .. without a gap, or set data.instances to true if any label above 0 is one class",
        )


def labels_count_objects(reports: Reports) -> bool:
    """Whether labels number objects rather than classes: many of them, and not the same in every case."""
    sizes = [len(report.label_counts or {}) for report in reports]
    return float(np.median(sizes)) > MANY_LABELS and len(set(sizes)) > len(sizes) / 4


def _run_from_zero(labels: Mapping[int, object]) -> range:
    stop = 0
    while stop in labels or (stop == 0 and 1 in labels):
        stop += 1
    return range(stop)


def _is_odd(cases: int, of: int) -> bool:
    return of >= ENOUGH_CASES and cases <= max(1, ODD_SHARE * of)


def _odd_label(report: CaseReport, label: int, run: range) -> Problem:
    pixels = (report.label_counts or {})[label]
    return Problem(
        "error",
        "labels_unknown",
        f"reference holds {label} ({pixels} pixels), which nearly no other case does",
        f"labels are 0 .. {run.stop - 1} elsewhere; correct it, or say with --config or --classes which there are",
        report.case.name,
        short_path(report.case.reference) if report.case.reference else None,
    )


def _foreground(reports: Reports, splits: Splits) -> Iterator[Problem]:
    counted = [report for report in reports if report.label_counts is not None]
    if counted and not any(map(_holds_foreground, counted)):
        yield Problem("error", "no_foreground", "no reference holds a label above 0", "draw some, or check the references")
        return
    for split, here in _by_split(counted, splits).items():
        if not any(map(_holds_foreground, here)):
            yield Problem(
                "error" if split in _TRAINED else "note",
                "no_foreground",
                f"no reference of {split} holds a label above 0",
                f"put a case that has some into {split}",
            )


def _absent_classes(reports: Reports, splits: Splits) -> Iterator[Problem]:
    counted = [report for report in reports if report.label_counts is not None]
    if not counted or (not counted[0].case.classes and labels_count_objects(counted)):
        return
    held = {label for report in counted for label in report.label_counts or {}}
    names = counted[0].case.classes or tuple(f"label {label}" for label in _run_from_zero(dict.fromkeys(held)))
    for label, name in list(enumerate(names))[1:]:
        if label not in held:
            value = f"class {name} (label {label}) is in no reference"
            yield Problem("error", "class_absent", value, "draw it, or leave it out of the classes")
            continue
        for split, here in _by_split(counted, splits).items():
            if any(map(_holds_foreground, here)) and not any((report.label_counts or {}).get(label) for report in here):
                value = f"class {name} (label {label}) is in no reference of {split}"
                yield Problem("note", "class_absent_in_split", value, "it has no score there; move a case that holds it")


def _holds_foreground(report: CaseReport) -> bool:
    return any(label > 0 for label in report.label_counts or {})


def _by_split(reports: Reports, splits: Splits) -> dict[str, list[CaseReport]]:
    cases: dict[str, list[CaseReport]] = defaultdict(list)
    for report in reports:
        if report.case.name in splits:
            cases[splits[report.case.name]].append(report)
    return dict(sorted(cases.items()))


def _spacings(reports: Reports, splits: Splits) -> Iterator[Problem]:
    facts = [report.facts for report in reports if report.facts]
    missing = [fact.name for fact in facts if fact.spacing_um is None]
    if missing:
        some = len(missing) < len(facts)
        who = (
            f"{len(missing)} of {len(facts)} images don't say how far apart their"
            if some
            else "no image says how far apart its"
        )
        names = f": {join_first(missing)}" if some else ""
        remedy = "if you know it, write it into cases.csv as spacing_um, in micrometres"
        yield Problem("note", "spacing_missing", f"{who} pixels lie{names}", remedy)
    known = {fact.name: fact.spacing_um for fact in facts if fact.spacing_um}
    if len({len(spacing) for spacing in known.values()}) != 1:
        return
    table = np.array(list(known.values()))  # (cases, axes)
    ratios = table.max(axis=0) / table.min(axis=0)
    if ratios.max() > SPACING_RATIO:
        axis = int(ratios.argmax())
        ends = [list(known)[int(place)] for place in (table[:, axis].argmin(), table[:, axis].argmax())]
        yield Problem(
            "note",
            "spacing_differs",
            f"spacings reach from {table[:, axis].min():.4g} um ({ends[0]}) to {table[:, axis].max():.4g} um ({ends[1]})",
            "set data.spacing_um, or train on one spacing",
        )


def _duplicates(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """By the decoded pixels, so that another compression or header doesn't hide them; of large slides by the files."""
    same: dict[object, list[str]] = defaultdict(list)
    for report in reports:
        if report.facts:
            same[report.facts.pixels_sha256 or report.facts.sha256].append(report.case.name)
    for names in same.values():
        if len(names) == 1:
            continue
        across = len({splits.get(name) for name in names}) > 1
        cases = [f"{name} ({splits[name]})" if across and name in splits else name for name in names]
        yield Problem(
            "error" if across else "note",
            "image_twice",
            f"{len(names)} cases hold the same image: {join_first(cases)}",
            "what trains must not validate; keep one of them" if across else "keep one of them, or give them one group",
        )


def _groups(reports: Reports, splits: Splits) -> Iterator[Problem]:
    members: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        if report.case.group:
            members[report.case.group].add(splits.get(report.case.name, ""))
    shared = [f"{group} ({', '.join(sorted(names))})" for group, names in sorted(members.items()) if len(names) > 1]
    if shared:
        value = f"groups are in several splits: {join_first(shared)}"
        yield Problem("error", "group_in_several_splits", value, "put every case of a group into one split")
    if not members:
        yield Problem(
            "note",
            "groups_missing",
            "nothing says which cases come from one patient, so each counts as a patient of its own",
            "if some belong together, add a column group to cases.csv",
        )


_QUESTIONS: tuple[Callable[[Reports, Splits], Iterator[Problem]], ...] = (
    _references,
    _enough,
    _one_kind,
    _labels,
    _foreground,
    _absent_classes,
    _spacings,
    _duplicates,
    _groups,
)
