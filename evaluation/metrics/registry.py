"""Registry of metrics, in the order in which tables show them."""

import math
from functools import partial

from evaluation.metrics import (
    calibration,
    classification,
    detection,
    glands,
    instances,
    membranes,
    overlap,
    partial_overlap,
    surface_distance,
)
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
            limits=(-math.inf, math.inf),
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
            limits=(0.0, math.inf),
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
            limits=(0.0, math.inf),
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
        Metric(
            name="pq",
            title="PQ",
            convention="Panoptic quality: sum of the IoU of matched objects / (TP + FP/2 + FN/2), matched at an IoU > .5 "
            "(Kirillov et al. 2019); 0 where only one side has objects, no value where neither has.",
            kind="objects",
            function=instances.panoptic_quality,
        ),
        Metric(
            name="sq",
            title="SQ",
            convention="Segmentation quality: mean IoU of the objects that match at an IoU > .5 (Kirillov et al. 2019); 0 "
            "where none match, no value where neither side has objects.",
            kind="objects",
            function=instances.segmentation_quality,
        ),
        Metric(
            name="rq",
            title="RQ",
            convention="Recognition quality: TP / (TP + FP/2 + FN/2) of objects, matched at an IoU > .5 (Kirillov et al. "
            "2019); the same number as F1 at that IoU.",
            kind="objects",
            function=instances.f1_at_iou,
        ),
        *(
            Metric(
                name=f"f1_iou{percent}",
                title=f"F1 at IoU .{percent // 10}",
                convention=f"2TP / (2TP + FP + FN) of objects, matched at an IoU > .{percent // 10}; 0 where only one side has "
                "objects, no value where neither has.",
                kind="objects",
                function=partial(instances.f1_at_iou, iou_percent=percent),
            )
            for percent in range(50, 100, 10)
        ),
        Metric(
            name="ap_dsb2018",
            title="AP (DSB 2018)",
            convention="Mean of TP / (TP + FP + FN) of objects over the IoU thresholds .5, .55 .. .95, matched above each "
            "(Data Science Bowl of 2018); 0 where only one side has objects, no value where neither has.",
            kind="objects",
            function=instances.average_precision,
        ),
        Metric(
            name="object_f1",
            title="Object F1 (GlaS)",
            convention="A segmented object is right if it covers at least half of the reference object that it overlaps most "
            "(Sirinukunwattana et al. 2017). Here by case; the contest counts over all images of a part.",
            kind="objects",
            function=glands.object_f1,
        ),
        Metric(
            name="object_dice",
            title="Object Dice (GlaS)",
            convention="Dice of each object with the one of the other side that it overlaps most, weighted by area, both ways, "
            "halved (Sirinukunwattana et al. 2017); 0 where only one side has objects, no value where neither has.",
            kind="objects",
            function=glands.object_dice,
        ),
        Metric(
            name="object_hausdorff",
            title="Object Hausdorff (GlaS)",
            convention="Hausdorff distance of each object from the one of the other side that it overlaps most, or from the "
            "nearest one without overlap, weighted by area, both ways, halved (Sirinukunwattana et al. 2017); the image's "
            "diagonal where only one side has objects, no value where neither has.",
            kind="objects",
            better="lower",
            unit="distance",
            limits=(0.0, math.inf),
            function=glands.object_hausdorff,
        ),
        Metric(
            name="detection_f1",
            title="Detection F1",
            convention="2TP / (2TP + FP + FN) of the objects' centres, matched one to one within 8 um (mitosis contest of ICPR "
            "2012), or 16 px where the spacing is unknown; 0 where only one side has objects, no value where neither has.",
            kind="objects",
            function=detection.detection_f1,
        ),
        Metric(
            name="detection_precision",
            title="Detection precision",
            convention="TP / (TP + FP) of the objects' centres, matched as for the detection F1.",
            kind="objects",
            function=detection.detection_precision,
        ),
        Metric(
            name="detection_recall",
            title="Detection recall",
            convention="TP / (TP + FN) of the objects' centres, matched as for the detection F1.",
            kind="objects",
            function=detection.detection_recall,
        ),
        Metric(
            name="v_rand",
            title="V^Rand",
            convention="sum p_ij^2 / (sum s_i^2 / 2 + sum t_j^2 / 2) of the cells between membranes, the mask's thinned, "
            "where the reference has cells (Arganda-Carreras et al. 2015); the contest takes the best of many thresholds.",
            kind="membranes",
            function=membranes.v_rand,
        ),
        Metric(
            name="v_info",
            title="V^Info",
            convention="I(S; T) / (H(S) / 2 + H(T) / 2) of the cells between membranes, the mask's thinned, where the "
            "reference has cells (Arganda-Carreras et al. 2015); no value where both sides are a single cell.",
            kind="membranes",
            function=membranes.v_info,
        ),
        Metric(
            name="pixel_error",
            title="Pixel error",
            convention="Share of pixels with the wrong label, membrane or not: the squared distance between the two masks "
            "(ISBI contest of 2012, which also calls 1 minus the best F-score over thresholds so).",
            kind="membranes",
            better="lower",
            function=membranes.pixel_error,
        ),
        Metric(
            name="quadratic_kappa",
            title="Quadratic kappa",
            convention="Cohen's kappa with quadratic weights (Cohen 1968) over the pixels' grades, background included; no "
            "value where both sides have one and the same grade only.",
            kind="ordinal",
            limits=(-1.0, 1.0),
            function=classification.quadratic_weighted_kappa,
        ),
        Metric(
            name="ece",
            title="ECE",
            convention="Expected calibration error (Guo et al. 2017): mean distance of accuracy from confidence in 15 bins of "
            "equal width of the likeliest class's probability, in and within 16 px of the reference's foreground.",
            kind="calibration",
            better="lower",
            function=calibration.expected_calibration_error,
        ),
        Metric(
            name="brier",
            title="Brier score",
            convention="Squared difference between probabilities and reference, summed over all classes, 0 to 2 (Brier 1950), "
            "in and within 16 px of the reference's foreground.",
            kind="calibration",
            better="lower",
            limits=(0.0, 2.0),
            function=calibration.brier_score,
        ),
        Metric(
            name="nll",
            title="NLL",
            convention="Mean of -ln of the probability of the reference's class, at least 1e-7, in and within 16 px of the "
            "reference's foreground.",
            kind="calibration",
            better="lower",
            limits=(0.0, math.inf),
            function=calibration.negative_log_likelihood,
        ),
        Metric(
            name="label_accuracy",
            title="Accuracy of labels",
            convention="Share of images with the right label.",
            kind="image_labels",
            function=classification.accuracy,
        ),
        Metric(
            name="label_balanced_accuracy",
            title="Balanced accuracy of labels",
            convention="Mean, over the labels that occur, of the share of a label's images that were given it.",
            kind="image_labels",
            function=classification.balanced_accuracy,
        ),
        Metric(
            name="label_f1",
            title="F1 of labels",
            convention="2TP / (2TP + FP + FN) of each label, weighted by how many images have it.",
            kind="image_labels",
            function=classification.weighted_f1,
        ),
        Metric(
            name="label_auc",
            title="AUC of labels",
            convention="Area under the receiver operating characteristic, each label against all others, mean over the labels "
            "that some but not all images have.",
            kind="image_labels",
            function=classification.area_under_curve,
        ),
    )
}
