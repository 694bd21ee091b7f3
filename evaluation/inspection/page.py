"""HTML page of `overtile inspect`: one file with the summary, problems, plots and example pictures of a data set."""

from collections import Counter
from pathlib import Path

from evaluation.inspection.data_summary import Inspection, summary_rows
from evaluation.inspection.examples import draw_examples
from evaluation.inspection.fact_plots import class_plot, geometry_plot, intensity_plot
from evaluation.rendering import CLASS_COLOURS, DARK, LIGHT
from evaluation.report.html_page import render_page, write_page

TEMPLATE = "inspection.html.j2"
MAX_ROWS = 2000  # in the table of cases; a browser gets slow beyond


def write_inspection(inspection: Inspection, path: Path) -> None:
    """Write the page, and create missing folders.

    Raises:
        OSError: the file can't be written.
    """
    write_page(render_inspection(inspection), path)


def render_inspection(inspection: Inspection) -> str:
    """Return the page as HTML."""
    colours = (inspection.colours or CLASS_COLOURS)[1:]
    classes = [share for share in inspection.classes if share.label > 0]
    return render_page(
        TEMPLATE,
        inspection=inspection,
        examination=inspection.examination,
        name=inspection.data.resolve().name,
        summary=summary_rows(inspection),
        legend=[(colours[(share.label - 1) % len(colours)], share.name) for share in classes],
        plots=_draw_plots(inspection),
        examples=draw_examples(inspection.examination, inspection.colours),
        reports=inspection.examination.reports[:MAX_ROWS],
        problem_counts=Counter(problem.case for problem in inspection.examination.problems),
    )


def _draw_plots(inspection: Inspection) -> list[tuple[str, bytes, bytes]]:
    """Draw each plot for a light and for a dark page, with its alternative text."""
    if not inspection.facts:
        return []
    plots = [
        ("Sizes and spacings of the images; dots are larger where more images share a value.", geometry_plot),
        ("Intensities of each case, sorted by their median.", intensity_plot),
    ]
    if inspection.classes:
        plots.append(("Share of each class in each reference.", class_plot))
    return [(alt, plot(inspection, LIGHT), plot(inspection, DARK)) for alt, plot in plots]
