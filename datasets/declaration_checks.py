"""Checks of what a data set declares about itself against its files and against the config."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from datasets.cases import Case
from datasets.declared.class_values import value_text
from datasets.declared.declaration import Declaration
from datasets.labels.counts import join_first
from datasets.problems import CaseReport, Problem

Reports = Sequence[CaseReport]
Splits = Mapping[str, str]


def declared_channels(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find cases whose channels are others than declared, or than those of most cases."""
    names_of = {report.case.name: _channels(report.case) for report in reports if _channels(report.case)}
    if not names_of:
        return
    usual = Counter(names_of.values()).most_common(1)[0][0]
    others = [f"{name} ({', '.join(channels)})" for name, channels in names_of.items() if channels != usual]
    if others:
        yield Problem(
            "error",
            "declaration_differs",
            f"most cases have the channels {', '.join(usual)}, except for {join_first(others)}",
            "write a cases.csv that names the same channels, in the same order, for every case",
        )
    for report in reports:
        names = names_of.get(report.case.name, ())
        if report.facts and names and len(names) != len(report.facts.image):
            origin = report.case.declaration.origin if report.case.declaration else "the layout"
            yield Problem(
                "error",
                "declaration_differs",
                f"{origin} declares {len(names)} channels ({', '.join(names)}), the image has {len(report.facts.image)}",
                "correct one of them",
                report.case.name,
            )


def declared_labels(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find declared labels with gaps, colours that became classes, and a config that reads labels otherwise."""
    report = next((report for report in reports if report.case.declaration and report.case.reference), None)
    if report is None or report.case.declaration is None:
        return
    case, declaration = report.case, report.case.declaration
    if declaration.by_colour and case.classes == declaration.names:
        colours = [f"{value_text(value, True)} ({each.name})" for each in declaration.classes for value in each.values]
        yield Problem(
            "note",
            "reference_colours",
            f"the references hold colours: {join_first(colours)}",
            "overtile plan writes them as values of classes; name the classes with --classes, in this order",
        )
    elif declaration.labels_with_gap:
        yield Problem(
            "note",
            "labels_not_contiguous",
            f"{declaration.origin} declares the labels {join_first(declaration.labels_with_gap)}",
            "overtile plan writes them as values of classes; in masks, classes are numbered 0, 1, 2 .. in this order",
        )
    if not declaration.is_named and not declaration.is_lookup and _reading(case) != _declared_reading(declaration):
        yield Problem(
            "note",
            "declaration_differs",
            f"{declaration.origin} declares the labels {_text(*_declared_reading(declaration))}, the config has "
            f"{_text(*_reading(case))}",
            "the config is used; overtile plan writes one that agrees",
        )


def declared_cases(reports: Reports, splits: Splits) -> Iterator[Problem]:
    """Find another number of cases with a reference than declared."""
    declaration = next((report.case.declaration for report in reports if report.case.declaration), None)
    if declaration is None or declaration.training_cases is None:
        return
    count = sum(report.case.reference is not None and report.case.split != "test" for report in reports)
    if count != declaration.training_cases:
        yield Problem(
            "note",
            "declaration_differs",
            f"{declaration.origin} declares {declaration.training_cases} training cases, and {count} have a reference",
            "check that no file is missing",
        )


def _channels(case: Case) -> tuple[str, ...]:
    return case.channels or (case.declaration.channels if case.declaration else ())


def _declared_reading(declaration: Declaration) -> tuple[tuple[tuple[int, ...], ...], int | None]:
    return tuple(declared.values for declared in declaration.classes), declaration.ignored


def _reading(case: Case) -> tuple[tuple[tuple[int, ...], ...], int | None]:
    """Return the values of a case's classes, and of ignored pixels."""
    if case.class_values:
        return case.class_values.values, case.class_values.ignored
    return tuple((label,) for label in range(len(case.classes))), case.ignore_label


def _text(values: tuple[tuple[int, ...], ...], ignored: int | None) -> str:
    labels = ", ".join("+".join(map(str, each)) for each in values)
    return labels if ignored is None else f"{labels}, and ignores {ignored}"
