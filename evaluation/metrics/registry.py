"""Registry of metrics, in the order in which tables show them."""

from evaluation.metrics import overlap, surface_distance
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
        Metric(
            name="hd95",
            title="HD95",
            convention="Larger of the two directed 95th percentiles of the surface distances, elements weighted by area; "
            "the image's diagonal where only one side has the structure, no value where neither has.",
            kind="structure",
            better="lower",
            unit="distance",
            function=surface_distance.hd95,
        ),
        Metric(
            name="assd",
            title="ASSD",
            convention="Mean distance of the elements of both surfaces together from the other surface, weighted by area; "
            "the image's diagonal where only one side has the structure, no value where neither has.",
            kind="structure",
            better="lower",
            unit="distance",
            function=surface_distance.assd,
        ),
        Metric(
            name="nsd",
            title="NSD",
            convention="Share of both surfaces' area within the tolerance of the other (Nikolov et al. 2021); "
            "0 where only one side has the structure, no value where neither has.",
            kind="structure",
            function=surface_distance.nsd,
        ),
    )
}
