"""NIfTI files of a mask or probabilities in 3D, in the orientation of the image's file, slab by slab."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.voxels import to_file
from imaging.writing.row_buffer import RowBuffer, VolumeOfPlane

_LONGEST_AXIS_1 = 32767  # of NIfTI-1
_HEADER_BYTES = {1: 352, 2: 544}  # with the four bytes after it, which declare no extensions
_ALIGNED_CODE = 2  # NIfTI's "aligned to something else"; readers ignore an affine without a code
_SLAB_BYTES = 32 * 2**20
_GZIP_LEVEL = 3  # 6 takes five times as long for a few bytes less


def write_nifti(path: Path, rows: RowBuffer | VolumeOfPlane, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write labels (D, H, W) or probabilities (K, D, H, W) in bytes, in the orientation of the image's file.

    Of the image's header, only the geometry is copied. Probabilities are the fourth axis; the header's slope scales them to
    0 to 1.
    """
    affine = geometry.affine
    if affine is None:  # axes along the patient's
        spacing_um = geometry.spacing_um or (1000.0, 1000.0, 1000.0)
        affine = np.diag([*(value / 1000 for value in reversed(spacing_um)), 1.0])
    header = _header(rows, affine, geometry)
    with ExitStack() as stack:
        file = cast("IO[bytes]", stack.enter_context(path.open("wb")))
        if path.suffix == ".gz":  # without name and time, so that equal masks give equal files
            file = cast("IO[bytes]", stack.enter_context(gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)))
        header.write_to(file)
        for slab in _slabs(rows, affine):
            file.write(slab.tobytes(order="F"))


def _header(voxels: RowBuffer | VolumeOfPlane, affine: NDArray[np.float64], geometry: Geometry) -> Any:
    codes = geometry.affine_codes
    x, y, z = to_file(np.broadcast_to(np.uint8(0), voxels.shape[-3:]), affine).shape
    version = 1 if max(voxels.shape) <= _LONGEST_AXIS_1 else 2
    header = {1: nib.Nifti1Header, 2: nib.Nifti2Header}[version]()
    header.set_data_dtype(voxels.dtype)
    is_flat = geometry.file_axes == 2 and len(voxels.shape) == 3
    header.set_data_shape((x, y) if is_flat else (x, y, z, *voxels.shape[:-3]))
    header["vox_offset"] = _HEADER_BYTES[version]
    header.set_slope_inter(1 / 255 if len(voxels.shape) == 4 else 1, 0)  # not None, which nibabel writes as NaN
    header.set_xyzt_units("mm")
    header.set_qform(affine, codes[1])
    header.set_sform(affine, codes[0])
    if not any(codes) and not np.allclose(header.get_base_affine(), affine):
        header.set_sform(affine, _ALIGNED_CODE)
    return header


def _slabs(voxels: RowBuffer | VolumeOfPlane, affine: NDArray[np.float64]) -> Iterator[NDArray[Any]]:
    """Yield the voxels (x, y, some z) in the file's order."""
    world, direction = orientations.io_orientation(affine)[2].astype(int)  # of the file's last axis
    axis = len(voxels.shape) - 1 - world  # inside, S = (superior, anterior, right) comes last
    size = voxels.shape[axis]
    thickness = max(1, _SLAB_BYTES * size // prod(voxels.shape[-3:]))
    for number in range(prod(voxels.shape[:-3])):
        for start in range(0, size, thickness):
            first, last = start, min(start + thickness, size)
            if direction < 0:
                first, last = size - last, size - first
            region = [slice(number, number + 1)] * (len(voxels.shape) - 3) + [slice(None)] * 3
            region[axis] = slice(first, last)
            slab = voxels.read(tuple(region))
            yield to_file(slab.reshape(slab.shape[-3:]), affine)
