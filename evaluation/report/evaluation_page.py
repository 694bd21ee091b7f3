"""Page of `overtile evaluate`: the scores of one method on a data set."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.figures.score_figures import case_figure, class_figure
from evaluation.figures.score_grid import ScoreGrid
from evaluation.metrics.registry import METRICS
from evaluation.report.case_rows import case_rows, metric_column
from evaluation.report.evaluation_summary import describe_directions, summarise
from evaluation.report.html_page import render_page, write_page
from evaluation.scoring.evaluate import Evaluation, write_tables

MOST_COLUMNS = 12  # of the table of cases; more don't fit on paper


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
        summary=summarise(grid, metric, evaluation.notes),
        headline=metric,
        figures=[case_figure(grid, metric) for metric in grid.metrics],
        directions=describe_directions(grid),
        with_classes=with_classes,
        class_figure=class_figure(grid, metric) if metric else None,
        pooled=[(METRICS[score.metric], score) for score in evaluation.table.pooled],
        grouped=any(grid.groups.values()),
        case_columns=columns,
        case_rows=case_rows(grid, columns),
    )
