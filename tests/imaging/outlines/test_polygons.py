import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label as label_pixels

from configs.sections import ClassSection
from imaging.outlines.polygons import rasterise
from imaging.outlines.tracing import trace
from imaging.source import Geometry
from imaging.writing.band_writer import open_writer

CLASSES = [
    ClassSection(name="background", colour="#000000"),
    ClassSection(name='a "nucleus"', colour="#ff8001"),
    ClassSection(name="Zellkern, groß", colour="#0000ff"),
]


def grids(labels, side=12):
    shapes = st.tuples(*[st.integers(1, side)] * 2)
    return arrays(np.uint8, shapes, elements=st.integers(0, labels))


def whole(shape):
    return tuple(slice(0, size) for size in shape)


def traced(mask, cuts=()):
    return list(trace([band for band in np.split(mask, sorted(cuts)) if len(band)], mask.shape[1]))


def from_first(ring):
    """The ring's corners from the smallest one on."""
    points = [tuple(point) for point in ring]
    start = points.index(min(points))
    return points[start:] + points[:start]


def filled(polygons, shape):
    """The mask again; no pixel belongs to two."""
    out = np.zeros(shape, np.int64)
    for polygon in polygons:
        out += np.where(rasterise([ring.astype(float) for ring in polygon.rings], whole(shape)), polygon.label, 0)
    return out


@settings(max_examples=200, deadline=None)
@given(mask=grids(2), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_the_polygons_pixels_are_the_objects(mask, cuts):
    polygons = traced(mask, cuts)
    np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
    objects = sum(label_pixels(mask == label)[1] for label in (1, 2))  # 4-connected
    assert len(polygons) == objects


@settings(max_examples=100, deadline=None)
@given(mask=grids(1), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_polygons_are_valid_and_have_no_corner_too_many(mask, cuts):
    for polygon in traced(mask, cuts):
        area = shapely.Polygon(polygon.rings[0], polygon.rings[1:])
        assert area.is_valid, shapely.is_valid_reason(area)
        assert shapely.Polygon(polygon.rings[0][:, ::-1]).exterior.is_ccw  # RFC 7946, in (x, y)
        assert not any(shapely.Polygon(ring[:, ::-1]).exterior.is_ccw for ring in polygon.rings[1:])
        for ring in polygon.rings:
            steps = np.diff(ring, axis=0, append=ring[:1])
            assert ((steps == 0).sum(axis=1) == 1).all()  # along one axis at a time
            assert (steps * np.roll(steps, 1, axis=0) == 0).all()  # and always another one


@settings(deadline=None)
@given(mask=grids(2), cuts=st.lists(st.integers(0, 12), max_size=4))
def test_bands_change_nothing_but_the_order(mask, cuts):
    def sorted_rings(polygons):
        return sorted((polygon.label, sorted(from_first(ring) for ring in polygon.rings)) for polygon in polygons)

    assert sorted_rings(traced(mask, cuts)) == sorted_rings(traced(mask))


def test_a_ring_typed_out():
    mask = np.array([[0, 0, 0, 0, 0], [0, 2, 2, 2, 0], [0, 2, 0, 2, 0], [0, 2, 2, 2, 1]], np.uint8)
    first, second = sorted(traced(mask), key=lambda polygon: polygon.label)
    assert [from_first(ring) for ring in first.rings] == [[(3, 4), (3, 5), (4, 5), (4, 4)]]
    assert (first.label, second.label) == (1, 2)
    assert [from_first(ring) for ring in second.rings] == [
        [(1, 1), (1, 4), (4, 4), (4, 1)],
        [(2, 2), (3, 2), (3, 3), (2, 3)],
    ]


def test_a_hole_that_opens_at_a_corner_stays_a_hole():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], np.uint8)
    (polygon,) = traced(mask, [1, 2])
    assert sorted(len(ring) for ring in polygon.rings) == [4, 6]


def test_pixels_that_touch_at_a_corner_are_two_objects():
    assert len(traced(np.eye(4, dtype=np.uint8))) == 4


def test_an_object_is_given_out_as_soon_as_it_is_whole():
    came = []

    def bands():
        for rows in np.split(np.array([[1, 0, 2], [0, 0, 2], [1, 0, 2], [0, 0, 0]], np.uint8), 4):
            came.append(len(came))
            yield rows

    seen = [(polygon.label, len(came)) for polygon in trace(bands(), 3)]
    assert seen == [(1, 2), (1, 4), (2, 4)]


def test_noise_of_many_corners_is_traced_in_parts():
    mask = np.random.default_rng(0).integers(0, 2, (270, 300)).astype(np.uint8)  # more turns than are taken at once
    area = sum(shapely.Polygon(polygon.rings[0], polygon.rings[1:]).area for polygon in traced(mask))
    assert area == mask.sum()


def written(folder, mask, origin=None):
    path, geometry = folder / "mask.geojson", Geometry(mask.shape, origin_px=origin)
    with open_writer(path, geometry, format="geojson", classes=CLASSES) as writer:
        writer.write(0, mask)
    return json.loads(path.read_text())


