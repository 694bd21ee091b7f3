"""What a tuning found, for people: a table of the best trials, and a picture of all."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from evaluation.rendering import LIGHT, figure_to_png, style_axes

SHOWN = 10  # trials in the table


def tell(ranked: Sequence[tuple[int, float, Mapping[str, Any]]], score: str, console: Console) -> None:
    """Prints the first of the trials: number, score, values."""
    table = Table("trial", score, *ranked[0][2])
    for number, value, values in ranked[:SHOWN]:
        shown = (f"{each:.4g}" if isinstance(each, float) else str(each) for each in values.values())
        table.add_row(str(number), f"{value:.4f}", *shown)
    console.print(table)


def plot(study: optuna.Study, score: str, importances: Mapping[str, float]) -> bytes:
    """PNG: each trial's score and the best so far; beside it how much each key mattered, where that is known."""
    figure = Figure(figsize=(9.2 if importances else 5.6, 3.8), layout="constrained")
    panels = figure.subplots(1, 2 if importances else 1, squeeze=False)[0]
    for axes in panels:
        style_axes(axes, LIGHT)
    _draw_history(panels[0], study, score)
    if importances:
        names = list(importances)[::-1]
        panels[1].barh(names, [importances[name] for name in names], color=LIGHT.second)
        panels[1].set_title("Share of each key in the difference", fontsize=11, color=LIGHT.text, loc="left")
    return figure_to_png(figure, dpi=120)


def _draw_history(axes: Axes, study: optuna.Study, score: str) -> None:
    done = study.get_trials(states=(TrialState.COMPLETE,))
    numbers, scores = [trial.number for trial in done], [trial.value or 0.0 for trial in done]
    given_up = [trial for trial in study.get_trials(states=(TrialState.PRUNED,)) if trial.value is not None]
    axes.scatter([trial.number for trial in given_up], [trial.value or 0.0 for trial in given_up], color=LIGHT.line, s=18)
    axes.scatter(numbers, scores, color=LIGHT.first, s=22)
    axes.step(numbers, list(accumulate(scores, max)), where="post", color=LIGHT.second, linewidth=2)
    axes.set_xlabel("trial", color=LIGHT.text)
    axes.set_title(f"Validation {score}; line: best so far; grey: given up", fontsize=11, color=LIGHT.text, loc="left")
    axes.grid(color=LIGHT.line, linewidth=0.6)
