"""The history of a run -> its curves, drawn for a light and for a dark page."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from evaluation.rendering import ColourScheme, figure_to_png, style_axes
from training.monitoring.history import STEP, Entry

RATE, PATCH_SCORE = "learning_rate", "patch_dice"  # what such entries' names begin with
FAR_APART = 20  # the largest value by the smallest
Curve = tuple[list[int], list[float]]


MEMORY = (
    ("device_bytes", "on the GPU, at most"),
    ("memory_bytes", "of the process"),
    ("peak_bytes", "of the process, at most"),
)


def curve_plot(entries: Sequence[Entry], score: str, scheme: ColourScheme) -> bytes:
    """PNG: loss and scores, below them learning rate and gradient, below them memory and speed.

    Args:
        entries: the run's history.
        score: the name of the validation's score.
        scheme: the page's colours.
    """
    figure = Figure(figsize=(9.2, 7.6), layout=ConstrainedLayoutEngine(h_pad=0.1))
    (loss, scores), (rate, gradient), (memory, speed) = figure.subplots(3, 2, height_ratios=(1.6, 1, 1))
    _panel(loss, "Loss of patches", [("", curve(entries, "loss"))], scheme, logarithmic=True)
    patches = [("of patches", curve(entries, key)) for key in _names(entries, PATCH_SCORE)]
    both = [*patches, ("of validation", score_curve(entries, score))]
    _panel(scores, f"Score: {score_words(score)}", both, scheme, from_zero=False)  # the last points lie close together
    _mark_best(scores, score_curve(entries, score), scheme)
    _panel(rate, "Learning rate", _rates(entries), scheme)
    _panel(gradient, "Length of the gradient", [("", curve(entries, "gradient_norm"))], scheme, logarithmic=True)
    _panel(memory, "Memory, GiB", [(words, _scaled(curve(entries, key), 2**-30)) for key, words in MEMORY], scheme)
    _panel(speed, "Patches per second", [("", curve(entries, "patches_per_s"))], scheme)
    for axes in (memory, speed):
        axes.set_xlabel("step", color=scheme.text, fontsize=10)
    return figure_to_png(figure, dpi=150, transparent=True)


def curve(entries: Sequence[Entry], key: str) -> Curve:
    """Steps and finite values of what training says under a name."""
    found = [(entry[STEP], entry[key]) for entry in entries if _finite(entry.get(key))]
    return [step for step, _ in found], [value for _, value in found]


def score_curve(entries: Sequence[Entry], score: str) -> Curve:
    """Steps and finite values of a validation's score."""
    return curve([{STEP: entry[STEP], **entry["scores"]} for entry in entries if "scores" in entry], score)


def score_words(score: str) -> str:
    """As people write it."""
    return score.replace("dice", "Dice")


def best_of(entries: Sequence[Entry], score: str) -> tuple[int, float] | None:
    """Step and value of the best validation, the first of equals; None where none had a score."""
    steps, values = score_curve(entries, score)
    place = max(range(len(values)), key=values.__getitem__, default=None)
    return None if place is None else (steps[place], values[place])


def _rates(entries: Sequence[Entry]) -> list[tuple[str, Curve]]:
    """One a group of weights; one in all where groups have the same."""
    names = _names(entries, RATE)
    curves = [(name.removeprefix(RATE).strip(), curve(entries, name)) for name in names]
    return curves if any(found != curves[0][1] for _, found in curves) else curves[:1]


def _names(entries: Sequence[Entry], prefix: str) -> list[str]:
    return sorted({key for entry in entries for key in entry if key.startswith(prefix)})


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _scaled(found: Curve, factor: float) -> Curve:
    return found[0], [value * factor for value in found[1]]


def _panel(
    axes: Axes,
    title: str,
    curves: Sequence[tuple[str, Curve]],
    scheme: ColourScheme,
    *,
    logarithmic: bool = False,
    from_zero: bool = True,
) -> None:
    """Curves in the page's two hues and in grey, on a logarithmic axis where it is wanted and values lie far apart."""
    style_axes(axes, scheme)
    axes.set_title(title, loc="left", fontsize=11, color=scheme.text)
    axes.grid(axis="y", color=scheme.line, linewidth=0.6)
    shown = [(name, steps, values) for name, (steps, values) in curves if steps]
    if not shown:
        axes.text(0.5, 0.5, "nothing yet", ha="center", color=scheme.text, transform=axes.transAxes)
        axes.set_xticks(())
        axes.set_yticks(())
        return
    for (name, steps, values), colour in zip(shown, (scheme.first, scheme.second, scheme.text), strict=False):
        marker = "o" if len(steps) <= 40 else ""
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3.2, label=name)
    everything = [value for _, _, values in shown for value in values]
    if logarithmic and min(everything) > 0 and max(everything) > FAR_APART * min(everything):
        axes.set_yscale("log")
    elif from_zero and min(everything) >= 0:
        axes.set_ylim(bottom=0)
    if len(shown) > 1:
        axes.legend(frameon=False, fontsize=9, labelcolor=scheme.text)


def _mark_best(axes: Axes, found: Curve, scheme: ColourScheme) -> None:
    steps, values = found
    if not values:
        return
    place = max(range(len(values)), key=values.__getitem__)
    axes.scatter([steps[place]], [values[place]], s=90, facecolors="none", edgecolors=scheme.text, linewidths=1.4, zorder=4)
