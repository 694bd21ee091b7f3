"""Figure of quality and cost: each method as a point, and the front of those that no other method beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.comparison.result import ParetoPoint
from evaluation.figures.axis import WIDTH, Axis, Tick, linear_axis, logarithmic_axis

HEIGHT_PX = 300


@dataclass(frozen=True)
class PlacedPoint:
    """Point of a method: its positions in units from the left and in pixels from the top, and the point itself."""

    x: float
    y: float
    point: ParetoPoint


@dataclass(frozen=True, kw_only=True)
class ParetoFigure:
    """Quality over cost.

    Args:
        title: what the axes show.
        quality: axis of the quality.
        cost: logarithmic axis of the cost.
        quality_ticks: heights of the quality's ticks in pixels from the top, and their texts.
        points: the methods; a sliding window has a second point for its cost patch by patch.
        front: path along the points that no other point beats in both.
        joins: path that joins the two points of a method.
        description: what the figure shows, for readers who don't see it.
    """

    title: str
    quality: Axis
    cost: Axis
    quality_ticks: tuple[Tick, ...]
    points: tuple[PlacedPoint, ...]
    front: str
    joins: str
    description: str


def pareto_figure(points: Sequence[ParetoPoint], title: str, metric_title: str, *, higher_is_better: bool) -> ParetoFigure:
    """Return the figure of these points.

    Args:
        points: quality and cost of the methods.
        title: name of the cost with its unit.
        metric_title: name of the quality.
        higher_is_better: the best quality is at the top; otherwise the axis points downwards.
    """
    values = [point.quality for point in points]
    space = 0.1 * (max(values) - min(values))
    cost, quality = logarithmic_axis([point.cost for point in points]), linear_axis([min(values) - space, max(values) + space])

    def height(position: float) -> float:
        return round(HEIGHT_PX * (1 - position / WIDTH if higher_is_better else position / WIDTH), 1)

    placed = [PlacedPoint(cost.position(point.cost), height(quality.position(point.quality)), point) for point in points]
    front = sorted((place for place in placed if place.point.is_on_front), key=lambda place: place.x)
    commands: list[str] = []
    for place in front:
        commands.append(f"H{place.x}V{place.y}" if commands else f"M{place.x} {HEIGHT_PX}V{place.y}")
    naive = {place.point.method: place for place in placed if place.point.is_naive}
    joins = [
        f"M{place.x} {place.y}H{naive[place.point.method].x}"
        for place in placed
        if not place.point.is_naive and place.point.method in naive
    ]
    return ParetoFigure(
        title=f"{metric_title} over {title}",
        quality=quality,
        cost=cost,
        quality_ticks=tuple(Tick(height(tick.position), tick.text) for tick in quality.ticks),
        points=tuple(placed),
        front="".join(commands) + (f"H{WIDTH}" if commands else ""),
        joins="".join(joins),
        description=f"Mean {metric_title} over {title}. The table of costs lists the numbers.",
    )
