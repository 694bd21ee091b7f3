"""Selection of metrics by name and by what references hold."""

from typing import Any

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


def test_a_tolerance_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="--tolerance nan: not a distance"):
        select_metrics(KIND, ["nsd"], float("nan"))


def test_all_selects_every_metric_that_says_something() -> None:
    kinds = {metric.kind for metric in select_metrics(KIND, ["all"]).metrics}
    assert kinds == {"overlap", "structure"}
    everything = ReferenceKind(
        KIND.classes, instances=True, ordered=True, membranes=True, image_labels=("benign",), probabilities=True
    )
    assert select_metrics(everything, ["all"]).metrics == tuple(METRICS.values())


def test_defaults_follow_from_what_references_hold() -> None:
    def names(**facts: Any) -> tuple[str, ...]:
        return select_metrics(ReferenceKind(KIND.classes, **facts)).names

    assert names() == ("dice", "iou", "sensitivity", "precision", "hd95", "nsd")
    assert names(instances=True) == ("dice", "iou", "pq", "sq", "rq", "ap_dsb2018")
    assert names(membranes=True) == ("dice", "v_rand", "v_info", "pixel_error")
    assert names(ordered=True) == (*names(), "quadratic_kappa")
    assert names(probabilities=True) == (*names(), "ece", "brier", "nll")
    assert names(image_labels=("benign", "malignant")) == (
        *names(),
        "label_accuracy",
        "label_balanced_accuracy",
        "label_auc",
    )
