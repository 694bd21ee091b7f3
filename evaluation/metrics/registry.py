"""Registry of metrics, in the order in which tables show them."""

from evaluation.metrics import overlap, partial_overlap, surface_distance
from evaluation.metrics.metric import Metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="dice",
            title="Dice",
            convention="2TP / (2TP + FP + FN) of a class (Dice 1945); no value where neither side has the class.",
            kind="overlap",
            function=overlap.dice_of_counts,
        ),
        Metric(
            name="iou",
            title="IoU",
            convention="TP / (TP + FP + FN) of a class (Jaccard 1912); no value where neither side has the class.",
            kind="overlap",
            function=overlap.iou_of_counts,
        ),
        Metric(
            name="sensitivity",
            title="Sensitivity",
            convention="Recall, TP / (TP + FN) of a class; 0 where only the mask has the class, no value where neither has.",
            kind="overlap",
            function=overlap.sensitivity_of_counts,
        ),
        Metric(
            name="precision",
            title="Precision",
            convention="TP / (TP + FP) of a class; 0 where only the reference has the class, no value where neither has.",
            kind="overlap",
            function=overlap.precision_of_counts,
        ),
        Metric(
            name="volume_difference",
            title="Volume difference",
            convention="Signed, relative to the reference: 100 (mask - reference) / reference of a class's volume (its area in "
            "2D), -100 % where the mask misses the class; no value where the reference lacks it.",
            kind="overlap",
            better="zero",
            unit="%",
            function=overlap.volume_difference_of_counts,
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
        Metric(
            name="boundary_iou",
            title="Boundary IoU",
            convention="IoU of the pixels within 0.5 % of the image's diagonal (at least 1 px, chessboard distance) of the "
            "structure's outside (Cheng et al. 2021, their width for Cityscapes; 2 % for COCO); no value where neither has it.",
            kind="structure",
            function=partial_overlap.boundary_iou,
        ),
        Metric(
            name="cl_dice",
            title="clDice",
            convention="Harmonic mean of the shares of the mask's skeleton in the reference and of the reference's in the mask "
            "(Shit et al. 2021, skeletons by scikit-image); 0 where only one side has it, no value where neither has.",
            kind="structure",
            function=partial_overlap.cl_dice,
        ),
    )
}
