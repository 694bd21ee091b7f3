"""Detection scores: objects are found within a distance of their centres, whatever their outlines (mitoses, nuclei, peaks).

A centre of the mask is right if it lies within 8 um of a centre of the reference (the contest on mitoses of ICPR 2012), or
within 16 pixels where the spacing is unknown, which are 8 um at a magnification of 20. Each centre is matched once, so that as
many are matched as possible. A case without objects on either side has no score (NaN); where only one side has objects, every
score is 0.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from scipy.spatial import KDTree

from evaluation.metrics.metric import BinaryCounts
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.overlap import dice_of_counts, precision_of_counts, sensitivity_of_counts

RADIUS = {"um": 8.0, "px": 16.0}
MOST_NEIGHBOURS = 32  # centres of the mask that may be matched to one of the reference, which bounds the memory


def detection_f1(pair: ObjectPair) -> float:
    """Return the F1 of the centres, 2TP / (2TP + FP + FN)."""
    return dice_of_counts(count_detections(pair))


def detection_precision(pair: ObjectPair) -> float:
    """Return the share of the mask's centres that are right."""
    return precision_of_counts(count_detections(pair))


def detection_recall(pair: ObjectPair) -> float:
    """Return the share of the reference's centres that are found."""
    return sensitivity_of_counts(count_detections(pair))


def count_detections(pair: ObjectPair) -> BinaryCounts:
    """Match the centres of the mask's objects (M) with those of the reference's (N), as many as possible, each once.

    A centre of the reference can be matched with one of its 32 nearest.
    """
    in_mask, in_reference = len(pair.shared.mask), len(pair.shared.reference)
    if not in_mask or not in_reference:
        return BinaryCounts(0, in_mask, in_reference)
    centres, references = pair.mask_places.centres * pair.steps, pair.reference_places.centres * pair.steps
    bound = np.nextafter(RADIUS[pair.unit], np.inf)  # the tree gives distances below it
    neighbours = range(1, min(in_mask, MOST_NEIGHBOURS) + 1)
    distances, indices = KDTree(centres).query(references, k=neighbours, distance_upper_bound=bound)  # each (N, k)
    rows, columns = np.nonzero(np.isfinite(distances))
    matched = _largest_matching(indices[rows, columns], rows, in_mask, in_reference)
    return BinaryCounts(matched, in_mask - matched, in_reference - matched)


def _largest_matching(mask: NDArray[np.int64], reference: NDArray[np.int64], in_mask: int, in_reference: int) -> int:
    """Return how many of the pairs (P,), (P,) can be chosen so that no centre is in two.

    It is the flow from a source over the centres of the mask and of the reference to a sink, 1 through each, whose time stays
    short in crowds. SciPy's own bipartite matching takes minutes for some thousand centres within the distance.
    """
    source, sink = in_mask + in_reference, in_mask + in_reference + 1
    starts = np.concatenate([np.full(in_mask, source), mask, in_mask + np.arange(in_reference)])
    ends = np.concatenate([np.arange(in_mask), in_mask + reference, np.full(in_reference, sink)])
    edges = csr_array((np.ones(starts.size, np.int32), (starts, ends)), shape=(sink + 1, sink + 1))
    return int(maximum_flow(edges, source, sink).flow_value)
