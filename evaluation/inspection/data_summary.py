"""Summary of a data set as `overtile inspect` prints it: facts about its cases in a few lines, and every problem."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.schema import Config
from datasets.case_checks import Examination, Progress, examine_cases, examine_dataset
from datasets.cases import Case, read_cases, read_remarks
from datasets.discovery.rows import OWN_COLUMNS, Columns
from datasets.fingerprint import CaseFacts, Intensities
from datasets.labels.kinds import labels_number_objects
from datasets.problems import CaseReport, problem_from_remark
from datasets.splits import assign_splits, draw_folds
from evaluation.number_text import percent, significant, size, spacing
from inference.compatibility import check_suitable

MAX_VALUES_SHOWN = 6  # of a column of the table


@dataclass(frozen=True)
class ClassShare:
    """Class over all references: its share of the pixels, and the number of references that contain it."""

    label: int
    name: str
    share: float
    cases: int


@dataclass(frozen=True)
class Inspection:
    """Inspected data set: facts, problems and splits.

    Args:
        data: the data set's folder.
        examination: facts and problems of all cases.
        splits: split of each case by name: train, val and test, or the fold that training would draw.
        fold_count: number of folds in `splits`; 0 where the data set has splits of its own.
        seed: seed of the folds.
        colours: #rrggbb of each label from the config; empty without a config.
    """

    data: Path
    examination: Examination
    splits: Mapping[str, str]
    fold_count: int
    seed: int
    colours: tuple[str, ...] = ()

    @property
    def facts(self) -> tuple[CaseFacts, ...]:
        """Facts of the cases with readable images."""
        return tuple(report.facts for report in self.examination.reports if report.facts)

    @property
    def classes(self) -> tuple[ClassShare, ...]:
        """Classes in the order of their labels; empty where labels number objects or no reference could be read."""
        readable = [report for report in self.examination.reports if report.label_counts]
        if not readable or (
            not readable[0].case.classes and labels_number_objects([each.label_counts or {} for each in readable])
        ):
            return ()
        totals: Counter[int] = Counter()
        for report in readable:
            totals.update(report.label_counts or {})
        case = readable[0].case
        names = dict(enumerate(case.classes))
        if case.declaration and case.declaration.is_lookup and case.classes == case.declaration.names:
            names = {label: name for label, name in names.items() if label in totals}  # a table of all structures that exist
        if not names:
            names = {label: "background" if label == 0 else str(label) for label in totals}
        return tuple(
            ClassShare(
                label,
                names.get(label, f"unknown label {label}"),
                totals[label] / totals.total(),
                sum(bool((report.label_counts or {}).get(label)) for report in readable),
            )
            for label in sorted(set(names) | set(totals))
        )


@dataclass(frozen=True)
class InspectionOptions:
    """Options of `overtile inspect`.

    Args:
        config: config that the data is checked against.
        classes: number of classes, where there is no config.
        folds: number of folds that are drawn where there are no splits.
        seed: seed of the folds.
        columns: columns of groups and labels; those that are None are the config's.
    """

    config: Config | None = None
    classes: int | None = None
    folds: int = 5
    seed: int = 0
    columns: Columns = OWN_COLUMNS

    @property
    def chosen_columns(self) -> Columns:
        """Columns of groups and labels of the options, or else of the config."""
        data = self.config.data if self.config else None
        group = self.columns.group or (data.group_column if data else None)
        return Columns(group, self.columns.label or (data.label_column if data else None))


def inspect_dataset(data: Path, options: InspectionOptions, on_progress: Progress | None = None) -> Inspection:
    """Read every case of a data set once, and collect its facts, problems and splits.

    Raises:
        DataError: there is no data set in the folder, or its table is broken.
    """
    config = options.config
    cases = read_cases(data, config.data if config else None, options.chosen_columns)
    if options.classes and not config:
        names = tuple(f"label {label}" for label in range(options.classes))
        cases = tuple(replace(case, classes=names, class_values=None, ignore_label=None, declaration=None) for case in cases)
    reports = examine_cases(cases, (lambda image: check_suitable(image, config)) if config else None, on_progress)
    splits, fold_count = _splits_or_folds(reports, options)
    colours = tuple(section.colour for section in config.data.classes) if config else ()
    labels = config.image_label.classes if config else ()
    examination = examine_dataset(reports, splits, labels)
    notes = tuple(map(problem_from_remark, read_remarks(data)))
    examination = replace(examination, problems=(*examination.problems, *notes))
    return Inspection(data, examination, splits, fold_count, options.seed, colours)


def print_summary(inspection: Inspection, console: Console) -> None:
    """Print the summary, then every note, then every error with its remedy."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in summary_rows(inspection):
        table.add_row(Text(name, style="bold"), Text(value))
    console.print(table)
    examination = inspection.examination
    for note in examination.grouped_notes:
        console.print(f"note: {note}")
    for error in examination.grouped_errors:
        console.print(f"problem: {error}", style="bold red")
    count = len(examination.grouped_errors)
    if count:
        console.print(f"{count} problem{'' if count == 1 else 's'} must be fixed before training")
    else:
        console.print("No problems found")


