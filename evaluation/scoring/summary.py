"""Summary of scores for a bundle: means over cases and by class, with the convention of each metric."""

import math
from collections.abc import Sequence

from evaluation.metrics.registry import METRICS
from evaluation.scoring.table import Score, ScoreTable
from models.bundle_metrics import BundleMetrics, CaseScore, MetricSummary


def summarise(table: ScoreTable, *, left_out: Sequence[str] = (), notes: Sequence[str] = ()) -> BundleMetrics:
    """Return the scores of a table as a bundle holds them; without groups, which often are names of patients."""
    return BundleMetrics(
        notes=tuple(notes),
        left_out=tuple(left_out),
        metrics=tuple(_summary(table, name) for name in table.metrics),
        scores=tuple(
            CaseScore(
                case=score.case,
                metric=score.metric,
                class_name=score.class_name,
                value=_or_none(score.value),
                unit=score.unit,
                remark=score.remark,
            )
            for score in table.scores
        ),
    )


def pool(members: Sequence[BundleMetrics], name: str) -> BundleMetrics | None:
    """Return the scores of the cases of all folds, each by the network of its fold; None without any.

    Args:
        members: scores of each fold's validation cases.
        name: name of the ensemble.
    """
    if not members:
        return None
    scores = tuple(
        Score(
            each.case,
            None,
            each.metric,
            each.class_name,
            math.nan if each.value is None else each.value,
            each.unit,
            each.remark,
        )
        for member in members
        for each in member.scores
    )
    return summarise(
        ScoreTable(name, scores),
        left_out=[case for member in members for case in member.left_out],
        notes=[
            "Each case is scored by the network of its fold, not by the ensemble.",
            *(note for member in members for note in member.notes),
        ],
    )


def _summary(table: ScoreTable, name: str) -> MetricSummary:
    metric, values = METRICS[name], table.case_values(name).values()
    return MetricSummary(
        name=name,
        title=metric.title,
        unit=table.unit_of(name),
        better=metric.better,
        convention=metric.convention,
        mean=_or_none(table.mean(name)),
        cases=sum(not math.isnan(value) for value in values),
        classes={label: _or_none(table.mean(name, label)) for label in table.classes_of(name) if label},
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
