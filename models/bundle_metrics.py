"""Scores of a bundle's validation cases: the content of its metrics.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MetricSummary(BaseModel):
    """Metric over the validation cases.

    Args:
        name: key of the metric, such as hd95.
        title: name on pages, such as HD95.
        unit: unit of the values; empty for a score without one.
        better: direction of better values; zero: the nearer to 0.
        convention: what is computed where libraries differ.
        mean: mean over the cases of the mean over their classes; None where no case has a value.
        cases: number of cases that have a value.
        classes: mean over the cases by class, where the metric is one of classes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower", "zero"]
    convention: str
    mean: float | None
    cases: int
    classes: dict[str, float | None] = {}


class CaseScore(BaseModel):
    """Score of a validation case: its metric, its class (empty: all together), its value and a remark such as one_sided."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    case: str
    metric: str
    class_name: str = Field(alias="class")
    value: float | None
    unit: str
    remark: str


class BundleMetrics(BaseModel):
    """Scores of the validation cases by the network of a bundle.

    Args:
        notes: what a reader of the scores must know.
        left_out: names of the validation cases that were not scored.
        metrics: means over the cases.
        scores: scores of each case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    notes: tuple[str, ...]
    left_out: tuple[str, ...]
    metrics: tuple[MetricSummary, ...]
    scores: tuple[CaseScore, ...]
