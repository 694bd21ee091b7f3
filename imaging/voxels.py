"""Voxels of volumes: the internal order of their axes, and the conversion of what a file stores to it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.source import Geometry, check_range

_RAS = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's form of an orientation: (axis, direction) for each axis


def to_inside(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Return a view of a file's array with the internal axes.

    Args:
        array: (x, y, z) as in the file.
        affine: (4, 4), index in that array -> right-anterior-superior.

    Returns:
        (D, H, W) = (superior, anterior, right), each growing in that direction, as nearly as is possible without resampling.
    """
    return orientations.apply_orientation(array, orientations.io_orientation(affine)).transpose()  # type: ignore[no-any-return]


def to_file(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Return a view (x, y, z) of (D, H, W) as in the file with that affine, the exact inverse of `to_inside`."""
    back = orientations.ornt_transform(_RAS, orientations.io_orientation(affine))
    return orientations.apply_orientation(array.transpose(), back)  # type: ignore[no-any-return]


def geometry_inside(shape: tuple[int, int, int], affine: NDArray[np.float64], spacing_um: tuple[float, ...] | None) -> Geometry:
    """Return the geometry of a file's array after `to_inside`.

    Args:
        shape: (x, y, z) in the file.
        affine: (4, 4), index in the file's array -> right-anterior-superior.
        spacing_um: along (x, y, z); None: not known.
    """
    axes = orientations.io_orientation(affine)[:, 0].astype(int)  # file axis -> 0 right, 1 anterior, 2 superior
    order = [int(np.flatnonzero(axes == axis)[0]) for axis in (2, 1, 0)]
    return Geometry(
        shape=tuple(shape[axis] for axis in order),
        spacing_um=spacing_um and tuple(spacing_um[axis] for axis in order),
        affine=affine,
    )


def affine_inside(geometry: Geometry) -> NDArray[np.float64] | None:
    """Return the affine (4, 4), index of (right, anterior, superior) -> mm, equal for files whose axes are turned only.

    None: the geometry has no affine.
    """
    volume = geometry.volume or geometry
    if volume.affine is None:
        return None
    turned = orientations.io_orientation(volume.affine)
    shape = tuple(volume.shape[2 - int(axis)] for axis in turned[:, 0])  # (x, y, z) in the file
    inside: NDArray[np.float64] = volume.affine @ orientations.inv_ornt_aff(turned, shape)
    return inside


def convert_voxels(parts: Iterable[tuple[NDArray[Any], NDArray[Any]]], *, slope: float = 1.0, intercept: float = 0.0) -> None:
    """Write stored voxels, scaled and converted, to their places in memory, part by part.

    Args:
        parts: the place of a part, a view of the array in memory, and the part's voxels as the file stores them.
        slope: factor of the stored values.
        intercept: added to them after that.

    Raises:
        UnsuitableImage: `non_finite_voxels`; `value_range` for integers of 64 bits that float32 cannot hold.
    """
    is_scaled = (slope, intercept) != (1.0, 0.0)
    not_finite = 0
    for place, stored in parts:
        if stored.dtype.kind in "iu" and stored.dtype.itemsize == 8:
            check_range(stored)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 becomes infinite, and is counted
            values = (stored * slope + intercept if is_scaled else stored).astype(place.dtype, copy=False)
        place[...] = values
        not_finite += values.size - int(np.isfinite(values).sum())
    if not_finite:
        raise UnsuitableImage(
            "non_finite_voxels",
            f"{not_finite} voxels are NaN, infinite or too large for float32; replace them with numbers",
        )
