"""Pixel weights of the U-Net paper: background between neighbouring objects counts more, so that they stay separate."""

from collections.abc import Iterator, Sequence
from math import ceil, log, sqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

NEGLIGIBLE = 1e-3  # weights below this are set to 0


def border_weights(objects: NDArray[Any], weight: float, sigma_px: float) -> Floats:
    """Return the weights (*S) to add to each pixel's: w0 * exp(-(d1 + d2)^2 / (2 sigma^2)) on background, 0 on objects.

    d1 and d2 are the distances to the nearest and to the second nearest object; with fewer than two objects all weights are
    0. Each object is processed in a window as wide as the term reaches, and two distances are stored per pixel, so that the
    memory depends on the number of pixels alone.

    Source: Ronneberger, Fischer and Brox 2015, arXiv:1505.04597, equation 2, without w_c.

    Args:
        objects: (*S) integers; equal ones above 0 are one object, in one piece or several; 0 and below is background.
        weight: w0.
        sigma_px: sigma.
    """
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    for window, inside in _object_windows(objects, border_reach_px(weight, sigma_px)):
        distance = _distance_to(inside)
        np.minimum(second[window], np.maximum(nearest[window], distance), out=second[window])
        np.minimum(nearest[window], distance, out=nearest[window])
    weights = weight * np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma_px**2))
    weights[(objects > 0) | (weights < NEGLIGIBLE)] = 0
    return np.asarray(weights, np.float32)


def border_reach_px(weight: float, sigma_px: float) -> int:
    """Return the distance from an object up to which the term is above NEGLIGIBLE: 22 px for w0 10 and sigma 5."""
    return ceil(sigma_px * sqrt(2 * log(weight / NEGLIGIBLE))) if weight > NEGLIGIBLE else 0


def number_components(labels: NDArray[Any], classes: Sequence[int]) -> NDArray[np.int32]:
    """Return the number of each pixel's connected component (*S) of the classes, 0 elsewhere; pixels connect along a side."""
    numbers = np.zeros(labels.shape, np.int32)
    count = 0
    for label in classes:
        components, components_of_class = ndimage.label(labels == label)
        numbers += np.where(components > 0, components + count, 0)
        count += components_of_class
    return numbers


def _object_windows(objects: NDArray[Any], reach_px: int) -> Iterator[tuple[tuple[slice, ...], NDArray[np.bool_]]]:
    """Yield for each object the window within its reach, and a mask of the object in that window."""
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
    """Return each pixel's distance to the nearest one inside; in 3D from distances within slices, in half of SciPy's time."""
    if inside.ndim == 2:
        distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return np.asarray(np.sqrt(np.rint(distance**2)), np.float32)  # OpenCV's last bit depends on the memory's alignment
    squares = np.full(inside.shape, np.inf, np.float32)
    slices = np.arange(len(inside), dtype=np.float32)[:, None, None]
    for place in np.flatnonzero(inside.any(axis=(1, 2))):
        np.minimum(squares, _distance_to(inside[place]) ** 2 + (slices - place) ** 2, out=squares)
    return np.sqrt(squares)
