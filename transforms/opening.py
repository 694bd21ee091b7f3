"""Morphological opening of a mask in 2D and 3D."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import ball, disk


def opening(inside: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Return the opening (*S) by a disc or a ball: the pixels that one covers which fits inside.

    Pixels outside of the array count as inside.
    """
    if inside.ndim == 2:
        pixels: NDArray[np.uint8] = cv2.morphologyEx(inside.view(np.uint8), cv2.MORPH_OPEN, disk(radius_px))
        return pixels.view(np.bool_)
    eroded = ndimage.binary_erosion(inside, ball(radius_px), border_value=1)
    dilated: NDArray[np.bool_] = ndimage.binary_dilation(eroded, ball(radius_px))
    return dilated
