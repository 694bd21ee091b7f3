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
    heads = []  # the text of an object of each class up to its coordinates
    for section in classes:
        colour = list(ImageColor.getrgb(section.colour))
        properties = {"objectType": "annotation", "classification": {"name": section.name, "color": colour}}
        head = f'{{"type":"Feature","properties":{_compact(properties)},"geometry":{{"type":"Polygon","coordinates":['
        heads.append(head)
    with path.open("w", encoding="ascii") as file:
        file.write('{"type":"FeatureCollection","features":[')
        for number, polygon in enumerate(trace(rows.bands(_BAND_BYTES), rows.shape[1])):
            file.write(",\n" if number else "\n")
            file.writelines(_feature(polygon, heads[polygon.label], origin))
        file.write("\n]}\n")


def _feature(polygon: Polygon, head: str, origin: Ring) -> Iterator[str]:
    """Yield the text of one object, in parts."""
    yield head
    for number, ring in enumerate(polygon.rings):
        yield ",[" if number else "["
        points = (ring - origin)[:, ::-1]  # (x, y)
        for start in range(0, len(points), _POINTS_AT_ONCE):
            yield _compact(points[start : start + _POINTS_AT_ONCE].tolist())[1:-1] + ","
        yield _compact(points[0].tolist()) + "]"  # GeoJSON repeats the first corner at the end
    yield "]}}"
