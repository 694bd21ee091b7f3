"""Affine of a NIfTI volume, checked, from its sform, its qform or its voxel size alone."""

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
_SAME_VOXELS = 0.1  # largest distance between a voxel's positions by sform and by qform, in voxels
RESAMPLE_COMMAND = (  # docs/formats.md explains it
    'python -c "import nibabel as nib, nibabel.processing as p; '
    "nib.save(p.resample_to_output(nib.load('IN.nii.gz'), order=1), 'OUT.nii.gz')\""
)

_QUATERNION_ROUNDING = 3 * 2.0**-23  # of the squares of three float32 numbers; nibabel uses the same value


def checked_affine(fields: Fields, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the affine (4, 4), index -> mm, and remarks.

    The sform takes precedence over the qform. Without both, only the voxels' size is known. A code that the format doesn't have
    counts as 0, as in nibabel, with the remark `orientation_code_unknown`.

    Raises:
        UnsuitableImage: `affine_invalid`, `affine_sheared`.
    """
    sform_code, qform_code = affine_codes(fields)
    if "sform_code" not in fields.dtype.names:  # Analyze
        return _checked(_centred(fields, shape), shape), ("no_orientation",)
    are_known = (sform_code, qform_code) == (int(fields["sform_code"]), int(fields["qform_code"]))
    remarks = () if are_known else ("orientation_code_unknown",)
    if not sform_code:
        affine = _checked((_qform(fields) if qform_code else _centred(fields, shape)) * _unit(fields), shape)
        return affine, remarks if qform_code else (*remarks, "no_orientation")
    affine = _checked(np.vstack([fields["srow"], [0, 0, 0, 1]]).astype(np.float64) * _unit(fields), shape)
    agree = not qform_code or _have_equal_positions(affine, _qform(fields) * _unit(fields), shape)
    return affine, remarks if agree else (*remarks, "sform_qform_differ")


def _checked(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine, checked; where there is one slice, its thickness may be missing or larger than those of volumes.

    2D images in NIfTI have a thickness of 0, or of 999 mm as nnU-Net writes them.
    """
    if shape[2] > 1:
        check_affine(affine)
        return affine
    thin = affine.copy()
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    thickness_mm = np.linalg.norm(affine[:3, 2])
    if np.isfinite(thickness_mm) and thickness_mm > 0:
        thin[:3, 2] /= thickness_mm
    elif np.linalg.norm(normal) > 0:
        thin[:3, 2] = normal / np.linalg.norm(normal)
        affine = thin
    check_affine(thin)
    return affine


def affine_codes(fields: Fields) -> tuple[int, int]:
    """Return the codes of sform and qform; 0 for one that the format doesn't have."""
    if "sform_code" not in fields.dtype.names:  # Analyze
        return 0, 0
    sform_code, qform_code = (int(fields[name]) for name in ("sform_code", "qform_code"))
    return (
        sform_code if 0 <= sform_code <= _LARGEST_CODE else 0,
        qform_code if 0 <= qform_code <= _LARGEST_CODE else 0,
    )


def _qform(fields: Fields) -> NDArray[np.float64]:
    """Return the affine of the qform, a unit quaternion times the voxel size; all NaN where its numbers are invalid."""
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
    """Return the affine that nibabel uses without sform and qform (Analyze): x to the left, the middle voxel at the origin.

    SPM's origin in an Analyze header takes the place of the middle voxel if it is near the volume.
    """
    zooms = fields["pixdim"][1:4].astype(np.float64)
    if not (zooms > 0).all():
        return np.full((4, 4), np.nan)
    steps = zooms * (-1, 1, 1)
    affine = np.diag([*steps, 1.0])
    sizes = np.array(shape)
    origin = fields["origin"].astype(int) if "origin" in fields.dtype.names else np.zeros(3, int)
    is_set = origin.any() and (origin > -sizes).all() and (origin < 2 * sizes).all()
    affine[:3, 3] = -steps * (origin - 1.0 if is_set else (sizes - 1) / 2)
    return affine


def _unit(fields: Fields) -> NDArray[np.float64]:
    """Return the factor from the file's unit to mm for each row."""
    factor = _MM_PER_UNIT.get(int(fields["xyzt_units"]) & _UNIT_BITS, 1.0)
    return np.array([[factor], [factor], [factor], [1.0]])


def check_affine(affine: NDArray[np.float64]) -> None:
    """Check that an affine (4, 4) in mm is one that a scanner's volume can have.

    Raises:
        UnsuitableImage: `affine_invalid`, `affine_sheared`.
    """
    if not (np.abs(affine) <= _FARTHEST_MM).all():  # also where one is NaN
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
            "the volume's axes aren't at right angles (a tilted gantry, for example); resample it onto a grid whose axes are, "
            f"a NIfTI file with {RESAMPLE_COMMAND}",
        )


def _affine_invalid() -> DataError:
    return UnsuitableImage(
        "affine_invalid",
        "the volume's header doesn't give the position of its voxels (an affine that isn't finite or can't be inverted, or "
        f"voxels that aren't {_ZOOMS_MM[0]:g} to {_ZOOMS_MM[1]:g} mm long); export it again with its geometry",
    )


def _have_equal_positions(sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    """Return True if both affines give every voxel about the same position; comparing the corners is enough."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))]).T  # (4, 8)
    distances = np.linalg.norm((sform - qform) @ corners, axis=0)
    smallest = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    return bool((distances <= _SAME_VOXELS * smallest).all())  # False where the qform is NaN
