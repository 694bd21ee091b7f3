"""Scores of one or more methods, arranged by metric, class, method and case, and the numbers that summarise them."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from evaluation.comparison.bootstrap_interval import mean_interval, unit_means
from evaluation.metrics.metric import Metric
from evaluation.metrics.overlap import nan_mean
from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import ScoreTable

Values = tuple[float, ...]
Interval = tuple[float, float]
Key = tuple[int, str, str | None]  # method, metric, class


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Summary of a metric over the cases of a method.

    Args:
        mean: mean over the units that have a value, see `ScoreGrid.units`; NaN where none has.
        case_mean: mean over the cases that have a value.
        median: median over the same cases.
        lowest: smallest value.
        highest: largest value.
        units: number of units that have a value.
        cases: number of cases that have a value.
        missing: number of cases without one.
        remarks: number of scores with each remark.
    """

    mean: float
    case_mean: float
    median: float
    lowest: float
    highest: float
    units: int
    cases: int
    missing: int
    remarks: dict[str, int]


@dataclass(frozen=True)
class ScoreGrid:
    """Scores of methods on the same cases.

    Args:
        tables: one table for each method.
        absolute: values of metrics whose best value is zero are absolute, so that the nearer one is the lower one.
    """

    tables: tuple[ScoreTable, ...]
    absolute: bool = False

    @cached_property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases of all tables, in order."""
        return tuple(dict.fromkeys(case for table in self.tables for case in table.cases))

    @cached_property
    def groups(self) -> dict[str, str | None]:
        """Group of each case by the case's name."""
        return {case: group for table in self.tables for case, group in table.groups.items()}

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of all tables, in the order of the first table that has them."""
        return tuple(METRICS[name] for name in dict.fromkeys(name for table in self.tables for name in table.metrics))

    def classes_of(self, metric: str) -> tuple[str, ...]:
        """Return the names of the classes of a metric, in order."""
        return tuple(dict.fromkeys(name for table in self.tables for name in table.classes_of(metric)))

    def unit_of(self, metric: str) -> str:
        """Return the unit of a metric; units of several kinds are joined by a slash."""
        units = (unit for table in self.tables if metric in table.metrics for unit in table.unit_of(metric).split("/"))
        return "/".join(dict.fromkeys(units))

    def values(self, metric: str, method: int, class_name: str | None = None) -> Values:
        """Return a metric of each case, NaN where it isn't defined.

        Args:
            metric: name of the metric.
            method: number of the table.
            class_name: class; None: the mean over the classes that have a value.
        """
        return self._values[method, metric, class_name]

    def summary(self, metric: str, method: int, class_name: str | None = None) -> Summary:
        """Summarise a metric over the cases of a method; `class_name` as in `values`."""
        values = self.values(metric, method, class_name)
        numbers = [value for value in values if not math.isnan(value)]
        unit_means = self._unit_means(values)
        return Summary(
            mean=nan_mean(unit_means),
            case_mean=nan_mean(values),
            median=median(numbers) if numbers else math.nan,
            lowest=min(numbers, default=math.nan),
            highest=max(numbers, default=math.nan),
            units=len(unit_means),
            cases=len(numbers),
            missing=len(values) - len(numbers),
            remarks=dict(self._remarks.get((method, metric, class_name), {})),
        )

    def mean_interval(self, metric: str, method: int, class_name: str | None = None) -> Interval | None:
        """Return the 95% bootstrap interval of the mean over units; None where there is none."""
        key = method, metric, class_name
        if key not in self._intervals:
            self._intervals[key] = mean_interval(self._unit_means(self._values[key]), METRICS[metric].limits)
        return self._intervals[key]

    @property
    def units(self) -> tuple[int, str]:
        """Number and name of the units that count once in means and intervals: groups where any is known, else cases."""
        if any(self.groups.values()):
            return len(self._unit_means([0.0] * len(self.cases))), "group"
        return len(self.cases), "case"

    @cached_property
    def _intervals(self) -> dict[Key, Interval | None]:
        return {}

    @cached_property
    def _values(self) -> dict[Key, Values]:
        """Values of each case by method, metric and class; class None is the mean over the classes."""
        numbers = {case: index for index, case in enumerate(self.cases)}
        rows: dict[Key, list[float]] = {}
        for method, table in enumerate(self.tables):
            for score in table.scores:
                row = rows.setdefault((method, score.metric, score.class_name), [math.nan] * len(numbers))
                row[numbers[score.case]] = score.value
        for metric in self.metrics:
            for method in range(len(self.tables)):
                empty = [math.nan] * len(numbers)
                classes = [rows.setdefault((method, metric.name, name), empty) for name in self.classes_of(metric.name)]
                rows[method, metric.name, None] = [nan_mean(values) for values in zip(*classes, strict=True)]
        return {
            key: tuple(map(abs, row) if self.absolute and METRICS[key[1]].better == "zero" else row)
            for key, row in rows.items()
        }

    @cached_property
    def _remarks(self) -> dict[Key, Counter[str]]:
        """Number of each remark by method, metric and class; class None counts the scores of all classes."""
        counts: dict[Key, Counter[str]] = defaultdict(Counter)
        for method, table in enumerate(self.tables):
            for score in table.scores:
                if score.remark:
                    counts[method, score.metric, score.class_name][score.remark] += 1
                    counts[method, score.metric, None][score.remark] += 1
        return counts

    def _unit_means(self, values: Sequence[float]) -> list[float]:
        return unit_means(values, [self.groups[case] for case in self.cases])
