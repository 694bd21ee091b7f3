"""Outlines of objects as GeoJSON for QuPath, each with its measurements: `STEM_objects.geojson`."""

import json
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from configs.sections import ClassSection
from imaging.outlines.smoothing import smooth_polygons
from imaging.outlines.tracing import trace
from imaging.source import Geometry
from imaging.writing.geojson import (
    BAND_BYTES,
    COLLECTION_END,
    COLLECTION_START,
    classification_of,
    feature_text,
    origin_of,
    point_text,
    polygon_text,
    polygons_text,
)
from imaging.writing.run_buffer import RunBuffer
from inference.objects.image_object import ImageObject
from inference.outputs.object_table import Values
from inference.request import OutputRequest

LARGEST_SMOOTH_PX = 2**22  # pixels of the box of an object; the outline of a larger one stays exact

_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class OutlineFile:
    """Features of an image's objects, collected in two files until all objects are found.

    Points and smooth outlines are written object by object. Exact outlines are traced at the end, all at once, in the image of
    the objects' numbers.

    Args:
        features: empty file for finished features.
        untraced: empty file for the properties of objects that are traced at the end.
        geometry: geometry of the image, 2D.
        classes: classes in the order of their labels.
        request: style of the outlines, and type of the objects in QuPath. Objects without a smooth outline keep the exact one.
    """

    def __init__(
        self,
        features: IO[str],
        untraced: IO[bytes],
        geometry: Geometry,
        *,
        classes: Sequence[ClassSection],
        request: OutputRequest,
    ) -> None:
        self._features, self._untraced = features, untraced
        self._origin = origin_of(geometry)
        self._width = geometry.shape[1]
        self._properties = [{"objectType": request.object_type, **classification_of(section)} for section in classes]
        self._is_smooth = request.outlines == "smooth"
        self._ends = array("Q", [0])  # in `untraced`, of the properties of each object
        self._has_features = False

    def add(self, found: ImageObject, values: Values) -> None:
        """Add an object with its measurements; numbers come in order, from 1."""
        measurements = {name: value for name, value in values.items() if value is not None}
        properties = _compact({**self._properties[found.label], "measurements": measurements})
        if found.is_point:
            y, x = (centre + 0.5 - first for centre, first in zip(found.centroid_px, self._origin.tolist(), strict=True))
            self._write(properties, point_text(y, x))
        elif polygons := self._smooth_polygons(found):
            self._write(properties, polygons_text(polygons))
        else:
            self._untraced.write(properties.encode("ascii"))
        self._ends.append(self._untraced.tell())

    def save(self, path: Path, numbers: RunBuffer) -> None:
        """Write the file, and trace the objects that have no feature yet in the image of their numbers."""
        if self._ends[-1]:
            for polygon in trace(numbers.bands(BAND_BYTES), self._width):
                self._untraced.seek(self._ends[polygon.label - 1])
                properties = self._untraced.read(self._ends[polygon.label] - self._ends[polygon.label - 1])
                if properties:
                    self._write(properties.decode("ascii"), polygon_text([ring - self._origin for ring in polygon.rings]))
        self._features.seek(0)
        with path.open("w", encoding="ascii") as file:
            file.write(COLLECTION_START)
            while text := self._features.read(BAND_BYTES):
                file.write(text)
            file.write(COLLECTION_END)

    def _smooth_polygons(self, found: ImageObject) -> list[list[NDArray[Any]]]:
        """Return the smooth polygons of an object; empty where it keeps the exact ones."""
        rows, columns = found.box
        size = (rows.stop - rows.start) * (columns.stop - columns.start)
        if not self._is_smooth or size > LARGEST_SMOOTH_PX:
            return []
        first = [rows.start, columns.start] - self._origin
        return [[ring + first for ring in polygon] for polygon in smooth_polygons(found.pixels)]

    def _write(self, properties: str, geometry: Iterable[str]) -> None:
        self._features.write(",\n" if self._has_features else "\n")
        self._features.writelines(feature_text(properties, geometry))
        self._has_features = True
