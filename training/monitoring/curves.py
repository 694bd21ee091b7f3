"""Curves of a run's history as one figure, in the colours of a light or a dark page."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import ColourScheme
from training.monitoring.history import STEP, Entry

RATE, PATCH_SCORE = "learning_rate", "patch_dice"  # prefixes of keys in the history
LOGARITHMIC_RATIO = 20  # of the largest value to the smallest, above which an axis may be logarithmic
MEMORY = (
    ("device_bytes", "GPU, peak"),
    ("memory_bytes", "process"),
    ("peak_bytes", "process, peak"),
)

Curve = tuple[list[int], list[float]]  # steps and values


def curve_plot(entries: Sequence[Entry], score: str, scheme: ColourScheme) -> bytes:
    """Draw a PNG of loss and scores, learning rate and gradient, memory and speed, two panels a row.

    Args:
        entries: the run's history.
        score: the name of the validation score.
        scheme: the page's colours.
    """
    figure = Figure(figsize=(9.2, 7.6), layout=ConstrainedLayoutEngine(h_pad=0.1))
    (loss, scores), (rate, gradient), (memory, speed) = figure.subplots(3, 2, height_ratios=(1.6, 1, 1))
    _panel(loss, "Patch loss", [("", curve(entries, "loss"))], scheme, logarithmic=True)
    validation = score_curve(entries, score)
    patches = [("patches", curve(entries, key)) for key in _keys(entries, PATCH_SCORE)]
    # not from zero: the last points lie close together
    _panel(scores, f"Score: {score_label(score)}", [*patches, ("validation", validation)], scheme, from_zero=False)
    if best := best_of(entries, score):
        scores.scatter(*best, s=90, facecolors="none", edgecolors=scheme.text, linewidths=1.4, zorder=4)
    rates = [(key.removeprefix(RATE).strip(), curve(entries, key)) for key in _keys(entries, RATE)]
    if all(values == rates[0][1] for _, values in rates):  # the same in all groups of weights
        rates = rates[:1]
    _panel(rate, "Learning rate", rates, scheme)
    _panel(gradient, "Gradient norm", [("", curve(entries, "gradient_norm"))], scheme, logarithmic=True)
    memory_bytes = [(label, curve(entries, key)) for key, label in MEMORY]
    memory_gib = [(label, (steps, [value / 2**30 for value in values])) for label, (steps, values) in memory_bytes]
    _panel(memory, "Memory, GiB", memory_gib, scheme)
    _panel(speed, "Patches per second", [("", curve(entries, "patches_per_s"))], scheme)
    for axes in (memory, speed):
        axes.set_xlabel("step", color=scheme.text, fontsize=10)
    return figure_to_png(figure, dpi=150, transparent=True)


def curve(entries: Sequence[Entry], key: str) -> Curve:
    """Return the steps and finite values of the entries that have a key."""
    pairs = [(entry[STEP], entry.get(key)) for entry in entries]
    finite = [(step, value) for step, value in pairs if isinstance(value, int | float) and math.isfinite(value)]
    return [step for step, _ in finite], [value for _, value in finite]


def score_curve(entries: Sequence[Entry], score: str) -> Curve:
    """Return the steps and finite values of a validation score."""
    return curve([{STEP: entry[STEP], **entry["scores"]} for entry in entries if "scores" in entry], score)


def score_label(score: str) -> str:
    """Return the name of a score as the page shows it."""
    return score.replace("dice", "Dice")


def best_of(entries: Sequence[Entry], score: str) -> tuple[int, float] | None:
    """Return step and value of the best validation, the first of equal ones; None if none has a finite score."""
    steps, values = score_curve(entries, score)
    place = max(range(len(values)), key=values.__getitem__, default=None)
    return None if place is None else (steps[place], values[place])


def _keys(entries: Sequence[Entry], prefix: str) -> list[str]:
    return sorted({key for entry in entries for key in entry if key.startswith(prefix)})


def _panel(
    axes: Axes,
    title: str,
    curves: Sequence[tuple[str, Curve]],
    scheme: ColourScheme,
    *,
    logarithmic: bool = False,
    from_zero: bool = True,
) -> None:
    """Draw up to three curves, if `logarithmic` on a logarithmic axis where the values span a large range."""
    style_axes(axes, scheme)
    axes.set_title(title, loc="left", fontsize=11, color=scheme.text)
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)
    nonempty = [(name, steps, values) for name, (steps, values) in curves if steps]
    if not nonempty:
        axes.text(0.5, 0.5, "no values yet", ha="center", color=scheme.text, transform=axes.transAxes)
        axes.set_xticks(())
        axes.set_yticks(())
        return
    for (name, steps, values), colour in zip(nonempty, (scheme.first, scheme.second, scheme.text), strict=False):
        marker = "o" if len(steps) <= 40 else ""
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3.2, label=name)
    lowest = min(value for _, _, values in nonempty for value in values)
    highest = max(value for _, _, values in nonempty for value in values)
    if logarithmic and lowest > 0 and highest > LOGARITHMIC_RATIO * lowest:
        axes.set_yscale("log")
    elif from_zero and lowest >= 0:
        axes.set_ylim(bottom=0)
    if len(nonempty) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=scheme.text)
