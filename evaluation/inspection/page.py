"""An inspection -> one HTML file that needs nothing else, in the look of the report of a comparison."""

from collections import Counter
from pathlib import Path

from evaluation.inspection.data_summary import Inspection, summary
from evaluation.inspection.examples import COLOURS, examples
from evaluation.inspection.fact_plots import class_plot, geometry_plot, intensity_plot
from evaluation.report import paired_plots
from evaluation.report.html_page import render_page, write_page

TEMPLATE = "inspection.html.j2"
MOST_ROWS = 2000  # of the table of cases: a browser becomes slow beyond


def write_inspection(inspection: Inspection, path: Path) -> None:
    """Writes the page; folders that are missing are made.

    Raises:
        OSError: the file can't be written.
    """
    write_page(render(inspection), path)


def render(inspection: Inspection) -> str:
    """The page as HTML; every name out of the data is escaped, and the page forbids scripts and loads."""
    return render_page(
        TEMPLATE,
        inspection=inspection,
        examination=inspection.examination,
        name=inspection.data.resolve().name,
        summary=summary(inspection),
        legend=_legend(inspection),
        plots=_plots(inspection),
        examples=examples(inspection.examination, inspection.colours),
        reports=inspection.examination.reports[:MOST_ROWS],
        problem_counts=Counter(problem.case for problem in inspection.examination.problems),
    )


def _plots(inspection: Inspection) -> list[tuple[str, bytes, bytes]]:
    """What each shows in words, and its PNG for a light and for a dark page."""
    if not inspection.facts:
        return []
    shown = [("Size and spacing of the images, a dot a value, larger where more images share it.", geometry_plot)]
    shown += [("Intensities of each case, sorted by their median.", intensity_plot)]
    shown += [("Share of each class in each reference.", class_plot)] if inspection.classes else []
    return [(words, plot(inspection, paired_plots.LIGHT), plot(inspection, paired_plots.DARK)) for words, plot in shown]


def _legend(inspection: Inspection) -> list[tuple[str, str]]:
    """Colour and name of each class but the background."""
    colours = (inspection.colours or COLOURS)[1:]
    return [(colours[(share.label - 1) % len(colours)], share.name) for share in inspection.classes if share.label > 0]
