"""Selection of metrics: which are reported for a data set, by what its references hold or by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.schema import ConfigError
from evaluation.metrics.metric import Metric
from evaluation.metrics.registry import METRICS

ALL = "all"  # name that selects every metric that suits the data

OVERLAP = ("dice", "iou", "sensitivity", "precision")
SURFACES = ("hd95", "nsd")
OBJECTS = ("dice", "iou", "pq", "sq", "rq", "ap_dsb2018")
MEMBRANES = ("dice", "v_rand", "v_info", "pixel_error")
GRADES = ("quadratic_kappa",)
PROBABILITIES = ("ece", "brier", "nll")
IMAGE_LABELS = ("label_accuracy", "label_balanced_accuracy", "label_auc")


@dataclass(frozen=True)
class ReferenceKind:
    """Kind of the references of a data set, which decides the metrics.

    Args:
        classes: names of the classes, the background first.
        instances: references number the objects of class 1.
        ordered: classes are grades in rising order.
        membranes: class 1 is the membranes between cells.
        image_labels: classes of whole images; empty without such labels.
        probabilities: the probabilities of the classes are known beside the masks.
    """

    classes: tuple[str, ...]
    instances: bool = False
    ordered: bool = False
    membranes: bool = False
    image_labels: tuple[str, ...] = ()
    probabilities: bool = False

    def suits(self, metric: Metric) -> bool:
        """Return whether a metric says something about such references."""
        needs = {
            "objects": self.instances,
            "membranes": self.membranes,
            "ordinal": self.ordered,
            "calibration": self.probabilities,
            "image_labels": bool(self.image_labels),
        }
        return needs.get(metric.kind, True)


@dataclass(frozen=True)
class Selection:
    """Metrics that are computed, and how.

    Args:
        metrics: the metrics, in the order of the registry.
        classes: names of the classes, the background first.
        tolerance: distance up to which surfaces agree, in micrometres, or in pixels where the spacing is unknown; None: the
            longest side of a pixel.
    """

    metrics: tuple[Metric, ...]
    classes: tuple[str, ...]
    tolerance: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(metric.name for metric in self.metrics)


def select_metrics(kind: ReferenceKind, names: Sequence[str] = (), tolerance: float | None = None) -> Selection:
    """Return the metrics of these names, or without names the defaults for what the references hold.

    Raises:
        ConfigError: an unknown name, with all names, or a tolerance that is no number.
    """
    if tolerance is not None and math.isnan(tolerance):
        raise ConfigError("--tolerance nan: not a distance; give a number from 0 on")
    unknown = [name for name in names if name not in METRICS and name != ALL]
    if unknown:
        raise ConfigError(f"--metrics: {', '.join(unknown)} unknown; choose from {', '.join(METRICS)}, or all")
    selected = set(names) or set(default_names(kind))
    metrics = tuple(
        metric for metric in METRICS.values() if metric.name in selected or (ALL in selected and kind.suits(metric))
    )
    return Selection(metrics, kind.classes, tolerance)


def default_names(kind: ReferenceKind) -> tuple[str, ...]:
    """Return the names of the metrics that are reported for such references.

    Objects and membranes are scored by what they separate, all other classes by overlap and surfaces.
    """
    if kind.instances:
        names: tuple[str, ...] = OBJECTS
    elif kind.membranes:
        names = MEMBRANES
    else:
        names = (*OVERLAP, *SURFACES)
    return (
        *names,
        *(GRADES if kind.ordered else ()),
        *(PROBABILITIES if kind.probabilities else ()),
        *(IMAGE_LABELS if kind.image_labels else ()),
    )


def default_headline(kind: ReferenceKind) -> str:
    """Return the name of the metric that comes first in words, such as a verdict, by what the references hold."""
    if kind.ordered:
        return "quadratic_kappa"
    return "pq" if kind.instances else "dice"
