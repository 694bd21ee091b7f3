"""A comparison -> one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

from pathlib import Path

from evaluation import rendering
from evaluation.comparison.result import Comparison
from evaluation.report import paired_plots
from evaluation.report.html_page import render_page, write_page

TEMPLATE = "report.html.j2"


def write_report(comparison: Comparison, path: Path) -> None:
    """Writes the report; folders that are missing are made.

    Raises:
        OSError: the file can't be written.
    """
    write_page(render(comparison), path)


def render(comparison: Comparison) -> str:
    """The report as HTML; every name out of the data is escaped, and the page forbids scripts and loads."""
    return render_page(
        TEMPLATE,
        comparison=comparison,
        methods=comparison.methods,
        scores=_scores(comparison),
        plot_light=paired_plots.paired_plot(comparison, paired_plots.LIGHT),
        plot_dark=paired_plots.paired_plot(comparison, paired_plots.DARK),
        disagreement_colours=(rendering.ONLY_FIRST, rendering.ONLY_SECOND, rendering.NEITHER),
        grouped=any(case.group for case in comparison.cases),
        pixel_word="voxel" if comparison.dimensions == 3 else "pixel",
    )


def _scores(comparison: Comparison) -> list[tuple[str, tuple[float, float], float | None]]:
    """Rows of the first table: what, of both methods, of the floor where it has one."""
    both, floor = (0, 1), comparison.floor
    first, second = comparison.methods
    rows: list[tuple[str, tuple[float, float], float | None]] = [
        ("Dice, mean over cases", (comparison.mean_dice(0), comparison.mean_dice(1)), floor.mean_dice if floor else None),
        ("IoU, mean over cases", (comparison.mean_iou(0), comparison.mean_iou(1)), None),
        ("Dice, all pixels pooled", (first.pooled.macro_dice, second.pooled.macro_dice), floor.pooled_dice if floor else None),
    ]
    if len(comparison.classes) > 2:
        for label, section in enumerate(comparison.classes[1:], start=1):
            values = [comparison.class_dice(index, label) for index in both]
            rows.append((f"Dice of {section.name}", (values[0], values[1]), None))
    return rows
