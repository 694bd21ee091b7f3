"""Quality against cost: the points of the methods, and which of them no other point beats in both."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from evaluation.comparison.result import Comparison, ParetoPoint
from evaluation.metrics.registry import METRICS

CostKind = Literal["seconds", "multiply_adds"]


def pareto_points(comparison: Comparison, kind: CostKind) -> tuple[ParetoPoint, ...]:
    """Return the points of the bundles; a sliding window has a second one, for its cost if run patch by patch.

    Folders of masks have no points, since their cost isn't known; nor have methods without a value of the headline metric.

    Args:
        comparison: the comparison.
        kind: seconds for all cases, or multiply-adds per pixel.
    """
    points = []
    for number, method in enumerate(comparison.methods):
        quality = method.mean(comparison.headline)
        if method.cost is None or math.isnan(quality):
            continue
        if kind == "seconds":
            costs = (method.cost.seconds, method.cost.patch_by_patch_seconds)
        else:
            costs = (method.cost.multiply_adds_per_pixel, method.cost.patch_by_patch_per_pixel)
        points += [
            ParetoPoint(method=number, cost=cost, quality=quality, is_naive=bool(naive), is_on_front=False)
            for naive, cost in enumerate(costs)
            if cost is not None
        ]
    sign = 1 if METRICS[comparison.headline].better == "higher" else -1
    return tuple(replace(point, is_on_front=not _is_beaten(point, points, sign)) for point in points)


def _is_beaten(point: ParetoPoint, others: Sequence[ParetoPoint], sign: int) -> bool:
    """Return whether another point is as good in quality and cost, and better in one; sign -1: lower values are better."""
    return any(
        sign * other.quality >= sign * point.quality
        and other.cost <= point.cost
        and (other.quality, other.cost) != (point.quality, point.cost)
        for other in others
    )