def test_geojson_as_qupath_reads_it(tmp_path):
    mask = np.zeros((50, 40), np.uint8)
    mask[10:20, 5:8] = 1
    mask[30, 39] = 2
    found = written(tmp_path, mask, origin=(10, 3))
    assert found["type"] == "FeatureCollection"
    first, second = found["features"]
    (ring,) = first["geometry"].pop("coordinates")
    assert ring[0] == ring[-1]
    assert from_first(ring[:-1]) == [(2, 0), (5, 0), (5, 10), (2, 10)]
    assert first == {
        "type": "Feature",
        "properties": {"objectType": "annotation", "classification": {"name": 'a "nucleus"', "color": [255, 128, 1]}},
        "geometry": {"type": "Polygon"},
    }
    assert second["properties"]["classification"] == {"name": "Zellkern, groß", "color": [0, 0, 255]}


def test_an_empty_mask_is_an_empty_collection(tmp_path):
    assert written(tmp_path, np.zeros((3, 4), np.uint8)) == {"type": "FeatureCollection", "features": []}


def test_a_ring_of_many_corners_is_whole(tmp_path):
    comb = np.zeros((3, 17501), np.uint8)
    comb[0], comb[1:, ::2] = 1, 1
    (feature,) = written(tmp_path, comb)["features"]
    polygon = shapely.geometry.shape(feature["geometry"])
    assert polygon.is_valid
    assert polygon.area == comb.sum()
    assert len(feature["geometry"]["coordinates"][0]) == 4 * 8751 + 1  # more than are written at once


@settings(max_examples=50, deadline=None)
@given(mask=grids(2))
def test_shapely_reads_the_mask_back(tmp_path_factory, mask):
    found = written(tmp_path_factory.mktemp("geojson"), mask)
    names = [section.name for section in CLASSES]
    y, x = np.indices(mask.shape) + 0.5
    back = np.zeros_like(mask)
    for feature in found["features"]:
        inside = shapely.contains_xy(shapely.geometry.shape(feature["geometry"]), x, y)
        back[inside] = names.index(feature["properties"]["classification"]["name"])
    np.testing.assert_array_equal(back, mask)


POINTS = st.tuples(*[st.floats(-5, 15)] * 2)


@settings(deadline=None)
@given(rings=st.lists(st.lists(POINTS, min_size=3, max_size=6), max_size=3), top=st.integers(0, 4), left=st.integers(0, 4))
def test_rasterise_is_even_odd_at_the_pixels_centres(rings, top, left):
    rings = [np.array(ring) for ring in rings]
    y, x = np.mgrid[top:10, left:12] + 0.5
    expected, doubtful = np.zeros(y.shape, bool), np.zeros(y.shape, bool)
    for ring in rings:
        for (y0, x0), (y1, x1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            crossed = (x0 > x) != (x1 > x)
            with np.errstate(all="ignore"):
                at = y0 + (x - x0) / (x1 - x0) * (y1 - y0)
            expected ^= crossed & (y > at)
            doubtful |= crossed & (np.abs(y - at) < 1e-6)
            doubtful |= (np.abs(x - x0) < 1e-9) | (np.abs(x - x1) < 1e-9)
    found = rasterise(rings, (slice(top, 10), slice(left, 12)))
    np.testing.assert_array_equal(found | doubtful, expected | doubtful)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 20).map(lambda half: half / 2)] * 2), min_size=1, max_size=4))
def test_objects_that_share_edges_share_no_pixel_and_leave_none_out(points):
    """A square cut into triangles around a point, whose edges pass through centres of pixels."""
    corners = [(0.0, 0.0), (0.0, 10.0), (10.0, 10.0), (10.0, 0.0)]
    for point in points:
        triangles = [np.array([one, other, point]) for one, other in zip(corners, corners[1:] + corners[:1], strict=True)]
        masks = [rasterise([triangle], whole((10, 10))) for triangle in triangles]
        np.testing.assert_array_equal(np.sum(masks, axis=0), 1)


def test_rasterise_typed_out():
    square, hole = np.array([[1, 1], [1, 4], [4, 4], [4, 1.0]]), np.array([[2, 2], [2, 3], [3, 3], [3, 2], [2, 2.0]])
    assert rasterise([square, hole], (slice(0, 5), slice(2, 5))).astype(int).tolist() == [
        [0, 0, 0],
        [1, 1, 0],
        [0, 1, 0],
        [1, 1, 0],
        [0, 0, 0],
    ]
    assert not rasterise([], (slice(0, 2), slice(0, 3))).any()


@pytest.mark.parametrize(("shift", "pixels"), [(0.49, [0, 1]), (0.5, [0, 1]), (0.51, [1, 2])])
def test_a_centre_on_an_edge_belongs_to_what_lies_right_or_below(shift, pixels):
    rows, columns = np.nonzero(rasterise([np.array([[0, 0], [0, 2], [2, 2], [2, 0]]) + shift], whole((4, 4))))
    assert np.unique(rows).tolist() == np.unique(columns).tolist() == pixels
