"""Facts of a data set's cases -> plots for the page of `overtile inspect`, each drawn for a light and for a dark page."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.inspection.data_summary import Inspection
from evaluation.rendering import figure_to_png
from evaluation.report.paired_plots import Scheme, style

AXES = {2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
MOST_LINES = 400  # cases that get a line of their own
MOST_PANELS = 6  # channels
MOST_CLASSES = 20
MOST_LETTERS = 24  # of a class's name
FAR_APART = 50  # the largest median by the smallest


def geometry_plot(inspection: Inspection, scheme: Scheme) -> bytes:
    """PNG: left the sizes, right the spacings; a dot a case, larger where several are equal."""
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    usual = Counter(len(fact.shape) for fact in inspection.facts).most_common(1)[0][0]
    chosen = [fact for fact in inspection.facts if len(fact.shape) == usual]
    _dots(left, [fact.shape for fact in chosen], "pixels", scheme)
    left.set_title("Size of the images", loc="left", fontsize=11, color=scheme.text)
    spacings = [fact.spacing_um for fact in chosen if fact.spacing_um]
    _dots(right, spacings, "micrometres", scheme)
    right.set_title("Spacing of the pixels", loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def intensity_plot(inspection: Inspection, scheme: Scheme) -> bytes:
    """PNG: a line a case from percentile 0.5 to 99.5 with a dot at the median, by rising median; a panel a channel."""
    usual = Counter(len(fact.image) for fact in inspection.facts).most_common(1)[0][0]
    chosen = [fact for fact in inspection.facts if len(fact.image) == usual]
    figure = Figure(figsize=(9.2, 3.0), layout="constrained")
    panels = min(usual, MOST_PANELS)
    for number, axes in enumerate(figure.subplots(1, panels, squeeze=False, sharey=True)[0]):
        channels = sorted((fact.image[number] for fact in chosen), key=lambda channel: channel.median)
        channels = channels[:: -(-len(channels) // MOST_LINES)]
        places = np.arange(len(channels))
        width = min(6.0, max(0.6, 250 / panels / len(channels)))
        axes.vlines(
            places, [each.low for each in channels], [each.high for each in channels], color=scheme.first, linewidth=width
        )
        axes.scatter(places, [each.median for each in channels], s=5, color=scheme.second, zorder=3)
        style(axes, scheme)
        _scale(axes, [each.median for each in channels])
        axes.set_xticks(())
        axes.grid(axis="y", color=scheme.line, linewidth=0.6)
        title = "Intensity of each case" if usual == 1 else f"Intensity of each case, channel {number + 1}"
        axes.set_title(title, loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def class_plot(inspection: Inspection, scheme: Scheme) -> bytes:
    """PNG: a row a class with a dot a case, at the class's share of the reference's pixels."""
    shares = [share for share in inspection.classes if share.label > 0][:MOST_CLASSES]
    counted = [report.label_counts for report in inspection.examination.reports if report.label_counts]
    figure = Figure(figsize=(9.2, 1.1 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    style(axes, scheme)
    for place, share in enumerate(shares):
        values = [100 * counts.get(share.label, 0) / sum(counts.values()) for counts in counted]
        axes.scatter(values, [place] * len(values), s=28, color=scheme.first, alpha=max(0.15, min(0.8, 10 / len(values))))
    axes.set_yticks(range(len(shares)), [shortened(share.name) for share in shares], parse_math=False)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=scheme.line, linewidth=0.6)
    axes.set_title("Share of each reference, percent", loc="left", fontsize=11, color=scheme.text)
    return figure_to_png(figure, dpi=170, transparent=True)


def _scale(axes: Axes, medians: Sequence[float]) -> None:
    """A logarithmic one where cases lie far apart."""
    positive = [value for value in medians if value > 0]
    if positive and max(positive) > FAR_APART * min(positive):
        axes.set_yscale("symlog", linthresh=min(positive))


def shortened(name: str) -> str:
    """A name that leaves room for the plot."""
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _dots(axes: Axes, values: Sequence[tuple[float, ...]], unit: str, scheme: Scheme) -> None:
    """A column of dots an image axis."""
    style(axes, scheme)
    if not values:
        axes.text(0.5, 0.5, "not given", ha="center", color=scheme.text, transform=axes.transAxes)
        axes.set_xticks(())
        axes.set_yticks(())
        return
    names = AXES[len(values[0])]
    for place, column in enumerate(zip(*values, strict=True)):
        tally = Counter(column)
        sizes = [24 + 300 * count / len(values) for count in tally.values()]
        axes.scatter([place] * len(tally), list(tally), s=sizes, color=scheme.first, alpha=0.45, linewidths=0)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    highest = max(max(value) for value in values)
    axes.set_ylim(0, highest * 1.15)
    axes.set_ylabel(unit, color=scheme.text, fontsize=10)
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)
