"""Multiscale metadata of an OME-Zarr group, 0.4 or 0.5: its axes, and the place and spacing of each level."""

from dataclasses import dataclass
from math import isfinite
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from imaging.errors import UnsuitableImage, UnsupportedFormat
from imaging.ome_zarr.metadata import metadata_invalid, path_outside

_UM_PER_UNIT = {
    "angstrom": 1e-4, "picometer": 1e-6, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4,
    "decimeter": 1e5, "meter": 1e6, "inch": 25400.0, "nm": 1e-3, "um": 1.0, "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0, "micron": 1.0, "mm": 1e3, "cm": 1e4,
}  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """Level of a pyramid: the folder of its array, and the step and the first pixel's place along each axis."""

    path: PurePosixPath
    scale: tuple[float, ...]
    translation: tuple[float, ...] | None


@dataclass(frozen=True)
class Multiscale:
    """A pyramid: `axes` is a letter an axis out of tczyx in the arrays' own order; the finest level comes first."""

    axes: str
    units: tuple[str | None, ...]
    datasets: tuple[Dataset, ...]

    def spacing_um(self, dataset: Dataset, axes: str) -> tuple[float, ...] | None:
        """Return the steps along some axes in micrometres; None where a unit is missing or unknown."""
        return self._in_um(dataset.scale, axes)

    def origin_um(self, axes: str) -> tuple[float, ...] | None:
        """Return the place of the finest level's first pixel; None where none is given, or a unit is missing."""
        translation = self.datasets[0].translation
        return None if translation is None else self._in_um(translation, axes)

    def _in_um(self, values: tuple[float, ...], axes: str) -> tuple[float, ...] | None:
        places = [self.axes.index(axis) for axis in axes]
        units = [_UM_PER_UNIT.get(self.units[place] or "") for place in places]
        in_um = tuple(values[place] * unit for place, unit in zip(places, units, strict=True) if unit)
        if not all(map(isfinite, in_um)):
            raise metadata_invalid()
        return in_um if len(in_um) == len(axes) else None


class _Transformation(BaseModel):
    type: Literal["identity", "scale", "translation"]
    scale: list[float] | None = None
    translation: list[float] | None = None


class _Axis(BaseModel):
    name: str
    unit: str | None = None


class _Dataset(BaseModel):
    path: str = Field(min_length=1, max_length=1000)
    coordinate_transformations: list[_Transformation] = Field(alias="coordinateTransformations", min_length=1, max_length=2)


class _Multiscale(BaseModel):
    version: str | None = None
    axes: list[_Axis] = Field(min_length=2, max_length=5)
    datasets: list[_Dataset] = Field(min_length=1, max_length=64)
    coordinate_transformations: list[_Transformation] = Field(alias="coordinateTransformations", default=[], max_length=2)


class _Group(BaseModel):
    """Format 3's attributes under `ome`, format 2's at the top; of several multiscales the first, as the standard says."""

    version: str | None = None
    multiscales: list[dict[str, Any]] = []


class _Attributes(BaseModel):
    ome: _Group | None = None


class _GroupV3(BaseModel):
    zarr_format: Literal[3]
    node_type: str
    attributes: _Attributes = _Attributes()


def multiscale(content: bytes, *, zarr_format: int) -> Multiscale:
    """Return the first pyramid that a group's `.zattrs` (format 2) or `zarr.json` (format 3) describes.

    Raises:
        BrokenImage: `zarr_metadata_invalid`.
        UnsuitableImage: `zarr_no_image`, `dimension_not_supported`.
        UnsupportedFormat: `zarr_version_not_supported`, `zarr_path_outside`.
    """
    try:
        described = _described(content, zarr_format)
    except ValidationError as error:
        raise metadata_invalid() from error
    names = [axis.name for axis in described.axes]
    if not {"y", "x"} <= set(names) <= set("tczyx") or len(set(names)) < len(names):
        raise UnsuitableImage(
            "dimension_not_supported",
            "the OME-Zarr has unsupported axes; allowed are y and x, and one each of z, c and t: save it with these",
        )
    axes = "".join(names)
    units = tuple(axis.unit for axis in described.axes)
    return Multiscale(axes, units, tuple(_dataset(dataset, described, len(axes)) for dataset in described.datasets))


def _described(content: bytes, zarr_format: int) -> _Multiscale:
    group = _Group.model_validate_json(content) if zarr_format == 2 else _GroupV3.model_validate_json(content).attributes.ome
    if group is None or not group.multiscales:
        raise no_image()
    first = group.multiscales[0]
    version = first.get("version", "0.4") if zarr_format == 2 else group.version
    if version != ("0.4" if zarr_format == 2 else "0.5"):
        raise UnsupportedFormat(
            "zarr_version_not_supported",
            "the OME-Zarr's version is not supported; allowed are 0.4 (in Zarr 2) and 0.5 (in Zarr 3): save it again as one",
        )
    return _Multiscale.model_validate(first)


def _dataset(dataset: _Dataset, described: _Multiscale, axes: int) -> Dataset:
    """Return a level with its own transformations applied before those of the whole pyramid."""
    scale, translation = _transformed(dataset.coordinate_transformations, axes)
    outer_scale, outer_translation = _transformed(described.coordinate_transformations, axes)
    if scale is None:
        raise metadata_invalid()
    outer_scale = outer_scale or (1.0,) * axes
    moved = None
    if translation or outer_translation:
        inner = translation or (0.0,) * axes
        outer = outer_translation or (0.0,) * axes
        moved = tuple(value * step + more for value, step, more in zip(inner, outer_scale, outer, strict=True))
    scaled = tuple(value * step for value, step in zip(scale, outer_scale, strict=True))
    # the level's folder has to lie below the group's
    if any(part in ("", ".", "..") for part in dataset.path.split("/")) or any(char in dataset.path for char in "\\:\0"):
        raise path_outside()
    return Dataset(PurePosixPath(dataset.path), scaled, moved)


def _transformed(
    transformations: list[_Transformation], axes: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return the scale and the translation; at most one of each is allowed, the scale first."""
    kinds = [each.type for each in transformations if each.type != "identity"]
    if kinds not in ([], ["scale"], ["translation"], ["scale", "translation"]):
        raise metadata_invalid()
    values = {each.type: tuple(getattr(each, each.type) or ()) for each in transformations if each.type != "identity"}
    scale, translation = values.get("scale"), values.get("translation")
    for numbers in values.values():
        if len(numbers) != axes or not all(isfinite(number) for number in numbers):
            raise metadata_invalid()
    if scale and min(scale) <= 0:
        raise metadata_invalid()
    return scale, translation


def no_image() -> UnsuitableImage:
    """Return the error for a Zarr folder that isn't an image."""
    return UnsuitableImage(
        "zarr_no_image",
        "this Zarr folder holds no image of its own (no multiscales); give the folder of one image, of a plate or a collection "
        "one of those inside, such as image.zarr/0 or image.zarr/labels/nuclei",
    )
