"""Membrane scores of the ISBI challenge of 2012: how well the cells between a mask's membranes match the reference's.

The protocol (Arganda-Carreras et al. 2015): cells are the connected regions between membranes, joined by sides. The mask's
membranes are thinned to one pixel, because their width carries no information; each pixel that remains of them is an object
of its own. The reference's membranes keep their width and are not scored. The challenge takes the best of many thresholds of
a probability map and scores a stack; here one mask (a single threshold) of one case is scored. A case without cells in the
reference has no score (NaN), and no information score where both sides are a single cell; means leave it out, and it is
counted separately.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.segmentation import watershed

from evaluation.metrics.object_pair import Counts, count_pairs, sum_pixels_by_number
from evaluation.metrics.overlap import check_same_shape

ALPHA = 0.5  # merges and splits weigh the same
ROUNDING = 1e-12  # entropies below are rounding errors of 0

Numbers = NDArray[Any]


@dataclass(frozen=True)
class BoundaryScores:
    """Agreement of two partitions of the same pixels into cells, each score from 0 to 1.

    Wrongly divided cells lower the `split` scores, wrongly joined cells the `merge` scores; `rand` and `info` are the weighted
    harmonic means of these two, V^Rand and V^Info with alpha = .5.
    """

    rand: float
    rand_split: float
    rand_merge: float
    info: float
    info_split: float
    info_merge: float


@dataclass(frozen=True, eq=False)
class MembranePair:
    """Membranes of a mask and of its reference.

    Args:
        mask: where the mask has membranes (*S).
        reference: where the reference has them.
        is_scored: pixels that count; between cells, the others are membranes of both sides.

    Raises:
        DataError: `shape_mismatch`.
    """

    mask: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    is_scored: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Check that the shapes agree."""
        check_same_shape(self.mask, self.reference)


def v_rand(pair: MembranePair) -> float:
    """Return V^Rand of the cells between membranes."""
    return membrane_scores(pair.mask | ~pair.is_scored, pair.reference | ~pair.is_scored).rand


def v_info(pair: MembranePair) -> float:
    """Return V^Info of the cells between membranes."""
    return membrane_scores(pair.mask | ~pair.is_scored, pair.reference | ~pair.is_scored).info


def pixel_error(pair: MembranePair) -> float:
    """Return the share of the scored pixels that are membrane on one side only; NaN without scored pixels."""
    scored = int(pair.is_scored.sum())
    return int(((pair.mask != pair.reference) & pair.is_scored).sum()) / scored if scored else math.nan


def membrane_scores(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> BoundaryScores:
    """Score the cells between a mask's membranes against the reference's, both (*S) and True on membranes.

    Raises:
        DataError: `shape_mismatch`.
    """
    check_same_shape(mask, reference)
    return cell_scores(grow_cells(mask), label_cells(reference))


def label_cells(membranes: NDArray[np.bool_]) -> Numbers:
    """Label the cells between membranes (*S) with numbers from 1; 0 is membrane."""
    cells: Numbers = number_pieces(~membranes, connectivity=1)
    return cells


def grow_cells(membranes: NDArray[np.bool_]) -> Numbers:
    """Label the cells between membranes (*S), grown into the membranes until one pixel separates them.

    Membranes that separate no cells, such as loose ends, disappear. Without any cell, the result is all 0.
    """
    cells = label_cells(membranes)
    if not cells.any():
        return cells
    grown: Numbers = watershed(ndimage.distance_transform_edt(membranes), cells, watershed_line=True)
    return grown


def cell_scores(cells: Numbers, reference: Numbers) -> BoundaryScores:
    """Return V^Rand and V^Info of numbered cells (*S), over the pixels where the reference has a cell.

    With p_ij the share of those pixels in the mask's cell i and the reference's cell j, and s_i and t_j its marginal sums:
    V^Rand = sum p_ij^2 / (alpha sum s_i^2 + (1 - alpha) sum t_j^2), and V^Info = I(S; T) / ((1 - alpha) H(S) + alpha H(T)).

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`.
    """
    pairs = count_pairs(cells, reference)
    in_reference = pairs.reference > 0
    in_both = in_reference & (pairs.mask > 0)
    single = int(pairs.pixels[in_reference & ~in_both].sum())  # pixels of the mask's membranes, an object each
    joint = _Partition(pairs.pixels[in_both], single)
    predicted = _Partition(sum_pixels_by_number(pairs.mask[in_both], pairs.pixels[in_both])[0], single)
    true = _Partition(sum_pixels_by_number(pairs.reference[in_reference], pairs.pixels[in_reference])[0], 0)
    if true.pixels == 0:
        return BoundaryScores(*[math.nan] * 6)
    mutual_information = predicted.entropy + true.entropy - joint.entropy
    return BoundaryScores(
        rand=joint.squares / (ALPHA * predicted.squares + (1 - ALPHA) * true.squares),
        rand_split=joint.squares / true.squares,
        rand_merge=joint.squares / predicted.squares,
        info=_ratio(mutual_information, (1 - ALPHA) * predicted.entropy + ALPHA * true.entropy),
        info_split=_ratio(mutual_information, predicted.entropy),
        info_merge=_ratio(mutual_information, true.entropy),
    )


class _Partition:
    """Partition of pixels into objects of the given sizes and `single` objects of one pixel: squares and entropy."""

    def __init__(self, sizes: Counts, single: int) -> None:
        whole = sizes.astype(np.float64)
        self.pixels = int(sizes.sum()) + single
        self.squares = float(whole @ whole) + single
        self.entropy = math.log(self.pixels) - float(whole @ np.log(whole)) / self.pixels if self.pixels else 0.0


def _ratio(part: float, whole: float) -> float:
    return max(0.0, part / whole) if whole > ROUNDING else math.nan
