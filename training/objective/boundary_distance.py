"""How far from the reference's border something lies, for a loss that sees borders rather than areas."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from training.objective.encodings import LossInputs

MAX_DISTANCE_PX = 20  # farther counts as this far


def boundary_term(judged: LossInputs) -> Tensor:
    """The mean over pixels of the probability times the signed distance from the reference's border, -1 .. 1.

    Source: Kervadec et al. 2019, arXiv:1812.07032, equation 5, without a limit. Here distances end at MAX_DISTANCE_PX,
    whose size they are given in, so that the term neither outweighs Dice in large patches nor leaves out a patch without
    foreground, where all counts as far outside.
    """
    probabilities = judged.probabilities()
    counted = judged.counted.expand_as(probabilities).sum().clamp_min(1)
    return (probabilities * signed_border_distances(judged.targets())).sum() / counted


def signed_border_distances(targets: Tensor) -> Tensor:
    """To the border of each map of (B, P, *S), in MAX_DISTANCE_PX, -1 .. 1; below 0 inside."""
    if targets.is_meta:  # only how much memory it takes is asked for
        return torch.empty_like(targets, dtype=torch.float32)
    maps = targets.detach().cpu().numpy().astype(bool)
    distances = np.empty(maps.shape, np.float32)
    for place in np.ndindex(maps.shape[:2]):
        distances[place] = _signed(maps[place])
    return torch.from_numpy(distances).to(targets.device)


def _signed(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Half a pixel lies between a pixel and the border beside it."""
    if not inside.any():
        return np.ones(inside.shape, np.float32)
    if inside.all():
        return -np.ones(inside.shape, np.float32)
    distance = np.where(inside, 0.5 - _depth(inside), _depth(~inside) - 0.5)
    return np.asarray(np.clip(distance / MAX_DISTANCE_PX, -1, 1), np.float32)


def _depth(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Of each pixel inside, to the nearest one outside."""
    if inside.ndim == 2:
        distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(np.sqrt(np.rint(distance**2)), np.float32)  # its last bit depends on where in memory it works
    return np.asarray(ndimage.distance_transform_edt(inside), np.float32)
