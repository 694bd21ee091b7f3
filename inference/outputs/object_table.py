"""Measurements of objects in the units that people use: one line of `STEM_objects.csv` for each object.

docs/segment.md describes every column.
"""

import csv
from collections.abc import Sequence
from math import isnan, pi, prod
from typing import IO

import numpy as np
from nibabel.affines import apply_affine

from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.world import world_affine
from inference.image_label import as_text
from inference.objects.image_object import ImageObject

Values = dict[str, float | int | None]

_AXES = ("z", "y", "x")
_STARTS = ("front_px", "top_px", "left_px")
_SIZES = ("depth_px", "height_px", "width_px")


class ObjectColumns:
    """Columns of the measurements of one image's objects.

    Args:
        geometry: geometry of the image.
        channels: names of its channels.
        are_points: objects are centres of detections, which have a position and a score only.
    """

    def __init__(self, geometry: Geometry, channels: Sequence[str], *, are_points: bool) -> None:
        self._geometry = geometry
        self._dimensions = len(geometry.shape)
        self._to_world = world_affine(geometry)
        self._channels = channels
        self._are_points = are_points

    def values(self, found: ImageObject) -> Values:
        """Return the measurements of an object by the names of their columns, with nine digits; None where one isn't known."""
        return {name: _rounded(value) for name, value in self._exact_values(found).items()}

    def _exact_values(self, found: ImageObject) -> Values:
        in_world: Sequence[float | None] = (None,) * self._dimensions
        if self._to_world is not None:
            in_world = apply_affine(self._to_world, np.array(found.centroid_px)).tolist()
        unit = "mm" if self._dimensions == 3 else "um"
        axes = _AXES[-self._dimensions :]
        position: Values = {f"{axis}_px": value for axis, value in zip(axes, found.centroid_px, strict=True)}
        position |= {f"{axis}_{unit}": value for axis, value in zip(axes, in_world, strict=True)}
        if self._are_points:
            return {"id": found.number, **position, "score": found.score}
        starts = zip(_STARTS[-self._dimensions :], found.box, strict=True)
        sizes = zip(_SIZES[-self._dimensions :], found.box, strict=True)
        box: Values = {name: side.start for name, side in starts} | {name: side.stop - side.start for name, side in sizes}
        return {"id": found.number, **self._size(found), **position, **box, **self._shape(found), **self._intensities(found)}

    @property
    def names(self) -> list[str]:
        """Names of the columns in their order, `class` among them."""
        nothing = (0.0,) * len(self._channels)
        box = tuple(slice(0, 1) for _ in range(self._dimensions))
        runs = np.zeros((0, self._dimensions + 1), np.int32)
        example = ImageObject(1, 1, runs, box, 1, (0.0,) * self._dimensions, 1.0, 0.0, 0.0, nothing, nothing)
        first, *others = self.values(example)
        return [first, "class", *others]

    def _size(self, found: ImageObject) -> Values:
        spacing_um = self._geometry.spacing_um
        size_um = None if spacing_um is None else found.area_px * prod(spacing_um)
        if self._dimensions == 2:
            return {"area_px": found.area_px, "area_um2": size_um}
        return {"volume_px": found.area_px, "volume_mm3": None if size_um is None else size_um / 1e9}

    def _shape(self, found: ImageObject) -> Values:
        """Return the diameter of the disc or ball of equal size, and in 2D eccentricity and solidity."""
        spacing_um = self._geometry.spacing_um
        size = None if spacing_um is None else found.area_px * prod(spacing_um)
        diameter: Values = {"equivalent_diameter_px": found.equivalent_diameter_px}
        if self._dimensions == 3:
            return {**diameter, "equivalent_diameter_mm": None if size is None else (6 * size / pi) ** (1 / 3) / 1000}
        diameter["equivalent_diameter_um"] = None if size is None else 2 * (size / pi) ** 0.5
        return {**diameter, "eccentricity": found.eccentricity, "solidity": found.solidity}

    def _intensities(self, found: ImageObject) -> Values:
        values: Values = {"mean_probability": found.mean_probability}
        for name, mean, deviation in zip(self._channels, found.channel_means, found.channel_deviations, strict=True):
            values |= {f"mean_{name}": mean, f"std_{name}": deviation}
        return values


class ObjectTable:
    """CSV file with a line for each object.

    Args:
        file: text file, open without translation of line ends.
        columns: columns of the measurements.
        classes: classes in the order of their labels.
    """

    def __init__(self, file: IO[str], columns: ObjectColumns, classes: Sequence[ClassSection]) -> None:
        self._names = [as_text(section.name) for section in classes]
        self._table = csv.writer(file, lineterminator="\n")
        self._table.writerow(columns.names)

    def add(self, found: ImageObject, values: Values) -> None:
        """Write the line of an object with these measurements; a cell is empty where one isn't known."""
        number, *others = values.values()
        self._table.writerow([number, self._names[found.label], *others])


def _rounded(value: float | int | None) -> float | int | None:
    """Return the value with nine significant digits; None for NaN, where a measure isn't defined."""
    if isinstance(value, float):
        return None if isnan(value) else float(f"{value:.9g}")
    return value
