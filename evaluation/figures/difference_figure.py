"""Strip figure of the paired differences of a comparison."""

import math
from collections.abc import Sequence

from evaluation.comparison.result import Comparison
from evaluation.figures.axis import linear_axis
from evaluation.figures.score_figures import with_interval
from evaluation.figures.strips import ROW_PX, StripFigure, StripRow, stack_dots
from evaluation.metrics.metric import Metric
from evaluation.number_text import difference, difference_interval


def difference_figure(comparison: Comparison, metric: Metric, unit: str) -> StripFigure:
    """Return the differences of every case in a metric: a row for each pair of methods, second minus first."""
    pairs = [pair for pair in comparison.pairs if pair.metric == metric.name]
    differences = [pair.difference for pair in pairs]
    ends = [end for value in differences if value.interval for end in value.interval]
    values = [value for paired in differences for value in paired.second_minus_first]
    axis = linear_axis([0.0, *values, *ends])
    rows = []
    for row, (pair, paired) in enumerate(zip(pairs, differences, strict=True)):
        sign = 1 if metric.better == "higher" else -1
        better = [pair.second if sign * value > 0 else pair.first for value in paired.second_minus_first]
        rows.append(
            StripRow(
                label="",
                methods=(pair.second, pair.first),
                note=with_interval(difference(paired.mean, unit), difference_interval(paired.interval, unit)),
                dots=stack_dots(paired.second_minus_first, axis, ROW_PX * (row + 0.5), better),
                mean=None if math.isnan(paired.mean) else axis.position(paired.mean),
                interval=paired.interval and (axis.position(paired.interval[0]), axis.position(paired.interval[1])),
            )
        )
    return StripFigure(
        axis=axis,
        rows=tuple(rows),
        description=f"Difference in {metric.title} of each case as a dot, with the mean and its 95% interval.",
        zero=axis.position(0.0),
        sides=_sides([method.label for method in comparison.methods], metric),
    )


def _sides(labels: Sequence[str], metric: Metric) -> tuple[str, str]:
    """Return which method is better where a difference is below and above 0."""
    first, second = labels if len(labels) == 2 else ("the second of the two", "the first of the two")
    below, above = (first, second) if metric.better == "higher" else (second, first)
    return f"{below} is better", f"{above} is better"
