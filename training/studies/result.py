"""Result of a study: scored points of several series, which its page, picture and tables show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.comparison.bootstrap_interval import mean_interval, unit_means
from evaluation.comparison.paired_difference import paired_difference
from evaluation.metrics.overlap import nan_mean
from evaluation.metrics.registry import METRICS
from evaluation.number_text import signed
from evaluation.scoring.table import ScoreTable


@dataclass(frozen=True, kw_only=True)
class PointCost:
    """Cost of a network on the held-out cases.

    Args:
        seconds_per_image: mean time, from opening the image to its mask.
        multiply_adds_per_pixel: as Overtile tiles these images, margins included; dense for a sliding window.
        patch_by_patch_per_pixel: if each pixel's window were run separately; None for a U-Net.
        parameters: number of trained weights.
    """

    seconds_per_image: float
    multiply_adds_per_pixel: float
    patch_by_patch_per_pixel: int | None
    parameters: int


@dataclass(frozen=True, kw_only=True)
class StudyPoint:
    """A method at one setting.

    Args:
        panel: name of the plot that the point belongs to.
        series: name of its line, such as the method.
        setting: position on the axis of settings; None: a setting that does not vary, drawn as a horizontal line.
        text: the setting as tables show it.
        table: scores of the held-out cases.
        cost: cost of the network; None where it was not measured.
    """

    panel: str
    series: str
    setting: float | None
    text: str
    table: ScoreTable
    cost: PointCost | None = None

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over groups of cases, or over cases without groups; NaN where none has a value."""
        return nan_mean(self._unit_means(metric))

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the 95% bootstrap interval of that mean; None with too few groups."""
        return mean_interval(self._unit_means(metric), METRICS[metric].limits)

    def _unit_means(self, metric: str) -> list[float]:
        values, groups = self.table.case_values(metric), self.table.groups
        return unit_means(list(values.values()), [groups[case] for case in values])


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Finished study.

    Args:
        title: name of the study.
        question: question that the study answers.
        answer: sentences that follow from the numbers.
        settings_title: title of the axis of settings, with its unit.
        metrics: names of the reported metrics; the first one is the headline.
        points: all points, in the order of panels, series and settings.
        notes: how the cases were divided, and limits that a reader must know.
        logarithmic: settings are drawn on a logarithmic axis.
    """

    title: str
    question: str
    answer: tuple[str, ...]
    settings_title: str
    metrics: tuple[str, ...]
    points: tuple[StudyPoint, ...]
    notes: tuple[str, ...]
    logarithmic: bool = False

    @property
    def panels(self) -> tuple[str, ...]:
        """Names of the panels, in order."""
        return tuple(dict.fromkeys(point.panel for point in self.points))

    def series_of(self, panel: str) -> dict[str, Sequence[StudyPoint]]:
        """Return the points of each series of a panel, in order."""
        points = [point for point in self.points if point.panel == panel]
        return {name: [point for point in points if point.series == name] for name in dict.fromkeys(p.series for p in points)}


def goodness(point: StudyPoint, metric: str) -> float:
    """Return the mean of a metric with the sign that makes larger values better; minus infinity where no case has a value."""
    mean = point.mean(metric)
    if math.isnan(mean):
        return -math.inf
    return mean if METRICS[metric].better == "higher" else -abs(mean)


def difference_text(point: StudyPoint, baseline: StudyPoint, metric: str) -> str:
    """Return a sentence on the paired difference of two points, `point` minus `baseline`, with its interval if there is one."""
    groups = point.table.groups
    values, baseline_values = point.table.case_values(metric), baseline.table.case_values(metric)
    difference = paired_difference(
        [baseline_values[case] for case in values],
        list(values.values()),
        groups=[groups[case] for case in values],
        better=METRICS[metric].better,
        limits=METRICS[metric].limits,
    )
    if difference.interval is None:
        return f"There is no interval of the difference: {difference.omitted}."
    low, high = difference.interval
    return (
        f"The difference is {signed(difference.mean)} (95% interval {signed(low)} to {signed(high)}), which "
        f"{'excludes' if low > 0 or high < 0 else 'includes'} 0."
    )
