"""An image's world: millimetres of the patient or scanner for volumes, micrometres for 2D images."""

import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

from imaging.source import Geometry


def world_affine(geometry: Geometry) -> NDArray[np.float64] | None:
    """Return the affine from positions of pixels to the image's world, both in S order; None without a spacing.

    Volumes with an affine are in its world, (superior, anterior, right) in millimetres; others in millimetres from the centre
    of their first voxel. 2D images are in micrometres from the centre of their first pixel. An origin, which OME-Zarr has, is
    added.

    Args:
        geometry: geometry of the image.

    Returns:
        (dimensions + 1, dimensions + 1), for positions at which the centre of the first pixel is at 0.
    """
    if geometry.affine is not None and len(geometry.shape) == 3:  # planes of volumes have one, too
        orientation = orientations.io_orientation(geometry.affine)
        inside = np.array(geometry.shape[::-1])  # (right, anterior, superior)
        to_file = orientations.inv_ornt_aff(orientation, inside[orientation[:, 0].astype(int)])
        turned = np.eye(4)[[2, 1, 0, 3]]  # S order <-> (x, y, z)
        return np.asarray(turned @ geometry.affine @ to_file @ turned)
    if geometry.spacing_um is None:
        return None
    unit_um = 1000 if len(geometry.shape) == 3 else 1
    origin_um = geometry.origin_um or (0.0,) * len(geometry.shape)
    return np.asarray(affines.from_matvec(np.diag(geometry.spacing_um) / unit_um, np.array(origin_um) / unit_um))
