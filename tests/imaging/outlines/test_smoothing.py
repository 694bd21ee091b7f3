"""Smooth outlines: valid polygons close to the object, whatever its shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from shapely import MultiPolygon, Point, Polygon, unary_union

from imaging.outlines.smoothing import smooth_polygons


def shape_of(pixels: NDArray[np.bool_]) -> MultiPolygon:
    """Return the smooth outline as shapely sees it, in (x, y)."""
    parts = [[ring[:, ::-1] for ring in rings] for rings in smooth_polygons(pixels)]
    return MultiPolygon([Polygon(first, holes) for first, *holes in parts])


def disc(radius: float, hole: float = 0.0) -> NDArray[np.bool_]:
    y, x = np.mgrid[-20:21, -20:21]
    return (np.hypot(y, x) < radius) & (np.hypot(y, x) >= hole)


def test_a_disc_becomes_a_circle() -> None:
    shape = shape_of(disc(15))
    (outline,) = shape.geoms
    distances = np.hypot(*(np.array(outline.exterior.coords) - 20.5).T)  # the centre of pixel 20 is at 20.5
    assert 14.2 < distances.min() < distances.max() < 15.2
    assert np.ptp(distances) < 0.6  # the pixels' own corners differ by 1.2
    assert abs(shape.area - disc(15).sum()) < 0.01 * disc(15).sum()


def test_a_ring_keeps_its_hole() -> None:
    shape = shape_of(disc(15, 6))
    (outline,) = shape.geoms
    assert len(outline.interiors) == 1
    assert outline.exterior.is_ccw  # RFC 7946, "right-hand rule"
    assert not outline.interiors[0].is_ccw
    assert not shape.contains(Point(20.5, 20.5))


def test_small_objects_have_no_smooth_outline() -> None:
    assert smooth_polygons(np.ones((1, 2), np.bool_)) == []


def test_narrow_places_may_break() -> None:
    two = np.zeros((9, 30), np.bool_)
    two[:, :9] = two[:, -9:] = two[4] = True
    assert len(shape_of(two).geoms) == 2


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)), st.booleans())
def test_every_shape_is_valid_and_near_its_object(pixels: NDArray[np.bool_], fills: bool) -> None:
    pixels = ndimage.binary_closing(np.pad(pixels, 2), iterations=2) if fills else pixels
    shape = shape_of(pixels)
    assert shape.is_valid
    near = unary_union([Point(x + 0.5, y + 0.5).buffer(2) for y, x in np.argwhere(pixels)])
    assert shape.is_empty or near.covers(shape)
