"""Weights of the background between objects, after the U-Net paper: what keeps neighbours apart counts more."""

from collections.abc import Iterator, Sequence
from math import ceil, log, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

NEGLIGIBLE = 1e-3  # a weight below this is 0


def border_weights(objects: NDArray[Any], weight: float, sigma_px: float) -> Floats:
    """What is added to each pixel's weight, (*S): w0 * exp(-(d1 + d2)^2 / (2 sigma^2)) on background, 0 on objects.

    d1 and d2 are the distances to the nearest and to the second nearest object; where there are fewer than two, nothing is
    added. Each object is looked at in a window as wide as the term reaches, and two distances a pixel are kept, so that
    memory goes with the pixels alone.

    Source: Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, equation 2, without w_c.

    Args:
        objects: (*S) whole numbers; equal ones above 0 are one object, in one piece or several; the rest is background.
        weight: w0.
        sigma_px: sigma.
    """
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    for window, inside in _windows(objects, border_reach_px(weight, sigma_px)):
        distance = _distance_to(inside)
        np.minimum(second[window], np.maximum(nearest[window], distance), out=second[window])
        np.minimum(nearest[window], distance, out=nearest[window])
    added = weight * np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma_px**2))
    added[(objects > 0) | (added < NEGLIGIBLE)] = 0
    return np.asarray(added, np.float32)


def border_reach_px(weight: float, sigma_px: float) -> int:
    """How many pixels from an object the term is still above NEGLIGIBLE: 22 where w0 is 10 and sigma 5."""
    return ceil(sigma_px * sqrt(2 * log(weight / NEGLIGIBLE))) if weight > NEGLIGIBLE else 0


def number_components(labels: NDArray[Any], classes: Sequence[int]) -> NDArray[np.int32]:
    """Numbers (*S) of the connected pieces of each of the classes; pixels touch along a side. The rest is 0."""
    numbers = np.zeros(labels.shape, np.int32)
    count = 0
    for label in classes:
        pieces, found = ndimage.label(labels == label)
        numbers += np.where(pieces > 0, pieces + count, 0)
        count += found
    return numbers


def _windows(objects: NDArray[Any], reach_px: int) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """For each object the window that it reaches into, and which of its pixels are the object's."""
    numbers = np.unique(objects)
    numbers = numbers[numbers > 0]
    places = np.where(objects > 0, np.searchsorted(numbers, objects) + 1, 0)
    for place, box in enumerate(ndimage.find_objects(places), start=1):
        window = tuple(
            slice(max(0, axis.start - reach_px), min(size, axis.stop + reach_px))
            for axis, size in zip(box, objects.shape, strict=True)
        )
        yield window, places[window] == place


def _distance_to(inside: NDArray[np.bool_]) -> Floats:
    """Of each pixel to the nearest of these; in 3D from those within slices, in half of scipy's time."""
    if inside.ndim == 2:
        distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(np.sqrt(np.rint(distance**2)), np.float32)  # its last bit depends on where in memory it works
    squares = np.full(inside.shape, np.inf, np.float32)
    slices = np.arange(len(inside), dtype=np.float32)[:, None, None]
    for place in np.flatnonzero(inside.any(axis=(1, 2))):
        np.minimum(squares, _distance_to(inside[place]) ** 2 + (slices - place) ** 2, out=squares)
    return np.sqrt(squares)
