"""Plot of a comparison for its report: the Dice of each case, and the differences between the methods."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from evaluation.comparison.pair_result import Comparison
from evaluation.rendering import ColourScheme, figure_to_png, style_axes


def paired_plot(comparison: Comparison, scheme: ColourScheme) -> bytes:
    """Plot each case's Dice as a line between the methods (left), and the sorted differences (right), as PNG."""
    figure = Figure(figsize=(9.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    pairs = [(case.overlaps[0].macro_dice, case.overlaps[1].macro_dice) for case in comparison.cases]
    pairs = [pair for pair in pairs if not math.isnan(pair[0] + pair[1])]
    for axes in (left, right):
        style_axes(axes, scheme)
    if not pairs:
        for axes in (left, right):
            axes.text(
                0.5, 0.5, "No case has a Dice from both methods", ha="center", color=scheme.text, transform=axes.transAxes
            )
    else:
        _draw_lines(left, comparison, pairs, scheme)
        _draw_differences(right, comparison, sorted(after - before for before, after in pairs), scheme)
    return figure_to_png(figure, dpi=170, transparent=True)


def _draw_lines(axes: Axes, comparison: Comparison, pairs: Sequence[tuple[float, float]], scheme: ColourScheme) -> None:
    colours = [scheme.second if after > before else scheme.first for before, after in pairs]
    alpha = min(1.0, max(0.05, 12 / len(pairs)))
    axes.add_collection(
        LineCollection([[(0, before), (1, after)] for before, after in pairs], colors=colours, alpha=alpha, linewidths=1.2)
    )
    for method, colour in ((0, scheme.first), (1, scheme.second)):
        dice = [pair[method] for pair in pairs]
        axes.scatter([method] * len(pairs), dice, s=16, color=colour, alpha=max(0.1, alpha), zorder=3)
        mean = comparison.difference.means[method]
        axes.scatter([method], [mean], s=420, marker="_", color=scheme.text, linewidths=2.5, zorder=4)
        side, align = ((-0.11, "right"), (1.11, "left"))[method]
        axes.text(side, mean, f"{mean:.3f}", ha=align, va="center", color=scheme.text, fontsize=10)
    if comparison.baseline and not math.isnan(comparison.baseline.mean_dice):
        axes.axhline(comparison.baseline.mean_dice, color=scheme.text, linestyle=(0, (2, 3)), linewidth=1)
        axes.annotate(
            "Otsu", (0.5, comparison.baseline.mean_dice), (0, 3), textcoords="offset points",
            ha="center", color=scheme.text, fontsize=9,
        )  # fmt: skip
    axes.set_xlim(-0.45, 1.45)
    axes.set_xticks((0, 1), [method.label for method in comparison.methods])
    axes.set_title("Dice of each case (bars: means)", fontsize=11, color=scheme.text, loc="left")
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)


def _draw_differences(axes: Axes, comparison: Comparison, differences: Sequence[float], scheme: ColourScheme) -> None:
    first, second = (method.label for method in comparison.methods)
    difference = comparison.difference
    if difference.interval is not None:
        axes.axvspan(*difference.interval, color=scheme.text, alpha=0.12, linewidth=0)
    axes.axvline(difference.mean, color=scheme.text, linewidth=2)
    axes.axvline(0, color=scheme.text, linewidth=1, linestyle=(0, (4, 3)))
    colours = [scheme.second if value > 0 else scheme.first for value in differences]
    axes.scatter(differences, range(len(differences)), s=22 if len(differences) < 200 else 6, color=colours, zorder=3)
    reach = max(max(abs(value) for value in differences), 0.01) * 1.12
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.8, len(differences) - 0.2)
    axes.set_yticks(())
    sides = f"\N{LEFTWARDS ARROW} {first} better      {second} better \N{RIGHTWARDS ARROW}"
    axes.set_xlabel(sides, color=scheme.text, fontsize=10)
    band = ", band: 95% interval" if difference.interval else ""
    axes.set_title(f"Difference of each case (line: mean{band})", fontsize=11, color=scheme.text, loc="left")
    axes.grid(axis="x", color=scheme.line, linewidth=0.6)
