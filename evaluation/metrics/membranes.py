"""Membranes of a mask and of the reference -> how well the cells between them agree, as the ISBI challenge of 2012 counts it.

The protocol (Arganda-Carreras et al. 2015): cells are the pieces between membranes, pixels joined by sides. The mask's
membranes are thinned to one pixel, since how wide somebody draws them says nothing; each pixel that is left of them is an
object of its own. The reference's membranes, as wide as they were drawn, aren't scored. The challenge takes the best of many
thresholds of a probability map and scores a stack; here it is a mask, which is one threshold, and a case. A case without any
cell in the reference has no value, nor has the information score where both sides are one cell: NaN, left out of means, and
counted.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.segmentation import watershed

from evaluation.metrics.instances import Counts, pairs_of, sizes_of
from evaluation.metrics.overlap import check_shapes

ALPHA = 0.5  # how much merges count beside splits: as much
ROUNDING = 1e-12  # of an entropy

Numbers = NDArray[Any]


@dataclass(frozen=True)
class BoundaryScores:
    """How well two divisions of the same pixels agree, 0 to 1.

    Cells that were divided lower `split`, cells that were joined lower `merge`; `rand` and `info` are the weighted harmonic
    means of these two, V^Rand and V^Info with alpha = .5.
    """

    rand: float
    rand_split: float
    rand_merge: float
    info: float
    info_split: float
    info_merge: float


def membrane_scores(mask: NDArray[np.bool_], reference: NDArray[np.bool_]) -> BoundaryScores:
    """The cells between a mask's membranes against those between the reference's, both (*S) and True on membranes.

    Raises:
        DataError: `shape_mismatch`.
    """
    check_shapes(mask, reference)
    return cell_scores(grown_cells(mask), cells_of(reference))


def cells_of(membranes: NDArray[np.bool_]) -> Numbers:
    """The cells between membranes (*S), numbered from 1; 0 is membrane."""
    cells: Numbers = number_pieces(~membranes, connectivity=1)
    return cells


def grown_cells(membranes: NDArray[np.bool_]) -> Numbers:
    """`cells_of` after they have grown into the membranes, nearest first, until one pixel lies between them.

    What separates no cells is gone, such as loose ends; where there is no cell at all, there is none after.
    """
    cells = cells_of(membranes)
    if not cells.any():
        return cells
    grown: Numbers = watershed(ndimage.distance_transform_edt(membranes), cells, watershed_line=True)
    return grown


def cell_scores(cells: Numbers, reference: Numbers) -> BoundaryScores:
    """V^Rand and V^Info of numbered cells (*S), over the pixels where the reference has a cell.

    With p_ij the share of those pixels in the mask's cell i and the reference's cell j, s_i and t_j its sums:
    V^Rand = sum p_ij^2 / (alpha sum s_i^2 + (1 - alpha) sum t_j^2), and V^Info = I(S; T) / ((1 - alpha) H(S) + alpha H(T)).

    Raises:
        DataError: `shape_mismatch`, or `numbers_invalid`.
    """
    pairs = pairs_of(cells, reference)
    scored = pairs.reference > 0
    in_cell = scored & (pairs.mask > 0)
    single = int(pairs.pixels[scored & ~in_cell].sum())  # pixels of the mask's membranes, an object each
    joint = _Division(pairs.pixels[in_cell], single)
    found = _Division(sizes_of(pairs.mask[in_cell], pairs.pixels[in_cell])[0], single)
    true = _Division(sizes_of(pairs.reference[scored], pairs.pixels[scored])[0], 0)
    if true.pixels == 0:
        return BoundaryScores(*[math.nan] * 6)
    shared = found.entropy + true.entropy - joint.entropy
    return BoundaryScores(
        rand=joint.squares / (ALPHA * found.squares + (1 - ALPHA) * true.squares),
        rand_split=joint.squares / true.squares,
        rand_merge=joint.squares / found.squares,
        info=_share(shared, (1 - ALPHA) * found.entropy + ALPHA * true.entropy),
        info_split=_share(shared, found.entropy),
        info_merge=_share(shared, true.entropy),
    )


class _Division:
    """Pixels divided into objects of these sizes, and into `single` objects of one pixel."""

    def __init__(self, sizes: Counts, single: int) -> None:
        whole = sizes.astype(np.float64)
        self.pixels = int(sizes.sum()) + single
        self.squares = float(whole @ whole) + single
        self.entropy = math.log(self.pixels) - float(whole @ np.log(whole)) / self.pixels if self.pixels else 0.0


def _share(part: float, whole: float) -> float:
    return max(0.0, part / whole) if whole > ROUNDING else math.nan
