"""Part of a comparison's report on cost: figures of quality over cost, the table of costs, and the machines."""

from collections.abc import Callable, Iterator

from evaluation.comparison.measurement import Machine
from evaluation.comparison.pareto import CostKind, pareto_points
from evaluation.comparison.result import Comparison, Cost
from evaluation.figures.pareto import ParetoFigure, pareto_figure
from evaluation.metrics.metric import Metric
from evaluation.number_text import DASH, memory, operations, seconds, significant, spread


def pareto_figures(comparison: Comparison, headline: Metric, pixel_word: str) -> list[ParetoFigure]:
    """Return the figures of quality over seconds and over multiply-adds; none where fewer than two methods have a cost."""
    figures = []
    titles: dict[CostKind, str] = {"seconds": "seconds for all cases", "multiply_adds": f"multiply-adds per {pixel_word}"}
    for kind, title in titles.items():
        points = pareto_points(comparison, kind)
        if len({point.method for point in points}) > 1:
            higher = headline.better == "higher"
            figures.append(pareto_figure(points, title, headline.title, higher_is_better=higher))
    return figures


def cost_rows(comparison: Comparison, pixel_word: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each kind of cost, and its text for each method; methods without a cost have a dash."""
    costs = [method.cost for method in comparison.methods]
    if not comparison.cases:
        return

    def texts(text: Callable[[Cost], str]) -> list[str]:
        return [DASH if cost is None else text(cost) for cost in costs]

    yield "Time for all cases", texts(lambda cost: seconds(cost.seconds))
    if any(cost and cost.patch_by_patch_seconds for cost in costs):
        yield (
            "The same, if run patch by patch",
            texts(lambda cost: seconds(cost.patch_by_patch_seconds) if cost.patch_by_patch_seconds else DASH),
        )
    yield "Time per case, median and range", texts(lambda cost: spread(cost.measurement.seconds))
    yield f"Mega{pixel_word}s per second", texts(lambda cost: significant(comparison.pixels / 1e6 / cost.seconds))
    yield "Peak memory beyond the loaded network", texts(lambda cost: memory(cost.measurement.working_bytes))
    yield "Peak memory of the process", texts(lambda cost: memory(cost.measurement.peak_bytes))
    if any(cost and cost.measurement.device_bytes is not None for cost in costs):
        yield "Peak memory on the GPU", texts(lambda cost: memory(cost.measurement.device_bytes))
    yield f"Multiply-adds per {pixel_word}, margins included", texts(lambda cost: operations(cost.multiply_adds_per_pixel))
    if any(cost and cost.patch_by_patch_per_pixel for cost in costs):
        yield "The same, if run patch by patch", texts(lambda cost: operations(cost.patch_by_patch_per_pixel))
    yield "Parameters", texts(lambda cost: f"{cost.parameters:,}")
    bundles = [method.bundle for method in comparison.methods]
    yield "Training steps", [DASH if bundle is None else f"{bundle.training_steps:,}" for bundle in bundles]
    yield "Training time", texts(lambda cost: seconds(cost.training_seconds))


def machines_of(comparison: Comparison) -> list[Machine]:
    """Return the machines that costs were measured on, each once."""
    machines: list[Machine] = []
    for method in comparison.methods:
        if method.cost and method.cost.measurement.machine not in machines:
            machines.append(method.cost.measurement.machine)
    return machines
