"""Reliability diagrams: how often pixels are right, by how certain the network is of them, before and after calibration."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import ColourScheme
from models.calibration import Calibration, Reliability


def reliability_diagram(calibration: Calibration, scheme: ColourScheme) -> bytes:
    """Draw a PNG of the reliability before (left) and after (right), each over the shares of pixels in the bins."""
    figure = Figure(figsize=(9.2, 4.9), layout=ConstrainedLayoutEngine(wspace=0.06))
    panels = figure.subplots(2, 2, height_ratios=(3.4, 1), sharex=True, sharey="row")
    titles = "Network's own probabilities", f"With temperature {calibration.temperature:.3g}"
    for (upper, lower), title, part in zip(panels.T, titles, (calibration.before, calibration.after), strict=True):
        _draw_accuracy(upper, part, scheme)
        upper.set_title(f"{title}: ECE {part.ece:.3f}", fontsize=11, color=scheme.text, loc="left")
        style_axes(lower, scheme)
        bins = len(part.pixels)
        lower.bar((np.arange(bins) + 0.5) / bins, np.array(part.pixels) / sum(part.pixels), 0.86 / bins, color=scheme.line)
        lower.grid(axis="y", color=scheme.line, linewidth=0.6)
        lower.set_xlabel("confidence", color=scheme.text, fontsize=10)
    panels[0, 0].set_ylabel("share of right pixels", color=scheme.text, fontsize=10)
    panels[1, 0].set_ylabel("share of pixels", color=scheme.text, fontsize=10)
    return figure_to_png(figure, dpi=150, transparent=True)


def _draw_accuracy(axes: Axes, part: Reliability, scheme: ColourScheme) -> None:
    """Draw the accuracy of each bin as a bar, its distance from the confidence, and the diagonal of perfect reliability."""
    style_axes(axes, scheme)
    filled = np.array(part.pixels) > 0
    confidence, accuracy = np.array(part.confidence)[filled], np.array(part.accuracy)[filled]
    centres = ((np.arange(len(part.pixels)) + 0.5) / len(part.pixels))[filled]
    width = 0.86 / len(part.pixels)
    axes.bar(centres, accuracy, width, color=scheme.first, label="right pixels")
    axes.bar(
        centres,
        np.abs(confidence - accuracy),
        width,
        bottom=np.minimum(confidence, accuracy),
        color="none",
        edgecolor=scheme.second,
        hatch="////",
        linewidth=0.9,
        label="distance from the confidence",
    )
    axes.plot((0, 1), (0, 1), color=scheme.text, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, labelcolor=scheme.text, loc="upper left")
