"""A data set -> what `overtile inspect` says of it: its cases' facts in a few lines, every problem, and pictures of some."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from configs.schema import Config
from datasets.case_checks import Examination, conclude, read_reports
from datasets.cases import Case, read_cases
from datasets.dataset_checks import counts_objects
from datasets.fingerprint import CaseFacts
from datasets.problems import CaseReport
from datasets.splits import assign, draw_folds
from evaluation.report.number_text import percent, significant, size, spacing
from inference.compatibility import check_suitable

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ClassShare:
    """One class over all references: its share of their pixels, and how many of them hold it."""

    label: int
    name: str
    share: float
    cases: int


@dataclass(frozen=True)
class Inspection:
    """A data set that was read.

    Args:
        data: its folder.
        examination: facts and problems.
        splits: train, val and test, or the folds that would be drawn, by case.
        drawn: how many folds were drawn; 0 where the data set has splits of its own.
        seed: of the draw.
        colours: #rrggbb by label, those of the config; empty without one.
    """

    data: Path
    examination: Examination
    splits: Mapping[str, str]
    drawn: int
    seed: int
    colours: tuple[str, ...] = ()

    @property
    def facts(self) -> tuple[CaseFacts, ...]:
        """Of the cases whose images could be read."""
        return tuple(report.facts for report in self.examination.reports if report.facts)

    @property
    def classes(self) -> tuple[ClassShare, ...]:
        """By label; none where labels count objects or where no reference could be read."""
        return _classes(self.examination.reports)


@dataclass(frozen=True)
class Wanted:
    """What `inspect` is asked: with which config or how many classes, and how many folds are to be drawn by which seed."""

    config: Config | None = None
    classes: int | None = None
    folds: int = 5
    seed: int = 0


def inspect(data: Path, wanted: Wanted, on_progress: Progress | None = None) -> Inspection:
    """Reads every case of a data set once.

    Raises:
        DataError: there is no data set, or its table is broken.
    """
    config = wanted.config
    cases = read_cases(data, config.data if config else None)
    if wanted.classes and not config:
        names = tuple(f"label {label}" for label in range(wanted.classes))
        cases = tuple(replace(case, classes=names) for case in cases)
    reports = read_reports(cases, (lambda image: check_suitable(image, config)) if config else None, on_progress)
    splits, drawn = _splits(reports, wanted)
    colours = tuple(section.colour for section in config.data.classes) if config else ()
    labels = config.image_label.classes if config else ()
    return Inspection(data, conclude(reports, splits, labels), splits, drawn, wanted.seed, colours)


def summary(inspection: Inspection) -> list[tuple[str, str]]:
    """The few lines that say what the data set is."""
    facts, cases = inspection.facts, [report.case for report in inspection.examination.reports]
    rows = [("Cases", _counted(cases, inspection)), ("Patients", _patients(cases))]
    if facts:
        rows += [
            ("Images", _kind(facts)),
            ("Size", _range([fact.shape for fact in facts], _sizes)),
            ("Spacing", _spacing(facts)),
            *((f"Intensity{_channel(number, facts)}", _intensity(facts, number)) for number in range(len(facts[0].image))),
        ]
    rows += [(f"Class {share.name}", _share(share, inspection)) for share in inspection.classes]
    sides = [fact.object_px for fact in facts if fact.object_px]
    if sides:
        middle = tuple(round(median(axis)) for axis in zip(*sides, strict=True))
        rows.append(("Connected foreground", f"{size(middle)} pixels, the middling part of the middling case"))
    return rows


def _splits(reports: Sequence[CaseReport], wanted: Wanted) -> tuple[dict[str, str], int]:
    """The data set's own, or folds as a training would draw them; and how many folds were drawn."""
    cases = [report.case for report in reports]
    splits = assign([case for case in cases if case.split], {})
    rest = [case for case in cases if case.split is None and case.reference is not None]
    if len({case.patient for case in rest}) < 2:
        return splits, 0
    folds = draw_folds(rest, wanted.folds, wanted.seed, {report.case.name: report.label_counts or {} for report in reports})
    return splits | {name: f"fold {fold + 1}" for name, fold in folds.items()}, max(folds.values()) + 1


