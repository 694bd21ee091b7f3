"""NIfTI and Analyze volumes, (1, D, H, W), of any orientation in the file; the voxels are read once and held in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel import affines
from numpy.typing import NDArray

from imaging.guards import LOCAL, Guards
from imaging.gunzip import Gunzip
from imaging.nifti.header import checked_header, voxel_file, voxel_stream, voxels
from imaging.source import HeldSource, MaskFormat
from imaging.voxels import convert_voxels, geometry_inside, to_file


class NiftiSource(HeldSource):
    """A NIfTI-1, NIfTI-2 or Analyze 7.5 volume, plain or gzip, with S = (superior, anterior, right).

    The voxels may lie in a second file (.hdr and .img) where the guards allow it.

    Scaled voxels and all real types become float32; unscaled integers keep their type. `geometry.affine` is the file's own, in
    mm. `file_warnings` are the header's.

    Args:
        path: the file.
        guards: how far it is trusted; at most 2**29 voxels where `max_pixels` is None.

    Raises:
        BrokenImage: `nifti_truncated_header`, `nifti_bad_dims`, `nifti_bad_offset`, `nifti_bad_extension`,
            `nifti_size_mismatch`, `gzip_corrupt`; at the first read of a gzip the last two, and
            `gzip_trailing_data`.
        ImageTooLarge: `volume_too_large`, by the header, before anything is loaded; at the first read
            `decompressed_too_large`.
        UnsupportedFormat: `unsupported_format`.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `bad_scaling`, `affine_invalid`,
            `affine_sheared`; at the first read `non_finite_voxels`, and `value_range` for integers of 64 bits.
    """

    mask_format: ClassVar[MaskFormat] = "nifti"

    def __init__(self, path: Path, guards: Guards = LOCAL) -> None:
        self._path = voxel_file(path, guards)
        self._guards = guards
        self._header = header = checked_header(path, guards, self._path)
        spacing_um = tuple(1000.0 * float(size_mm) for size_mm in affines.voxel_sizes(header.affine))
        geometry = geometry_inside(header.shape, header.affine, spacing_um)
        geometry = replace(geometry, affine_codes=header.affine_codes, file_axes=header.axes)
        is_real = header.dtype.kind == "f" or (header.slope, header.intercept) != (1.0, 0.0)
        super().__init__(geometry, 1, np.dtype(np.float32) if is_real else header.dtype.newbyteorder("="))
        self.file_warnings = header.warnings

    def _decode(self) -> NDArray[Any]:
        header = self._header
        inside = np.empty(self.shape, self.dtype)
        as_in_file = to_file(inside, header.affine)  # (x, y, z), a view
        with voxel_stream(self._path, self._guards) as stream:
            slabs = ((as_in_file[..., planes], stored) for planes, stored in voxels(stream, header))
            convert_voxels(slabs, slope=header.slope, intercept=header.intercept)
            if isinstance(stream, Gunzip) and stream.has_trailing_data():
                self.file_warnings += ("trailing_data",)
        return inside[None]
