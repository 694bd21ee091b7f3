"""Strip figures of scores: the cases by method and by class."""

import math
from collections.abc import Sequence

from evaluation.figures.axis import Axis, linear_axis
from evaluation.figures.score_grid import ScoreGrid
from evaluation.figures.strips import (
    ROW_PX,
    TALL_ROW_PX,
    CaseLine,
    StripFigure,
    StripRow,
    line_through,
    opacity_of,
    stack_dots,
)
from evaluation.metrics.metric import Metric
from evaluation.number_text import interval, measure, unit_text

MOST_ROWS = 60
MOST_LINES = 2000  # more lines than this say nothing that the dots don't


def case_figure(grid: ScoreGrid, metric: Metric) -> StripFigure:
    """Return a metric of every case: a row for each method, and a line through the rows for each case.

    The row of a single method has the name of the metric.
    """
    methods, axis = range(len(grid.tables)), score_axis(grid, metric, [None])
    unit = grid.unit_of(metric.name)
    title = f"{metric.title} ({unit_text(unit)})" if unit else metric.title
    names = [table.method for table in grid.tables] if len(grid.tables) > 1 else [title]
    lines = _case_lines(grid, metric, axis) if len(grid.tables) > 1 and len(grid.cases) <= MOST_LINES else ()
    row_px = TALL_ROW_PX if lines else ROW_PX
    return StripFigure(
        axis=axis,
        rows=tuple(
            _score_row(grid, metric, axis, middle_px=row_px * (method + 0.5), method=method, label=names[method])
            for method in methods
        ),
        description=f"{metric.title} of each case as a dot, with the mean and its 95% interval. The tables list the numbers.",
        row_px=row_px,
        lines=lines,
        line_opacity=opacity_of(len(lines)),
    )


def class_figure(grid: ScoreGrid, metric: Metric) -> StripFigure | None:
    """Return a metric of every case: a row for each class and method; None where there is one class or too many rows."""
    methods, classes = range(len(grid.tables)), grid.classes_of(metric.name)
    if not 1 < len(classes) <= MOST_ROWS / len(methods):
        return None
    axis = score_axis(grid, metric, classes)
    rows = [(name, method) for name in classes for method in methods]
    return StripFigure(
        axis=axis,
        rows=tuple(
            _score_row(grid, metric, axis, middle_px=ROW_PX * (row + 0.5), method=method, label=name, class_name=name)
            for row, (name, method) in enumerate(rows)
        ),
        description=f"{metric.title} of each case by class, with the mean and its 95% interval. The tables list the numbers.",
    )


def score_axis(grid: ScoreGrid, metric: Metric, classes: Sequence[str | None]) -> Axis:
    """Return the axis of a metric's values and intervals in these classes; it ends at 0 or 1 where no value lies beyond."""
    values: list[float] = []
    ends: list[float] = []
    for method in range(len(grid.tables)):
        for name in classes:
            values += [value for value in grid.values(metric.name, method, name) if math.isfinite(value)]
            ends += grid.mean_interval(metric.name, method, name) or ()
    values = values or [0.0, 1.0]
    low, high = min(values), max(values)
    ends = [min(max(end, 2 * low - high), 2 * high - low) for end in ends]  # wide intervals leave the cases a third of the axis
    return linear_axis([*values, *ends], (0.0 if low >= 0 else -math.inf, 1.0 if high <= 1 else math.inf))


def _score_row(
    grid: ScoreGrid, metric: Metric, axis: Axis, *, middle_px: float, method: int, label: str, class_name: str | None = None
) -> StripRow:
    values, unit = grid.values(metric.name, method, class_name), grid.unit_of(metric.name)
    mean, ends = grid.summary(metric.name, method, class_name).mean, grid.mean_interval(metric.name, method, class_name)
    return StripRow(
        label=label,
        methods=(method,) if len(grid.tables) > 1 else (),
        note=with_interval(measure(mean, unit), interval(ends, unit)) if not math.isnan(mean) else "no case has a value",
        dots=stack_dots(values, axis, middle_px, [method] * len(values)),
        mean=None if math.isnan(mean) else axis.position(mean),
        interval=ends and (axis.position(ends[0]), axis.position(ends[1])),
    )


def _case_lines(grid: ScoreGrid, metric: Metric, axis: Axis) -> tuple[CaseLine, ...]:
    """Return the line of each case, in the colour of the method that is best in it."""
    unit = grid.unit_of(metric.name)
    lines = []
    for case, values in zip(
        grid.cases, zip(*(grid.values(metric.name, method) for method in range(len(grid.tables))), strict=True), strict=True
    ):
        best = best_of(values, metric)
        if best is not None:
            text = f"{case}: {' / '.join(measure(value, unit) for value in values)}"
            lines.append(CaseLine(path=line_through(values, axis, TALL_ROW_PX), method=best, text=text))
    return tuple(lines)


def best_of(values: Sequence[float], metric: Metric) -> int | None:
    """Return the position of the best value of a metric, the first of equal ones; None where all are NaN."""
    ranks = {
        index: -value if metric.better == "higher" else value if metric.better == "lower" else abs(value)
        for index, value in enumerate(values)
        if not math.isnan(value)
    }
    return min(ranks, key=lambda index: ranks[index], default=None)


def with_interval(mean: str, ends: str) -> str:
    """Return the text of a mean and, where there is one, of its interval."""
    return mean if len(ends) == 1 else f"{mean} ({ends})"
