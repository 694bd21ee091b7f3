"""Rows of the table of cases: one for each case, which opens with all of its scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.figures.score_grid import ScoreGrid
from evaluation.metrics.metric import Metric
from evaluation.number_text import measure, unit_text
from evaluation.scoring.table import Score


@dataclass(frozen=True)
class CaseRow:
    """Row of a case.

    Args:
        name: name of the case.
        group: group of the case; None where it is unknown.
        cells: text of each column.
        details: all scores of the case as lines of cells that tabs separate; the first line is the head.
    """

    name: str
    group: str | None
    cells: tuple[str, ...]
    details: str


@dataclass(frozen=True)
class CaseColumn:
    """Column of the table of cases.

    Args:
        title: title of the column.
        texts: text of each case.
        unit: unit of the values; empty without one.
        method: number of the method; None for a column that is about no single method.
    """

    title: str
    texts: tuple[str, ...]
    unit: str = ""
    method: int | None = None


def metric_column(grid: ScoreGrid, metric: Metric, method: int) -> CaseColumn:
    """Return the column of a metric by a method; its title names the metric only."""
    unit = grid.unit_of(metric.name)
    values = grid.values(metric.name, method)
    return CaseColumn(metric.title, tuple(measure(value, unit) for value in values), unit, method)


def case_rows(grid: ScoreGrid, columns: Sequence[CaseColumn]) -> list[CaseRow]:
    """Return a row for each case, in order, with the texts of the columns."""
    details = _details(grid)
    return [
        CaseRow(case, grid.groups[case], tuple(column.texts[index] for column in columns), details[case])
        for index, case in enumerate(grid.cases)
    ]


def _details(grid: ScoreGrid) -> dict[str, str]:
    """Return the details of each case: a line for each metric and class, with the value of each method and its remarks."""
    titles = {metric.name: metric.title for metric in grid.metrics}
    units = {metric.name: grid.unit_of(metric.name) for metric in grid.metrics}
    scores: dict[str, dict[tuple[str, str], list[Score | None]]] = {case: {} for case in grid.cases}
    for method, table in enumerate(grid.tables):
        for score in table.scores:
            line = scores[score.case].setdefault((score.metric, score.class_name), [None] * len(grid.tables))
            line[method] = score
    names = [_one_cell(table.method) for table in grid.tables] if len(grid.tables) > 1 else ["Value"]
    head = "\t".join(("Metric", "Class", *names, "Remarks"))
    texts = {}
    for case, lines in scores.items():
        rows = [head]
        for (metric, class_name), line in lines.items():
            unit = units[metric]
            title = f"{titles[metric]} ({unit_text(unit)})" if unit else titles[metric]
            values = [measure(math.nan if score is None else score.value, unit) for score in line]
            remarks = dict.fromkeys(score.remark.replace("_", " ") for score in line if score and score.remark)
            rows.append("\t".join((title, _one_cell(class_name), *values, "; ".join(remarks))).rstrip("\t"))
        texts[case] = "\n".join(rows)
    return texts


def _one_cell(name: str) -> str:
    """Return a name without the tabs and line breaks that separate cells."""
    return " ".join(name.split())