def summary_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Return the lines of the summary, each a name and a value."""
    rows = _case_rows(inspection) + (_image_rows(inspection.facts) if inspection.facts else [])
    references = sum(report.label_counts is not None for report in inspection.examination.reports)
    for share in inspection.classes:
        value = f"label {share.label}, {percent(share.share)} of the pixels, in {share.cases} of {references} references"
        rows.append((f"Class {share.name}", value))
    sides = [fact.object_px for fact in inspection.facts if fact.object_px]
    if sides:
        typical_sides = [round(median(axis)) for axis in zip(*sides, strict=True)]
        rows.append(("Typical object size", f"{size(typical_sides)} pixels"))
    return rows


def _case_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Describe the splits, such as `6 (3 folds of 2, drawn with seed 4)`, and the patients."""
    cases = [report.case for report in inspection.examination.reports]
    tally = Counter(inspection.splits.get(case.name, "in no split") for case in cases)
    folds = sorted(tally.pop(f"fold {number}") for number in range(1, inspection.fold_count + 1))
    parts = [f"{count} {name}" for name, count in sorted(tally.items())]
    if folds:
        sizes = f"{folds[0]}" if folds[0] == folds[-1] else f"{folds[0]} to {folds[-1]}"
        parts.insert(0, f"{len(folds)} folds of {sizes}, drawn with seed {inspection.seed}")
    groups = {case.group for case in cases if case.group}
    without_group = sum(case.group is None for case in cases)
    patients = "no groups given; each case counts as a patient of its own"
    if groups:
        patients = f"{len(groups)} group{'' if len(groups) == 1 else 's'}"
        patients += f" and {without_group} cases without one" if without_group else ""
    return [("Cases", f"{len(cases)} ({', '.join(parts)})"), ("Patients", patients), *_metadata_rows(cases)]


def _metadata_rows(cases: Sequence[Case]) -> Iterator[tuple[str, str]]:
    """Describe the labels of the images and each other column of the table: its values, or how many and the first ones."""
    columns = {name: [case.metadata.get(name, "") for case in cases] for case in cases for name in case.metadata}
    rows = [("Image labels", [case.label or "" for case in cases])]
    for name, cells in [*rows, *((f"Column {name}", cells) for name, cells in columns.items())]:
        tally = Counter(cell for cell in cells if cell)
        values = ", ".join(f"{value} ({count})" for value, count in tally.most_common(MAX_VALUES_SHOWN))
        if len(tally) > MAX_VALUES_SHOWN:
            values = f"{len(tally)} values, such as {', '.join(list(tally)[:MAX_VALUES_SHOWN])}"
        if tally:
            yield name, values


def _image_rows(facts: Sequence[CaseFacts]) -> list[tuple[str, str]]:
    """Describe the kinds of images, their sizes, spacings and intensities."""
    kinds = Counter((len(fact.shape), len(fact.image), fact.dtype) for fact in facts)
    images = "; ".join(
        f"{f'{count} of ' if len(kinds) > 1 else ''}{axes}D, {channels} channel{'' if channels == 1 else 's'}, {dtype}"
        for (axes, channels, dtype), count in kinds.most_common()
    )
    sizes = _range_text([fact.shape for fact in facts], lambda axes: size([round(axis) for axis in axes]))
    spacings = [fact.spacing_um for fact in facts if fact.spacing_um]
    missing = len(facts) - len(spacings)
    spacing_range = "not given"
    if spacings:
        spacing_range = _range_text(spacings, spacing) + (f"; {missing} not given" if missing else "")
    rows = [("Images", images), ("Size", sizes), ("Spacing", spacing_range)]
    channels = len(facts[0].image)
    for channel in range(channels):
        name = "Intensity" if channels == 1 else f"Intensity, channel {channel + 1}"
        rows.append((name, _intensity_text([fact.image[channel] for fact in facts if channel < len(fact.image)])))
    return rows


def _splits_or_folds(reports: Sequence[CaseReport], options: InspectionOptions) -> tuple[dict[str, str], int]:
    """Return the split or fold of each case and the number of folds; folds are drawn where cases have no splits."""
    cases = [report.case for report in reports]
    splits = assign_splits([case for case in cases if case.split], {})
    without_split = [case for case in cases if case.split is None and case.reference is not None]
    if len({case.patient for case in without_split}) < 2:
        return splits, 0
    label_counts = {report.case.name: report.label_counts or {} for report in reports}
    folds = draw_folds(without_split, options.folds, options.seed, label_counts)
    return splits | {name: f"fold {fold + 1}" for name, fold in folds.items()}, max(folds.values()) + 1


def _range_text(values: Sequence[tuple[float, ...]], as_text: Callable[[Sequence[float]], str]) -> str:
    """Describe the values axis by axis: the value where all are equal, else the smallest, largest and median."""
    usual_axes = Counter(len(value) for value in values).most_common(1)[0][0]
    axes = list(zip(*(value for value in values if len(value) == usual_axes), strict=True))
    smallest, largest, middle = (tuple(function(axis) for axis in axes) for function in (min, max, median))
    if smallest == largest:
        return as_text(smallest)
    return f"{as_text(smallest)} to {as_text(largest)}, median {as_text(middle)}"


def _intensity_text(intensities: Sequence[Intensities]) -> str:
    """Describe one channel: its range over all cases, and the medians over the cases of three percentiles."""
    lowest, highest = min(each.minimum for each in intensities), max(each.maximum for each in intensities)
    low = significant(median(each.low for each in intensities))
    middle = significant(median(each.median for each in intensities))
    high = significant(median(each.high for each in intensities))
    typical = f"in a typical case, 0.5% of the pixels are below {low}, half below {middle}, 99.5% below {high}"
    return f"{significant(lowest)} to {significant(highest)}; {typical}"
