"""NIfTI volumes, (1, D, H, W), whatever their orientation in the file; the voxels are read once and held in memory."""

from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.guards import LOCAL, Guards
from imaging.gunzip import Gunzip
from imaging.nifti.header import NiftiHeader, checked_header, voxel_stream, voxels
from imaging.source import Geometry, ImageSource, MaskFormat, Region

_RAS = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's form of an orientation: (axis, direction) for each axis


def to_inside(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Return a view of a file's array with the internal axes.

    Args:
        array: (x, y, z) as in the file.
        affine: (4, 4), index in that array -> right-anterior-superior.

    Returns:
        (D, H, W) = (superior, anterior, right), each growing in that direction, as nearly as without resampling.
    """
    return orientations.apply_orientation(array, orientations.io_orientation(affine)).transpose()  # type: ignore[no-any-return]


def to_file(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Return a view (x, y, z) of (D, H, W) as in the file with that affine, the exact inverse of `to_inside`."""
    back = orientations.ornt_transform(_RAS, orientations.io_orientation(affine))
    return orientations.apply_orientation(array.transpose(), back)  # type: ignore[no-any-return]


class VolumeSource(ImageSource):
    """A NIfTI-1 or NIfTI-2 volume, plain or gzip, with S = (superior, anterior, right).

    Scaled voxels and all real types come as float32, unscaled integers as they are. `geometry.affine` is the file's own, in
    mm. `file_warnings` are the header's.

    Args:
        path: the file.
        guards: `max_pixels`, where it is None, is 2**29 voxels.

    Raises:
        BrokenImage: `nifti_truncated_header`, `nifti_bad_dims`, `nifti_header_inconsistent`, `nifti_bad_offset`,
            `nifti_bad_extension`, `nifti_size_mismatch`, `gzip_corrupt`; at the first read of a gzip the last two, and
            `gzip_trailing_data`.
        ImageTooLarge: `volume_too_large`, by the header, before anything is loaded; at the first read
            `decompressed_too_large`.
        UnsupportedFormat: `unsupported_format`.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `bad_scaling`, `affine_invalid`,
            `affine_sheared`; at the first read `non_finite_voxels`, and `value_range` for integers of 64 bits.
    """

    mask_format: ClassVar[MaskFormat] = "nifti"

    def __init__(self, path: Path, guards: Guards = LOCAL) -> None:
        self._path = path
        self._guards = guards
        self._voxels: NDArray[Any] | None = None
        self._header = checked_header(path, guards)
        super().__init__(_geometry(self._header), 1, _dtype_inside(self._header))
        self.file_warnings = self._header.warnings

    @property
    def held_bytes(self) -> int:
        """All voxels, once one was read."""
        return prod(self.shape) * self.dtype.itemsize

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._voxels is None:
            self._voxels = self._loaded()
        return self._voxels[region][None].copy()

    def _loaded(self) -> NDArray[Any]:
        """(D, H, W), filled as the voxels come."""
        inside = np.empty(self.shape, self.dtype)
        place = to_file(inside, self._header.affine)  # (x, y, z), a view
        not_finite = 0
        with voxel_stream(self._path, self._guards) as stream:
            for planes, stored in voxels(stream, self._header):
                values = _scaled(stored, self._header, self.dtype)
                place[..., planes] = values
                not_finite += values.size - int(np.isfinite(values).sum())
            if isinstance(stream, Gunzip) and stream.has_trailing_data():
                self.file_warnings += ("trailing_data",)
        if not_finite:
            raise UnsuitableImage(
                "non_finite_voxels",
                f"{not_finite} voxels are NaN, infinite or too large for float32; replace them with numbers",
            )
        return inside

    def close(self) -> None:
        """Lets go of the voxels."""
        self._voxels = None


def order_inside(affine: NDArray[np.float64]) -> list[int]:
    """Which axis of the file becomes each axis inside: (superior, anterior, right)."""
    axes = orientations.io_orientation(affine)[:, 0].astype(int)  # file axis -> 0 right, 1 anterior, 2 superior
    return [int(np.flatnonzero(axes == axis)[0]) for axis in (2, 1, 0)]


def _geometry(header: NiftiHeader) -> Geometry:
    order = order_inside(header.affine)
    sizes_mm = affines.voxel_sizes(header.affine)
    return Geometry(
        shape=tuple(header.shape[axis] for axis in order),
        spacing_um=tuple(1000.0 * float(sizes_mm[axis]) for axis in order),
        affine=header.affine,
        affine_codes=header.affine_codes,
    )


def _is_scaled(header: NiftiHeader) -> bool:
    return (header.slope, header.inter) != (1.0, 0.0)


def _dtype_inside(header: NiftiHeader) -> np.dtype[Any]:
    real = _is_scaled(header) or header.dtype.kind == "f"
    return np.dtype(np.float32) if real else header.dtype.newbyteorder("=")


def _scaled(stored: NDArray[Any], header: NiftiHeader, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(x, y, n); what overflows float32 is infinite, and counted by who asks."""
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == 8:
        check_range(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored * header.slope + header.inter if _is_scaled(header) else stored
        return values.astype(dtype, copy=False)


def check_range(stored: NDArray[Any]) -> None:
    """Refuses integers of 64 bits that change in float32, in which networks compute: it holds all up to 2**24 and few beyond.

    Raises:
        UnsuitableImage: `value_range`.
    """
    real = stored.astype(np.float32)
    end = float(np.iinfo(stored.dtype).max)  # rounded up to the power of two
    exact = (real < end) & (np.where(real < end, real, 0).astype(stored.dtype) == stored)
    if not exact.all():
        raise UnsuitableImage(
            "value_range",
            f"{int((~exact).sum())} voxels hold integers too large for float32 to hold exactly; convert the volume to a "
            "type of at most 32 bits",
        )
