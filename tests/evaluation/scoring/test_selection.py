"""Selection of metrics by name and by what references hold."""

import pytest

from configs.schema import ConfigError
from evaluation.metrics.registry import METRICS
from evaluation.scoring.selection import ReferenceKind, select_metrics

KIND = ReferenceKind(("background", "nucleus"))


def test_metrics_by_name_are_in_the_order_of_the_registry() -> None:
    assert [metric.name for metric in select_metrics(KIND, ["iou", "dice"]).metrics] == ["dice", "iou"]


def test_unknown_names_are_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"--metrics: dise, hd unknown; choose from dice, iou,? ?.*or all"):
        select_metrics(KIND, ["dise", "hd", "iou"])


def test_all_selects_every_metric() -> None:
    assert select_metrics(KIND, ["all"]).metrics == tuple(METRICS.values())
