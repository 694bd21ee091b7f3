"""Report of a tuning: a table of the best trials, and a plot of all scores."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import optuna
from matplotlib.figure import Figure
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from evaluation.plots import figure_to_png, style_axes
from evaluation.rendering import LIGHT

TABLE_TRIALS = 10


def print_best(ranked: Sequence[tuple[int, float, Mapping[str, Any]]], score: str, console: Console) -> None:
    """Print a table of the best trials, which are sorted by score: number, score, values."""
    table = Table("trial", score, *ranked[0][2])
    for number, value, values in ranked[:TABLE_TRIALS]:
        cells = (f"{each:.4g}" if isinstance(each, float) else str(each) for each in values.values())
        table.add_row(str(number), f"{value:.4f}", *cells)
    console.print(table)


def plot_trials(study: optuna.Study, score: str, importances: Mapping[str, float]) -> bytes:
    """Return a PNG of each trial's score and the best so far, beside the importance of each key where there are importances."""
    figure = Figure(figsize=(9.2 if importances else 5.6, 3.8), layout="constrained")
    panels = figure.subplots(1, 2 if importances else 1, squeeze=False)[0]
    for axes in panels:
        style_axes(axes, LIGHT)
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    pruned = [trial for trial in study.get_trials(states=(TrialState.PRUNED,)) if trial.value is not None]
    numbers, scores = [trial.number for trial in complete], [trial.value or 0.0 for trial in complete]
    history = panels[0]
    history.scatter([trial.number for trial in pruned], [trial.value or 0.0 for trial in pruned], color=LIGHT.line, s=18)
    history.scatter(numbers, scores, color=LIGHT.first, s=22)
    history.step(numbers, list(accumulate(scores, max)), where="post", color=LIGHT.second, linewidth=2)
    history.set_xlabel("trial", color=LIGHT.text)
    history.set_title(f"Validation {score}; line: best so far; grey: pruned", fontsize=11, color=LIGHT.text, loc="left")
    history.grid(color=LIGHT.line, linewidth=0.6)
    if importances:
        names = list(importances)[::-1]
        panels[1].barh(names, [importances[name] for name in names], color=LIGHT.second)
        panels[1].set_title("Importance of each key", fontsize=11, color=LIGHT.text, loc="left")
    return figure_to_png(figure, dpi=120)
