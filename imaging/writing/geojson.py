"""GeoJSON of a 2D mask as QuPath reads it: each object is an annotation, written as soon as it is complete."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import ImageColor

from configs.sections import ClassSection
from imaging.outlines.tracing import Polygon, Ring, trace
from imaging.source import Geometry
from imaging.writing.row_buffer import RowBuffer

_BAND_BYTES = 4 * 2**20
_POINTS_AT_ONCE = 2**14
_compact = json.JSONEncoder(separators=(",", ":")).encode


def write_geojson(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write the objects of labels (H, W) without the first class, the background.

    Coordinates are (x, y) in pixels of level 0 with QuPath's origin, and lie on the corners of pixels: filling the polygons
    by the pixels' centres gives the mask again. Objects are 4-connected; two that touch at a corner stay two.

    Source: RFC 7946; QuPath 0.4, "Exporting annotations", for the properties.
    """
    origin = np.array(geometry.origin_px or (0, 0), np.int32)
    heads = [_head(section) for section in classes]
    with path.open("w", encoding="ascii") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, polygon in enumerate(trace(rows.bands(_BAND_BYTES), rows.shape[1])):
            file.write(",\n" if number else "\n")
            file.writelines(_feature(polygon, heads[polygon.label], origin))
        file.write("\n]}\n")


def _head(section: ClassSection) -> str:
    colour = list(ImageColor.getrgb(section.colour))
    properties = {"objectType": "annotation", "classification": {"name": section.name, "color": colour}}
    return f'{{"type":"Feature","properties":{_compact(properties)},"geometry":{{"type":"Polygon","coordinates":['


def _feature(polygon: Polygon, head: str, origin: Ring) -> Iterator[str]:
    """Yield the text of one object, in parts."""
    yield head
    for number, ring in enumerate(polygon.rings):
        yield ",[" if number else "["
        yield from _points(ring - origin)
        yield "]"
    yield "]}}"


def _points(ring: Ring) -> Iterator[str]:
    """Yield the text of a ring's corners, the first once more at the end."""
    for start in range(0, len(ring), _POINTS_AT_ONCE):
        yield _compact(ring[start : start + _POINTS_AT_ONCE, ::-1].tolist())[1:-1] + ","
    yield _compact(ring[0, ::-1].tolist())
