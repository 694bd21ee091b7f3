"""The page docs/metrics.md lists every metric of the registry, in its words."""

from pathlib import Path

import pytest

from evaluation.metrics.metric import Metric
from evaluation.metrics.registry import METRICS
from evaluation.metrics.surface_distance import STRUCTURE_LIMIT_PX
from evaluation.scoring.whole_case import MOST_HELD_PX

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text(encoding="utf-8")


def row_of(metric: Metric) -> str:
    """Return the metric's row in its kind's table, with the pipes of its convention escaped."""
    unit = "um or px" if metric.unit == "distance" else metric.unit
    convention = metric.convention.replace("|", "\\|")
    return f"| `{metric.name}` | {metric.title} | {unit} | {metric.better} | {convention} |"


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_the_page_has_the_row_of_each_metric_below_its_kind(metric: Metric) -> None:
    sections = {section.partition("\n")[0].lower().replace(" ", "_"): section for section in PAGE.split("\n## ")[1:]}
    assert row_of(metric) in sections[metric.kind].splitlines()


def test_the_page_has_no_other_metrics() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows == sorted(rows, key=list(map(row_of, METRICS.values())).index)
    assert len(rows) == len(METRICS)


def test_the_page_names_the_limits_of_size() -> None:
    assert f"box is above {STRUCTURE_LIMIT_PX:,} pixels" in PAGE
    assert f"an image above {MOST_HELD_PX:,} pixels" in PAGE
