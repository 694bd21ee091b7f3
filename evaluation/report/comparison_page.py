"""Page of `overtile compare`: which method is better, by how much, with what certainty, and at what cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation import rendering
from evaluation.comparison.result import Comparison
from evaluation.figures.difference_figure import difference_figure
from evaluation.figures.score_figures import best_of, case_figure, class_figure
from evaluation.figures.score_grid import Interval, ScoreGrid
from evaluation.metrics.metric import Metric
from evaluation.metrics.registry import METRICS
from evaluation.number_text import difference, percent, significant, size
from evaluation.report.case_rows import CaseColumn, case_rows, metric_column
from evaluation.report.cost_part import cost_rows, machines_of, pareto_figures
from evaluation.report.html_page import render_page


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """Row of the table of metrics.

    Args:
        metric: the metric.
        unit: unit of its values.
        means: mean of each method.
        intervals: interval of each mean; None where it is omitted.
        best: number of the method with the best mean; None where no method has one or all are equal.
        remarks: number of a method, and what is to be said of its cases.
    """

    metric: Metric
    unit: str
    means: tuple[float, ...]
    intervals: tuple[Interval | None, ...]
    best: int | None
    remarks: tuple[tuple[int, str], ...]


def render_comparison(comparison: Comparison, *, files: Sequence[str] = ()) -> str:
    """Return the report of a comparison as HTML.

    Args:
        comparison: the comparison.
        files: names of the files beside the page that hold its numbers.
    """
    grid = ScoreGrid(tuple(method.table for method in comparison.methods), absolute=True)
    headline = METRICS[comparison.headline]
    columns = list(_case_columns(comparison, grid, headline))
    pixel_word = "voxel" if comparison.dimensions == 3 else "pixel"
    figures_of_cost = pareto_figures(comparison, headline, pixel_word)
    return render_page(
        "comparison.html.j2",
        comparison=comparison,
        methods=comparison.methods,
        labels=[method.label for method in comparison.methods],
        bundles=[method.bundle for method in comparison.methods if method.bundle],
        machines=machines_of(comparison),
        grid=grid,
        headline=headline,
        metric_of=METRICS,
        metric_rows=[_metric_row(grid, metric) for metric in grid.metrics],
        with_classes=any(len(grid.classes_of(metric.name)) > 1 for metric in grid.metrics),
        case_figure=case_figure(grid, headline),
        class_figure=class_figure(grid, headline),
        difference_figure=difference_figure(comparison, headline, grid.unit_of(headline.name)),
        pareto_figures=figures_of_cost,
        has_naive=any(place.point.is_naive for figure in figures_of_cost for place in figure.points),
        has_costs=any(method.cost for method in comparison.methods),
        cost_rows=list(cost_rows(comparison, pixel_word)),
        case_columns=columns,
        case_rows=case_rows(grid, columns),
        picture_numbers={picture.name: number for number, picture in enumerate(comparison.pictures)},
        disagreement_colours=(rendering.ONLY_FIRST, rendering.ONLY_SECOND, rendering.NEITHER),
        grouped=any(grid.groups.values()),
        pixel_word=pixel_word,
        files=files,
    )


def _metric_row(grid: ScoreGrid, metric: Metric) -> MetricRow:
    methods = range(len(grid.tables))
    summaries = [grid.summary(metric.name, method) for method in methods]
    means = tuple(summary.mean for summary in summaries)
    remarks = []
    for method, summary in enumerate(summaries):
        counts = {"without a value": summary.missing} if summary.missing else {}
        counts |= {remark.replace("_", " "): count for remark, count in summary.remarks.items()}
        if counts:
            remarks.append((method, ", ".join(f"{text}: {count}" for text, count in counts.items())))
    return MetricRow(
        metric=metric,
        unit=grid.unit_of(metric.name),
        means=means,
        intervals=tuple(grid.mean_interval(metric.name, method) for method in methods),
        best=best_of(means, metric) if len(set(means)) > 1 else None,
        remarks=tuple(remarks),
    )


def _case_columns(comparison: Comparison, grid: ScoreGrid, headline: Metric) -> Iterator[CaseColumn]:
    """Yield the columns of the cases: the headline by method; for two methods also their difference, agreement and seconds."""
    unit = grid.unit_of(headline.name)
    for method in range(len(comparison.methods)):
        yield metric_column(grid, headline, method)
    if len(comparison.methods) == 2:
        values = comparison.pair(headline.name, 0, 1).difference.second_minus_first
        yield CaseColumn("Difference", tuple(difference(value, unit) for value in values))
        yield CaseColumn("Masks agree", tuple(percent(share) for share in comparison.agreements[0].equal))
    for number, result in enumerate(comparison.methods):
        if result.cost and len(comparison.methods) == 2:
            yield CaseColumn("Seconds", tuple(map(significant, result.cost.measurement.seconds)), method=number)
    yield CaseColumn("Size", tuple(size(case.shape) for case in comparison.cases))