def _classes(reports: Sequence[CaseReport]) -> tuple[ClassShare, ...]:
    counted = [report for report in reports if report.label_counts]
    if not counted or (not counted[0].case.classes and counts_objects(counted)):
        return ()
    totals: Counter[int] = Counter()
    for report in counted:
        totals.update(report.label_counts or {})
    names = dict(enumerate(counted[0].case.classes)) or {label: "background" if label == 0 else str(label) for label in totals}
    return tuple(
        ClassShare(
            label,
            names.get(label, f"unknown label {label}"),
            totals[label] / totals.total(),
            sum(bool((report.label_counts or {}).get(label)) for report in counted),
        )
        for label in sorted(set(names) | set(totals))
    )


def _counted(cases: Sequence[Case], inspection: Inspection) -> str:
    tally = Counter(inspection.splits.get(case.name, "in no split") for case in cases)
    folds = sorted(tally.pop(f"fold {number}") for number in range(1, inspection.drawn + 1))
    parts = [f"{count} {name}" for name, count in sorted(tally.items())]
    if folds:
        sizes = f"{folds[0]}" if folds[0] == folds[-1] else f"{folds[0]} to {folds[-1]}"
        parts.insert(0, f"{len(folds)} folds of {sizes}, drawn by seed {inspection.seed}")
    return f"{len(cases)} ({', '.join(parts)})"


def _patients(cases: Sequence[Case]) -> str:
    groups = {case.group for case in cases if case.group}
    alone = sum(case.group is None for case in cases)
    if not groups:
        return "no groups given: each case counts as one"
    return f"{len(groups)} group{'' if len(groups) == 1 else 's'}" + (f" and {alone} cases without one" if alone else "")


def _kind(facts: Sequence[CaseFacts]) -> str:
    kinds = Counter((len(fact.shape), len(fact.image), fact.dtype) for fact in facts)
    return "; ".join(
        f"{f'{count} of ' if len(kinds) > 1 else ''}{axes}D, {channels} channel{'' if channels == 1 else 's'}, {dtype}"
        for (axes, channels, dtype), count in kinds.most_common()
    )


def _range(values: Sequence[tuple[float, ...]], words: Callable[[Sequence[float]], str]) -> str:
    """One value where all are equal, else the smallest to the largest of each axis, and the middle."""
    usual = Counter(len(value) for value in values).most_common(1)[0][0]
    axes = list(zip(*(value for value in values if len(value) == usual), strict=True))
    ends = [tuple(function(axis) for axis in axes) for function in (min, max, median)]
    if ends[0] == ends[1]:
        return words(ends[0])
    return f"{words(ends[0])} to {words(ends[1])}, median {words(ends[2])}"


def _sizes(axes: Sequence[float]) -> str:
    return size([round(axis) for axis in axes])


def _spacing(facts: Sequence[CaseFacts]) -> str:
    known = [fact.spacing_um for fact in facts if fact.spacing_um]
    if not known:
        return "not given"
    return _range(known, spacing) + (f"; {len(facts) - len(known)} not given" if len(known) < len(facts) else "")


def _channel(number: int, facts: Sequence[CaseFacts]) -> str:
    return f", channel {number + 1}" if len(facts[0].image) > 1 else ""


def _intensity(facts: Sequence[CaseFacts], number: int) -> str:
    channels = [fact.image[number] for fact in facts if number < len(fact.image)]
    lowest, highest = min(channel.minimum for channel in channels), max(channel.maximum for channel in channels)
    middle = [
        significant(median(values)) for values in zip(*((each.low, each.median, each.high) for each in channels), strict=True)
    ]
    return f"{significant(lowest)} to {significant(highest)}; in the middling case {' / '.join(middle)} (0.5%, median, 99.5%)"


def _share(share: ClassShare, inspection: Inspection) -> str:
    cases = sum(report.label_counts is not None for report in inspection.examination.reports)
    return f"label {share.label}, {percent(share.share)} of the pixels, in {share.cases} of {cases} references"
