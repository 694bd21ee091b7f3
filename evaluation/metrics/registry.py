"""Registry of metrics, in the order in which tables show them."""

from evaluation.metrics import overlap
from evaluation.metrics.metric import Metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="dice",
            title="Dice",
            convention="2TP / (2TP + FP + FN) of a class (Dice 1945); without a value where neither side has the class.",
            kind="overlap",
            function=overlap.dice_of_counts,
        ),
        Metric(
            name="iou",
            title="IoU",
            convention="TP / (TP + FP + FN) of a class (Jaccard 1912); without a value where neither side has the class.",
            kind="overlap",
            function=overlap.iou_of_counts,
        ),
    )
}
