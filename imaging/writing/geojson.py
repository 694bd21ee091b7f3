"""GeoJSON as QuPath reads it: the objects of a 2D mask as annotations, and the text of any feature."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from configs.sections import ClassSection
from imaging.outlines.tracing import Ring, trace
from imaging.source import Geometry
from imaging.writing.row_buffer import RowBuffer

BAND_BYTES = 4 * 2**20
COLLECTION_START = '{"type":"FeatureCollection","features":['
COLLECTION_END = "\n]}\n"

_POINTS_AT_ONCE = 2**14
_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def write_geojson(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write the objects of labels (H, W) without the first class, the background.

    Coordinates are (x, y) in pixels of level 0 with QuPath's origin, and lie on the corners of pixels: filling the polygons
    by the pixels' centres gives the mask again. Objects are 4-connected; two that touch at a corner stay two.

    Source: RFC 7946; QuPath 0.4, "Exporting annotations", for the properties.
    """
    origin = origin_of(geometry)
    properties = [{"objectType": "annotation", **classification_of(section)} for section in classes]
    with path.open("w", encoding="ascii") as file:
        file.write(COLLECTION_START)
        for number, polygon in enumerate(trace(rows.bands(BAND_BYTES), rows.shape[1])):
            file.write(",\n" if number else "\n")
            rings = [ring - origin for ring in polygon.rings]
            file.writelines(feature_text(_compact(properties[polygon.label]), polygon_text(rings)))
        file.write(COLLECTION_END)


def origin_of(geometry: Geometry) -> Ring:
    """Return the pixel (y, x) from which QuPath counts."""
    return np.array(geometry.origin_px or (0, 0), np.int32)


def classification_of(section: ClassSection) -> dict[str, Any]:
    """Return QuPath's property of the class of an object."""
    return {"classification": {"name": section.name, "color": list(ImageColor.getrgb(section.colour))}}


def feature_text(properties: str, geometry: Iterable[str]) -> Iterator[str]:
    """Yield the text of a feature, in parts, with the JSON of its properties and of its geometry."""
    yield f'{{"type":"Feature","properties":{properties},"geometry":'
    yield from geometry
    yield "}"


def point_text(y: float, x: float) -> Iterator[str]:
    """Yield the text of a point."""
    yield _compact({"type": "Point", "coordinates": [x, y]})


def polygon_text(rings: Sequence[NDArray[Any]]) -> Iterator[str]:
    """Yield the text of a polygon, in parts.

    Args:
        rings: the outline, then the holes: (n, 2) points (y, x), not closed.
    """
    yield '{"type":"Polygon","coordinates":'
    yield from _rings_text(rings)
    yield "}"


def polygons_text(polygons: Sequence[Sequence[NDArray[Any]]]) -> Iterator[str]:
    """Yield the text of a polygon, or of a multi-polygon where there are several, in parts."""
    if len(polygons) == 1:
        yield from polygon_text(polygons[0])
        return
    yield '{"type":"MultiPolygon","coordinates":'
    for number, rings in enumerate(polygons):
        yield "," if number else "["
        yield from _rings_text(rings)
    yield "]}"


def _rings_text(rings: Sequence[NDArray[Any]]) -> Iterator[str]:
    for number, ring in enumerate(rings):
        yield ",[" if number else "[["
        points = ring[:, ::-1]  # (x, y)
        for start in range(0, len(points), _POINTS_AT_ONCE):
            yield _compact(points[start : start + _POINTS_AT_ONCE].tolist())[1:-1] + ","
        yield _compact(points[0].tolist()) + "]"  # GeoJSON repeats the first corner at the end
    yield "]"
