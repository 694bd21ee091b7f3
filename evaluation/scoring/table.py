"""Table of scores: one value for each case, class and metric of one method, with its CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evaluation.metrics.overlap import nan_mean
from inference.image_label import as_text

COLUMNS = ("method", "case", "group", "metric", "class", "value", "unit", "remark")


@dataclass(frozen=True)
class Score:
    """Score of one case.

    Args:
        case: name of the case.
        group: patient of the case; None where it is unknown.
        metric: name of the metric in the registry.
        class_name: name of the class; empty for scores of all classes together.
        value: NaN where the metric isn't defined for the case.
        unit: unit of the value: empty, "%", "um" or "px".
        remark: reason why the value is a convention rather than a measurement, such as `one_sided`; empty without one.
    """

    case: str
    group: str | None
    metric: str
    class_name: str
    value: float
    unit: str = ""
    remark: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one method on the cases of a data set, in the order of the cases.

    Args:
        method: name of the method.
        scores: scores of the cases.
        pooled: scores of all cases together, such as the accuracy of the images' labels; their `case` is empty.
    """

    method: str
    scores: tuple[Score, ...]
    pooled: tuple[Score, ...] = ()

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases, in order."""
        return tuple(dict.fromkeys(score.case for score in self.scores))

    @property
    def groups(self) -> dict[str, str | None]:
        """Group of each case by the case's name."""
        return {score.case: score.group for score in self.scores}

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in order."""
        return tuple(dict.fromkeys(score.metric for score in self.scores))

    def classes_of(self, metric: str) -> tuple[str, ...]:
        """Return the names of the classes that a metric was computed for, in order."""
        return tuple(dict.fromkeys(score.class_name for score in self.scores if score.metric == metric))

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric; units of several kinds, such as um and px, are joined by a slash."""
        return "/".join(dict.fromkeys(score.unit for score in self.scores if score.metric == metric))

    def case_values(self, metric: str, class_name: str | None = None) -> dict[str, float]:
        """Return a metric by case, NaN where it isn't defined.

        Args:
            metric: name of the metric.
            class_name: class; None: the mean over the classes that have a value.
        """
        values: dict[str, list[float]] = {name: [] for name in self.cases}
        for score in self.scores:
            if score.metric == metric and class_name in (None, score.class_name):
                values[score.case].append(score.value)
        return {case: nan_mean(case_values) for case, case_values in values.items()}

    def mean(self, metric: str, class_name: str | None = None) -> float:
        """Return the mean of `case_values` over the cases that have a value; NaN where none has."""
        return nan_mean(self.case_values(metric, class_name).values())


def tables_to_csv(tables: Iterable[ScoreTable]) -> str:
    """Return the scores of several methods as CSV, one line for each score; the value is empty where it isn't defined.

    Cells that a spreadsheet would take for a formula begin with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for score in (*table.scores, *table.pooled):
            value = "" if math.isnan(score.value) else repr(score.value)
            names = (table.method, score.case, score.group or "", score.metric, score.class_name)
            writer.writerow((*map(as_text, names), value, score.unit, score.remark))
    return file.getvalue()


def tables_to_json(tables: Iterable[ScoreTable]) -> str:
    """Return the scores of several methods as JSON, with null where a value isn't defined."""
    rows: list[dict[str, Any]] = [
        {
            "method": table.method,
            "case": score.case,
            "group": score.group,
            "metric": score.metric,
            "class": score.class_name,
            "value": None if math.isnan(score.value) else score.value,
            "unit": score.unit,
            "remark": score.remark,
        }
        for table in tables
        for score in (*table.scores, *table.pooled)
    ]
    return json.dumps({"scores": rows}, indent=1, allow_nan=False)
