"""Plots for the page of `overtile inspect`: sizes, spacings, intensities and class shares of the cases."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.inspection.data_summary import Inspection
from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import ColourScheme

AXES = {2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
MAX_LINES = 400  # cases in an intensity plot
MAX_PANELS = 6  # channels in an intensity plot
MAX_CLASSES = 20
MAX_LETTERS = 24  # of a class's name
LOGARITHMIC_RATIO = 50  # of the largest median to the smallest, above which intensities get a logarithmic scale


def geometry_plot(inspection: Inspection, scheme: ColourScheme) -> bytes:
    """Plot the sizes (left) and spacings (right) of the images as PNG; dots are larger where images share a value."""
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    usual_axes = Counter(len(fact.shape) for fact in inspection.facts).most_common(1)[0][0]
    facts = [fact for fact in inspection.facts if len(fact.shape) == usual_axes]
    _draw_dots(left, [fact.shape for fact in facts], "pixels", scheme)
    left.set_title("Size of the images", loc="left", fontsize=11, color=scheme.text)
    spacings = [fact.spacing_um for fact in facts if fact.spacing_um]
    _draw_dots(right, spacings, "micrometres", scheme)
    right.set_title("Spacing of the pixels", loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def intensity_plot(inspection: Inspection, scheme: ColourScheme) -> bytes:
    """Plot each case's intensities as PNG: a line from percentile 0.5 to 99.5, a dot at the median, a panel per channel."""
    usual_channels = Counter(len(fact.image) for fact in inspection.facts).most_common(1)[0][0]
    facts = [fact for fact in inspection.facts if len(fact.image) == usual_channels]
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    panels = min(usual_channels, MAX_PANELS)
    for channel, axes in enumerate(figure.subplots(1, panels, squeeze=False, sharey=True)[0]):
        intensities = sorted((fact.image[channel] for fact in facts), key=lambda each: each.median)
        intensities = intensities[:: -(-len(intensities) // MAX_LINES)]
        medians = [each.median for each in intensities]
        positions = np.arange(len(intensities))
        width = min(6.0, max(0.6, 250 / panels / len(intensities)))
        lows, highs = [each.low for each in intensities], [each.high for each in intensities]
        axes.vlines(positions, lows, highs, color=scheme.first, linewidth=width)
        axes.scatter(positions, medians, s=5, color=scheme.second, zorder=3)
        style_axes(axes, scheme)
        positive = [value for value in medians if value > 0]
        if positive and max(positive) > LOGARITHMIC_RATIO * min(positive):
            axes.set_yscale("symlog", linthresh=min(positive))
        axes.set_xticks(())
        axes.grid(axis="y", color=scheme.line, linewidth=0.6)
        title = "Intensity of each case" if usual_channels == 1 else f"Intensity of each case, channel {channel + 1}"
        axes.set_title(title, loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def class_plot(inspection: Inspection, scheme: ColourScheme) -> bytes:
    """Plot each class's share of each reference as PNG: a row for each class, a dot for each case."""
    shares = [share for share in inspection.classes if share.label > 0][:MAX_CLASSES]
    label_counts = [report.label_counts for report in inspection.examination.reports if report.label_counts]
    figure = Figure(figsize=(9.2, 1.1 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    style_axes(axes, scheme)
    for row, share in enumerate(shares):
        values = [100 * counts.get(share.label, 0) / sum(counts.values()) for counts in label_counts]
        axes.scatter(values, [row] * len(values), s=28, color=scheme.first, alpha=max(0.15, min(0.8, 10 / len(values))))
    names = [
        share.name if len(share.name) <= MAX_LETTERS else f"{share.name[: MAX_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
        for share in shares
    ]
    axes.set_yticks(range(len(shares)), names, parse_math=False)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=scheme.line, linewidth=0.6)
    axes.set_title("Share of each reference, percent", loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def _draw_dots(axes: Axes, values: Sequence[tuple[float, ...]], unit: str, scheme: ColourScheme) -> None:
    """Draw a column of dots for each image axis."""
    style_axes(axes, scheme)
    if not values:
        axes.text(0.5, 0.5, "not given", ha="center", color=scheme.text, transform=axes.transAxes)
        axes.set_xticks(())
        axes.set_yticks(())
        return
    names = AXES[len(values[0])]
    for position, column in enumerate(zip(*values, strict=True)):
        tally = Counter(column)
        sizes = [24 + 300 * count / len(values) for count in tally.values()]
        axes.scatter([position] * len(tally), list(tally), s=sizes, color=scheme.first, alpha=0.45, linewidths=0)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    highest = max(max(value) for value in values)
    axes.set_ylim(0, highest * 1.15)
    axes.set_ylabel(unit, color=scheme.text, fontsize=10)
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)
