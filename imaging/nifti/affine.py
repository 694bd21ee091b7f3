"""Affine of a NIfTI volume, checked, from the three ways in which a header may give it."""

import itertools
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError, UnsuitableImage
from imaging.nifti.fields import Fields

_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_UNIT_BITS = 7
_LARGEST_CODE = 5
_ZOOMS_MM = (1e-6, 100.0)  # from electron microscopy to the thickest slices
_FARTHEST_MM = 1e7
_LARGEST_COSINE = 1e-3  # between two axes
_SMALLEST_DETERMINANT = 1e-6  # of the unit vectors along the axes
_SAME_VOXELS = 0.1  # how far sform and qform may put one voxel apart, in voxels
_QUATERNION_ROUNDING = 3 * 2.0**-23  # of the squares of three numbers in float32; nibabel takes the same


def checked_affine(fields: Fields, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine, index -> mm, (4, 4), and remarks.

    The sform wins over the qform; without both only the voxels' size is known. A code that the format doesn't have counts as 0,
    as in nibabel, with the remark `orientation_code_unknown`.

    Raises:
        UnsuitableImage: `affine_invalid`, `affine_sheared`.
    """
    sform_code, qform_code = affine_codes(fields)
    unknown = (sform_code, qform_code) != (int(fields["sform_code"]), int(fields["qform_code"]))
    remarks = ("orientation_code_unknown",) if unknown else ()
    if not sform_code:
        affine = _checked(_qform(fields) if qform_code else _centred(fields, shape), fields)
        return affine, remarks if qform_code else (*remarks, "no_orientation")
    affine = _checked(_sform(fields), fields)
    agree = not qform_code or _agree(affine, _qform(fields) * _unit(fields), shape)
    return affine, remarks if agree else (*remarks, "sform_qform_differ")


def affine_codes(fields: Fields) -> tuple[int, int]:
    """Return the codes of sform and qform; 0 for one that the format doesn't have."""
    sform_code, qform_code = (int(fields[name]) for name in ("sform_code", "qform_code"))
    return (
        sform_code if 0 <= sform_code <= _LARGEST_CODE else 0,
        qform_code if 0 <= qform_code <= _LARGEST_CODE else 0,
    )


def _sform(fields: Fields) -> NDArray[np.float64]:
    return np.vstack([fields["srow"], [0, 0, 0, 1]]).astype(np.float64)  # (4, 4)


def _qform(fields: Fields) -> NDArray[np.float64]:
    """Return the rotation of a unit quaternion times the voxel size; all NaN where the numbers are invalid."""
    b, c, d = (float(value) for value in fields["quatern"])
    rest = 1 - (b * b + c * c + d * d)
    zooms = fields["pixdim"][1:4].astype(np.float64)
    if not rest >= -_QUATERNION_ROUNDING or not (zooms > 0).all():
        return np.full((4, 4), np.nan)
    a = sqrt(rest) if rest > _QUATERNION_ROUNDING else 0.0
    rotation = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ]
    affine = np.eye(4)
    affine[:3, :3] = np.array(rotation) * zooms
    if fields["pixdim"][0] < 0:  # left-handed
        affine[:3, 2] *= -1
    affine[:3, 3] = fields["qoffset"]
    return affine


def _centred(fields: Fields, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return nibabel's affine without sform and qform (Analyze): x to the left, the middle voxel at the origin."""
    zooms = fields["pixdim"][1:4].astype(np.float64)
    if not (zooms > 0).all():
        return np.full((4, 4), np.nan)
    steps = zooms * (-1, 1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(shape) - 1) / 2
    return affine


def _unit(fields: Fields) -> NDArray[np.float64]:
    """Return the factor from the file's unit to mm for each row."""
    factor = _MM_PER_UNIT.get(int(fields["xyzt_units"]) & _UNIT_BITS, 1.0)
    return np.array([[factor], [factor], [factor], [1.0]])


def _checked(affine: NDArray[np.float64], fields: Fields) -> NDArray[np.float64]:
    """Return the affine in mm, checked."""
    affine = affine * _unit(fields)
    check_affine(affine)
    return affine


def check_affine(affine: NDArray[np.float64]) -> None:
    """Refuses an affine (4, 4) in mm that no scanner's volume has.

    Raises:
        UnsuitableImage: `affine_invalid`, `affine_sheared`.
    """
    if not (np.abs(affine) <= _FARTHEST_MM).all():  # nan isn't
        raise _affine_invalid()
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    if zooms.min() < _ZOOMS_MM[0] or zooms.max() > _ZOOMS_MM[1]:
        raise _affine_invalid()
    directions = affine[:3, :3] / zooms
    if abs(np.linalg.det(directions)) < _SMALLEST_DETERMINANT:
        raise _affine_invalid()
    cosines = directions.T @ directions - np.eye(3)
    if np.abs(cosines).max() > _LARGEST_COSINE:
        raise UnsuitableImage(
            "affine_sheared",
            "the volume's axes don't stand at right angles (a gantry that was tilted, for example); "
            "resample it onto a grid whose axes do",
        )


def _affine_invalid() -> DataError:
    return UnsuitableImage(
        "affine_invalid",
        "the volume's header doesn't say where its voxels lie (an affine that isn't finite or can't be inverted, or voxels "
        f"that aren't {_ZOOMS_MM[0]:g} to {_ZOOMS_MM[1]:g} mm long); export it again with its geometry",
    )


def _agree(sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    """Return True if both affines put every voxel at about the same place; comparing the corners is enough."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))]).T  # (4, 8)
    distances = np.linalg.norm((sform - qform) @ corners, axis=0)
    smallest = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    return bool((distances <= _SAME_VOXELS * smallest).all())  # never, where the qform is nan
