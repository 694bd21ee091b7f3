"""The boundary loss term: the distance of the predicted foreground from the reference's border."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from training.objective.encodings import LossInputs

MAX_DISTANCE_PX = 20  # larger distances are clipped to this


def boundary_term(inputs: LossInputs) -> Tensor:
    """Return the mean over pixels of the probability times the signed distance from the reference's border, -1 .. 1.

    Source: Kervadec et al. 2019, arXiv:1812.07032, equation 5, which has no limit. Here distances are clipped to
    MAX_DISTANCE_PX and given in that unit, so that the term neither outweighs Dice in large patches nor leaves out a patch
    without foreground, where all pixels count as outside at the full distance.
    """
    probabilities = inputs.probabilities()
    pixels = inputs.valid.expand_as(probabilities).sum().clamp_min(1)
    return (probabilities * signed_border_distances(inputs.targets())).sum() / pixels


def signed_border_distances(targets: Tensor) -> Tensor:
    """Return distances to the border of each map of (B, P, *S), in units of MAX_DISTANCE_PX, -1 .. 1, below 0 inside.

    The border lies half a pixel from the pixels on either side of it.
    """
    if targets.is_meta:  # only the memory is counted
        return torch.empty_like(targets, dtype=torch.float32)
    maps = targets.detach().cpu().numpy().astype(bool)
    distances = np.empty(maps.shape, np.float32)
    for place in np.ndindex(maps.shape[:2]):
        inside = maps[place]
        if not inside.any() or inside.all():
            distances[place] = -1 if inside.any() else 1
            continue
        distance = np.where(inside, 0.5 - _distance_to_outside(inside), _distance_to_outside(~inside) - 0.5)
        distances[place] = np.clip(distance / MAX_DISTANCE_PX, -1, 1)
    return torch.from_numpy(distances).to(targets.device)


def _distance_to_outside(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of each pixel inside to the nearest one outside, in pixels."""
    if inside.ndim == 2:
        distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(np.sqrt(np.rint(distance**2)), np.float32)  # OpenCV's last bit depends on the memory's alignment
    return np.asarray(ndimage.distance_transform_edt(inside), np.float32)
