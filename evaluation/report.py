"""A comparison -> one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evaluation import pictures, plots
from evaluation.comparison import Comparison
from evaluation.formats import FILTERS

TEMPLATE = "report.html.j2"


def write_report(comparison: Comparison, path: Path) -> None:
    """Writes the report; folders that are missing are made.

    Raises:
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(comparison), encoding="utf-8")


def render(comparison: Comparison) -> str:
    """The report as HTML; every name out of the data is escaped, and the page forbids scripts and loads."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, base64=_base64)
    return environment.get_template(TEMPLATE).render(
        comparison=comparison,
        methods=comparison.methods,
        scores=_scores(comparison),
        plot_light=plots.paired_plot(comparison, plots.LIGHT),
        plot_dark=plots.paired_plot(comparison, plots.DARK),
        disagreement_colours=(pictures.ONLY_FIRST, pictures.ONLY_SECOND, pictures.NEITHER),
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


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
