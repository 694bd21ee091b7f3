"""Smooth outlines of one object with subpixel precision, for people; `tracing` gives the exact ones."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours, points_in_poly

Ring = NDArray[np.float64]

SIGMA_PX = 1.0
_MARGIN_PX = 5  # the filter ends after four sigma
_STEPS_PER_PX = 100


def smooth_polygons(pixels: NDArray[np.bool_]) -> list[list[Ring]]:
    """Return the polygons of an object, each its outline followed by its holes; none if it is too small or too thin.

    They are the line on which the object's pixels, smoothed by a Gaussian of 1 pixel, are one half. Lines of one level of a
    continuous function don't cross. Narrow places may break, so that an object can have several polygons.

    Args:
        pixels: (h, w), true where the object is.

    Returns:
        rings (n, 2) of points (y, x) in pixels from the upper left corner of the array, not closed.
    """
    smooth = ndimage.gaussian_filter(np.pad(pixels, _MARGIN_PX).astype(np.float32), SIGMA_PX)
    rings = []
    for contour in find_contours(smooth, 0.5):
        points = np.rint((contour + 0.5 - _MARGIN_PX) * _STEPS_PER_PX) / _STEPS_PER_PX
        points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]  # rounding makes neighbours equal
        if len(points) >= 4 and area_px(points) != 0:
            rings.append(points)
    polygons = [[ring] for ring in rings if area_px(ring) > 0]
    for hole in (ring for ring in rings if area_px(ring) < 0):
        around = [polygon for polygon in polygons if points_in_poly(hole[:1], polygon[0])[0]]
        min(around, key=lambda polygon: area_px(polygon[0])).append(hole)
    return polygons


def area_px(ring: Ring) -> float:
    """Return the area within a ring; below 0 if it runs as `find_contours` runs around holes."""
    y, x = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
