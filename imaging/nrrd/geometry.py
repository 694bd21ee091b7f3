"""Geometry of an NRRD volume from its header's fields: the affine, or else the spacing."""

import re
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage, UnsuitableImage
from imaging.nifti.affine import check_affine

_RAS_SIGNS = {  # factors that turn a space's axes into right-anterior-superior
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")  # without the patient's directions
_MM_PER_UNIT = {
    "m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "\N{MICRO SIGN}m": 0.001, "\N{GREEK SMALL LETTER MU}m": 0.001,
    "meter": 1000.0, "centimeter": 10.0, "millimeter": 1.0, "micrometer": 0.001, "micron": 0.001,
}  # fmt: skip


def nrrd_geometry(
    fields: dict[str, str], channel_axis: int | None
) -> tuple[NDArray[np.float64] | None, tuple[float, ...] | None]:
    """Return the affine (4, 4), index -> right-anterior-superior in mm, and without one the spacing in (x, y, z).

    Each is None where the header doesn't give it.

    Args:
        fields: the header's fields by their names without blanks.
        channel_axis: index of the file's axis that isn't spatial; None without one.

    Raises:
        BrokenImage: `nrrd_header_invalid`.
        UnsuitableImage: `affine_invalid`, `affine_sheared`.
    """
    directions = _directions(fields, channel_axis)
    affine = _affine(fields, directions)
    return affine, None if affine is not None else _spacing_um(fields, directions, channel_axis)


def _directions(fields: dict[str, str], channel_axis: int | None) -> NDArray[np.float64] | None:
    """Return the steps of the file's axes in the header's own space, (3, 3), one a column; None without the field."""
    if "spacedirections" not in fields:
        return None
    steps = _vectors(fields["spacedirections"])
    if channel_axis is not None and len(steps) == 4 and steps[channel_axis] is None:
        del steps[channel_axis]
    if len(steps) != 3 or any(step is None for step in steps):
        raise header_invalid("`space directions` isn't a vector of three numbers for each spatial axis")
    return np.array(steps, np.float64).T


def _affine(fields: dict[str, str], directions: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the affine; None for spaces without the patient's directions."""
    space = fields.get("space", "").lower()
    if space not in _RAS_SIGNS:
        if space and space not in _OTHER_SPACES:
            raise _affine_invalid()
        return None
    origin = _vectors(fields.get("spaceorigin", "(0,0,0)"))
    if directions is None or len(origin) != 1 or origin[0] is None:
        raise _affine_invalid()
    units_mm = np.array(_units_mm(fields, "spaceunits") or (1.0, 1.0, 1.0))  # every program writes mm there
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, origin[0]
    affine[:3] *= (units_mm * _RAS_SIGNS[space])[:, None]
    check_affine(affine)
    return affine


def _spacing_um(
    fields: dict[str, str], directions: NDArray[np.float64] | None, channel_axis: int | None
) -> tuple[float, ...] | None:
    """Return the spacing from the directions or the spacings; None where the header gives no unit."""
    if directions is not None:
        steps: list[float] = [float(length) for length in np.linalg.norm(directions, axis=0)]
        units = _units_mm(fields, "spaceunits")
        units = units if units and len(set(units)) == 1 else None  # units of the space's axes, not of the file's
    else:
        steps = _without_axis(channel_axis, _reals(fields.get("spacings", "")))
        units = _units_mm(fields, "units", channel_axis)
    if units is None or not steps:
        return None
    if len(steps) != 3 or not all(isfinite(step) and step > 0 for step in steps):
        raise header_invalid("`spacings` or `space directions` aren't three numbers above 0")
    return tuple(1000.0 * step * unit for step, unit in zip(steps, units, strict=True))


def _units_mm(fields: dict[str, str], name: str, channel_axis: int | None = None) -> tuple[float, ...] | None:
    """Return the length of each axis's unit in mm; None where the header gives no units.

    Raises:
        UnsuitableImage: `affine_invalid` for a unit that isn't a length.
    """
    words = _without_axis(channel_axis, re.findall(r'"([^"]*)"|(\S+)', fields.get(name, "")))
    units = [(quoted or bare).strip().lower() for quoted, bare in words]
    if not any(units):
        return None
    if len(units) != 3 or not set(units) <= _MM_PER_UNIT.keys():
        raise _affine_invalid()
    return tuple(_MM_PER_UNIT[unit] for unit in units)


def _without_axis(axis: int | None, values: list[Any]) -> list[Any]:
    return [value for place, value in enumerate(values) if axis is None or place != axis]


def _reals(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError as error:
        raise header_invalid("a list of numbers contains a word") from error


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    """Parse vectors such as (1,2,3), and the word none, separated by blanks."""
    words = re.findall(r"\([^()]*\)|[^()\s]+", text)
    vectors = [None if word == "none" else tuple(_reals(word.strip("()").replace(",", " "))) for word in words]
    if any(vector is not None and len(vector) != 3 for vector in vectors):
        raise header_invalid("a vector doesn't have three numbers")
    return vectors


def header_invalid(what: str) -> BrokenImage:
    """Return the error for a header that violates the standard; `what` describes the violation."""
    return BrokenImage("nrrd_header_invalid", f"the NRRD's header can't be read: {what}; export the file again")


def _affine_invalid() -> UnsuitableImage:
    return UnsuitableImage(
        "affine_invalid",
        "the volume's header doesn't give the position of its voxels (a space, unit, direction or origin is missing or "
        "unknown); export it again with its geometry",
    )
