"""Files of a finished study: its page, its picture, and the scores of every point as CSV."""

import csv
import math
from pathlib import Path

from disk.publish import publish
from evaluation.metrics.registry import METRICS
from evaluation.rendering import DARK, LIGHT
from evaluation.report.html_page import render_page, write_page
from training.studies.picture import draw_study
from training.studies.result import StudyResult

PAGE, PICTURE, TABLE = "study.html", "study.png", "study.csv"  # in the study's folder
COLUMNS = ("panel", "method", "setting", "case", "group", "metric", "class", "value", "unit", "remark")


def write_study(result: StudyResult, name: str, folder: Path) -> Path:
    """Write the page, the picture and the table of a study, and return the page's path.

    Args:
        result: the finished study.
        name: name of the data set, for the heading.
        folder: the study's folder.
    """
    picture = draw_study(result, LIGHT)
    titles = ", ".join(METRICS[metric].title for metric in result.metrics)
    page = render_page(
        "study.html.j2",
        result=result,
        name=name,
        metrics=[METRICS[metric] for metric in result.metrics],
        units={metric: result.points[0].table.unit_of(metric) for metric in result.metrics},
        costs=all(point.cost for point in result.points),
        picture_light=picture,
        picture_dark=draw_study(result, DARK),
        alt=f"{titles} against {result.settings_title}; the numbers are in the table below.",
    )
    write_page(page, folder / PAGE)
    publish(folder / PICTURE, lambda part: part.write_bytes(picture))
    publish(folder / TABLE, lambda part: _write_table(part, result))
    return folder / PAGE


def _write_table(path: Path, result: StudyResult) -> None:
    """Write a line for each case, class and metric of each point; the value is empty where it isn't defined."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for point in result.points:
            for score in point.table.scores:
                value = "" if math.isnan(score.value) else repr(score.value)
                names = (point.panel, point.series, point.text, score.case, score.group or "", score.metric, score.class_name)
                writer.writerow((*names, value, score.unit, score.remark))
