"""Overlaps of a part of each structure: of its boundary (boundary IoU) and of its centreline (clDice).

Conventions: a structure that only one side has gets 0, one that neither side has gets no score (NaN). Distances are counted in
pixels, whatever their spacing.
"""

import math

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from evaluation.metrics.surface_distance import Structure, StructurePair

BOUNDARY_SHARE = 0.005  # of the image's diagonal: Cheng et al.'s for Cityscapes; they take 0.02 for COCO and LVIS


def boundary_iou(pair: StructurePair) -> float:
    """Return the IoU of the boundaries, the pixels within a distance of the outside (Cheng et al. 2021, arXiv:2103.16562).

    The distance is `BOUNDARY_SHARE` of the image's diagonal, at least 1 pixel, to the nearest pixel outside in the chessboard
    metric, as in the authors' code. Pixels beyond the image's border are outside.
    """
    if pair.is_empty:
        return math.nan
    width_px = max(1, round(BOUNDARY_SHARE * math.hypot(*pair.mask.shape)))
    boundaries = []
    for side in (pair.mask, pair.reference):
        padded = np.pad(side[pair.box], 1)
        boundaries.append(padded & (ndimage.distance_transform_cdt(padded, "chessboard") <= width_px))
    both, either = boundaries[0] & boundaries[1], boundaries[0] | boundaries[1]
    return np.count_nonzero(both) / np.count_nonzero(either)


def cl_dice(pair: StructurePair) -> float:
    """Return the centreline Dice (Shit et al. 2021, arXiv:2003.07311), the harmonic mean of two shares.

    They are the share of the mask's skeleton that is in the reference, and of the reference's skeleton that is in the mask.
    """
    if pair.is_empty:
        return math.nan
    mask, reference = pair.mask[pair.box], pair.reference[pair.box]
    if pair.is_one_sided:
        return 0.0
    precision = float(reference[skeleton(mask)].mean())
    sensitivity = float(mask[skeleton(reference)].mean())
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def skeleton(structure: Structure) -> Structure:
    """Return the skeleton of a structure (*S), with at least one pixel of each connected piece.

    It is scikit-image's (Zhang and Suen 1984 in 2D, Lee et al. 1994 in 3D), which in 3D loses some pieces that are an even
    number of pixels thick (scikit-image's issue 3757). Such a piece keeps its pixels that are farthest from the outside.
    """
    inner = (slice(1, -1),) * structure.ndim
    padded = np.pad(structure, 1)  # skeletonize takes the array's border for inside
    lines = skeletonize(padded)
    pieces, count = ndimage.label(padded, np.ones((3,) * structure.ndim))
    is_lost = np.ones(count + 1, bool)
    is_lost[pieces[lines]] = is_lost[0] = False
    boxes = ndimage.find_objects(pieces) if is_lost.any() else []
    for number in np.flatnonzero(is_lost):
        box = boxes[number - 1]
        depth = ndimage.distance_transform_edt(np.pad(pieces[box] == number, 1))[inner]
        lines[box] |= depth == depth.max()
    return lines[inner]  # type: ignore[no-any-return]
