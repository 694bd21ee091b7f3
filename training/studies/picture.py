"""Picture of a study: every metric, and the cost where it was measured, against the settings."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.metrics.registry import METRICS
from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import ColourScheme
from training.studies.result import StudyPoint, StudyResult

COLUMNS = 2  # of plots
WIDTH_IN = 9.2  # of the figure, as wide as a page


def draw_study(result: StudyResult, scheme: ColourScheme) -> bytes:
    """Draw the study as a PNG file in the colours of a scheme.

    With one panel there is a plot for each metric and one for the multiply-adds; with several panels, one of the
    headline metric for each. Bands are 95% intervals of the means.
    """
    if len(result.panels) == 1:
        plots = [(METRICS[name].title, result.panels[0], name) for name in result.metrics]
        plots += [("multiply-adds per pixel", result.panels[0], "")] if all(point.cost for point in result.points) else []
    else:
        plots = [(panel, panel, result.metrics[0]) for panel in result.panels]
    columns = min(COLUMNS, len(plots))
    rows = math.ceil(len(plots) / columns)
    figure = Figure(figsize=(WIDTH_IN, 3.1 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(plots) :]:
        axes.set_visible(False)
    for axes, (title, panel, metric) in zip(grid, plots, strict=False):
        style_axes(axes, scheme)
        unit = result.points[0].table.unit_of(metric) if metric else ""
        axes.set_title(f"{title} ({unit})" if unit else title, fontsize=10, color=scheme.text, loc="left")
        axes.grid(color=scheme.line, linewidth=0.6)
        if result.logarithmic:
            axes.set_xscale("log")
        for (name, points), colour in zip(result.series_of(panel).items(), (scheme.first, scheme.second), strict=False):
            _draw_series(axes, name, points, metric, colour)
        _label_settings(axes, result, panel)
        axes.set_xlabel(result.settings_title, fontsize=9, color=scheme.text)
    grid[0].legend(fontsize=9, frameon=False, labelcolor=scheme.text)
    return figure_to_png(figure, dpi=150, transparent=True)


def _draw_series(axes: Axes, name: str, points: Sequence[StudyPoint], metric: str, colour: str) -> None:
    """Draw a line of means with their intervals, or a horizontal line for a setting that does not vary; no metric: the cost."""
    costs = [point.cost.multiply_adds_per_pixel if point.cost else math.nan for point in points]
    values = [point.mean(metric) for point in points] if metric else costs
    intervals = [point.interval(metric) if metric else None for point in points]
    if points[0].setting is None:
        axes.axhline(values[0], color=colour, linewidth=1.8, label=name)
        if intervals[0]:
            axes.axhspan(*intervals[0], color=colour, alpha=0.12, linewidth=0)
    else:
        settings = [point.setting or 0.0 for point in points]
        axes.plot(settings, values, color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
        ends = [interval or (value, value) for interval, value in zip(intervals, values, strict=True)]
        axes.fill_between(settings, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.12, linewidth=0)
    if not metric:
        axes.set_yscale("log")
        naive = [(point.setting, point.cost.patch_by_patch_per_pixel) for point in points if point.cost and point.setting]
        if all(cost for _, cost in naive) and naive:
            (line,) = axes.plot(*zip(*naive, strict=True), color=colour, linewidth=1.2, linestyle=":", label="window by window")
            axes.legend(handles=[line], fontsize=9, frameon=False, labelcolor="linecolor")


def _label_settings(axes: Axes, result: StudyResult, panel: str) -> None:
    """Write the settings of a panel's points below the axis."""
    texts = {point.setting: point.text for point in result.points if point.panel == panel and point.setting is not None}
    axes.minorticks_off()
    axes.set_xticks(list(texts), [text.removesuffix(" px") for text in texts.values()])
