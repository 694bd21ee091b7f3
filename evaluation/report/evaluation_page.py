"""Page of `overtile evaluate`: the scores of one method on a data set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.comparison.paired_difference import FEW_UNITS
from evaluation.figures.score_figures import case_figure, class_figure
from evaluation.figures.score_grid import ScoreGrid
from evaluation.metrics.metric import Metric
from evaluation.metrics.registry import METRICS
from evaluation.number_text import interval, measure, unit_text
from evaluation.report.case_rows import case_rows, metric_column
from evaluation.report.html_page import render_page, write_page
from evaluation.scoring.evaluate import Evaluation, write_tables

MOST_COLUMNS = 12  # of the table of cases; more don't fit on paper


@dataclass(frozen=True)
class PageSummary:
    """First words of a page: a sentence, and remarks that limit it."""

    sentence: str
    remarks: tuple[str, ...]


def write_evaluation(evaluation: Evaluation, data: str, path: Path, *, headline: str = "") -> tuple[Path, ...]:
    """Write the page of an evaluation and, beside it, its scores as CSV and JSON; return all paths.

    Args:
        evaluation: the scores, and notes on them.
        data: name of the data set.
        path: the page; missing folders are created.
        headline: name of the metric that the page begins with; without scores in it, the first metric.

    Raises:
        OSError: a file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = write_tables([evaluation.table], path)
    write_page(render_evaluation(evaluation, data, headline=headline, files=[file.name for file in files]), path)
    return path, *files


def render_evaluation(evaluation: Evaluation, data: str, *, headline: str = "", files: Sequence[str] = ()) -> str:
    """Return the page of an evaluation as HTML.

    Args:
        evaluation: the scores, and notes on them.
        data: name of the data set.
        headline: as in `write_evaluation`.
        files: names of the files beside the page that hold its numbers.
    """
    grid = ScoreGrid((evaluation.table,))
    metric = next((metric for metric in grid.metrics if metric.name == headline), next(iter(grid.metrics), None))
    columns = [metric_column(grid, metric, 0) for metric in grid.metrics[:MOST_COLUMNS]]
    with_classes = any(len(grid.classes_of(metric.name)) > 1 for metric in grid.metrics)
    return render_page(
        "evaluation.html.j2",
        grid=grid,
        data=data,
        files=files,
        summary=_summarise(grid, metric, evaluation.notes),
        headline=metric,
        figures=[case_figure(grid, metric) for metric in grid.metrics],
        directions=_directions(grid),
        with_classes=with_classes,
        class_figure=class_figure(grid, metric) if metric else None,
        pooled=[(METRICS[score.metric], score) for score in evaluation.table.pooled],
        grouped=any(grid.groups.values()),
        case_columns=columns,
        case_rows=case_rows(grid, columns),
    )


def _summarise(grid: ScoreGrid, metric: Metric | None, notes: Sequence[str]) -> PageSummary:
    """Return the page's first words: the mean of the headline, what limits it, and the notes."""
    if metric is None:
        return PageSummary("There are no scores.", tuple(notes))
    return PageSummary(_sentence(grid, metric), (*_remarks(grid, metric), *notes))


def _sentence(grid: ScoreGrid, metric: Metric) -> str:
    """Return the mean of a metric with its interval."""
    unit, row = grid.unit_of(metric.name), grid.summary(metric.name, 0)
    if not row.cases:
        return f"No case has a {metric.title}."
    ends = grid.mean_interval(metric.name, 0)
    certainty = f" (95% interval {interval(ends, unit)})" if ends else ""
    count, name = grid.units
    cases = "1 case" if row.cases == 1 else f"{row.cases:,} cases"
    over = f"{count:,} groups with {cases}" if name == "group" else cases
    return f"The mean {metric.title} is {_with_unit(row.mean, unit)}{certainty} over {over}."


def _with_unit(value: float, unit: str) -> str:
    return f"{measure(value, unit)} {unit_text(unit)}" if unit else measure(value, unit)


def _directions(grid: ScoreGrid) -> str:
    """Return a sentence that says for which metrics higher values are better, and for which lower ones."""
    lower = [metric.title for metric in grid.metrics if metric.better == "lower"]
    zero = [metric.title for metric in grid.metrics if metric.better == "zero"]
    sentences = ["Higher is better"]
    if lower:
        sentences.append(f"lower for {', '.join(lower)}")
    if zero:
        sentences.append(f"nearer to 0 for {', '.join(zero)}")
    return "; ".join(sentences) + "."


def _remarks(grid: ScoreGrid, metric: Metric) -> Iterator[str]:
    """Yield the range over cases and classes, the cases without a value, and what limits the interval."""
    unit, row, values = grid.unit_of(metric.name), grid.summary(metric.name, 0), grid.values(metric.name, 0)
    if row.cases > 1:
        lowest, highest = values.index(row.lowest), values.index(row.highest)
        yield (
            f"It is between {measure(row.lowest, unit)} ({grid.cases[lowest]}) "
            f"and {measure(row.highest, unit)} ({grid.cases[highest]})."
        )
    means = {name: grid.summary(metric.name, 0, name).mean for name in grid.classes_of(metric.name)}
    means = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if len(means) > 1:
        low, high = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
        yield f"By class it is between {measure(means[low], unit)} ({low}) and {measure(means[high], unit)} ({high})."
    if row.missing:
        cases = "1 case has" if row.missing == 1 else f"{row.missing} cases have"
        yield f"{cases} no {metric.title}, since neither the mask nor the reference has foreground."
    count, name = grid.units
    if 0 < count < FEW_UNITS:
        yield f"With {count} {name}{'' if count == 1 else 's'} the interval is no evidence for other {name}s."
