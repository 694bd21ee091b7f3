"""First words of the page of an evaluation, which follow from its numbers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.comparison.paired_difference import FEW_UNITS
from evaluation.figures.score_grid import ScoreGrid
from evaluation.metrics.metric import Metric
from evaluation.number_text import interval, measure, unit_text


@dataclass(frozen=True)
class PageSummary:
    """First words of a page: a sentence, and remarks that limit it."""

    sentence: str
    remarks: tuple[str, ...]


def summarise(grid: ScoreGrid, metric: Metric | None, notes: Sequence[str]) -> PageSummary:
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
    cases = "1 case" if row.cases == 1 else f"{row.cases:,} cases"
    value = f"{measure(row.mean, unit)} {unit_text(unit)}" if unit else measure(row.mean, unit)
    over = f"{row.units:,} group{'' if row.units == 1 else 's'} with {cases}" if grid.units[1] == "group" else cases
    return f"The mean {metric.title} is {value}{certainty} over {over}."


def describe_directions(grid: ScoreGrid) -> str:
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
            f"The cases lie between {measure(row.lowest, unit)} ({grid.cases[lowest]}) "
            f"and {measure(row.highest, unit)} ({grid.cases[highest]})."
        )
    means = {name: grid.summary(metric.name, 0, name).mean for name in grid.classes_of(metric.name)}
    means = {name: mean for name, mean in means.items() if not math.isnan(mean)}
    if len(means) > 1:
        low, high = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
        yield f"The classes' means lie between {measure(means[low], unit)} ({low}) and {measure(means[high], unit)} ({high})."
    if row.missing:
        cases = "1 case has" if row.missing == 1 else f"{row.missing} cases have"
        yield f"{cases} no {metric.title}, since neither the mask nor the reference has foreground."
    name = grid.units[1]
    if 0 < row.units < FEW_UNITS:
        yield f"With {row.units} {name}{'' if row.units == 1 else 's'} the interval is no evidence for other {name}s."
