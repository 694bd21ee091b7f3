"""NIfTI volumes -> (1, D, H, W), whatever their orientation in the file; the voxels are read once and held."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel import affines, orientations
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.nifti import GZIP_MAGIC, MAX_VOXELS, NiftiHeader, body, check_size, checked_header, head_of
from imaging.source import Geometry, ImageSource, MaskFormat, Region

_RAS = np.array([[0, 1], [1, 1], [2, 1]])  # nibabel's form of an orientation: (axis, direction) for each axis


def to_inside(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """A view of a file's array with the axes that everyone inside knows.

    Args:
        array: (x, y, z) as in the file.
        affine: (4, 4), index in that array -> right-anterior-superior.

    Returns:
        (D, H, W) = (superior, anterior, right), each growing in that direction, as nearly as without resampling.
    """
    return orientations.apply_orientation(array, orientations.io_orientation(affine)).transpose()  # type: ignore[no-any-return]


def to_file(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """The exact inverse of `to_inside`: (D, H, W) -> a view (x, y, z) as in the file with that affine."""
    back = orientations.ornt_transform(_RAS, orientations.io_orientation(affine))
    return orientations.apply_orientation(array.transpose(), back)  # type: ignore[no-any-return]


class VolumeSource(ImageSource):
    """A NIfTI-1 or NIfTI-2 volume, plain or gzip, with S = (superior, anterior, right).

    Scaled voxels and all real types come as float32, unscaled integers as they are. `geometry.affine` is the file's own, in mm.

    Args:
        path: the file.
        max_pixels: most voxels to take; None means 2**29.

    Raises:
        BrokenImage: `nifti_bad_dims`, `nifti_bad_offset`, `nifti_header_inconsistent`, `nifti_size_mismatch`,
            `gzip_corrupt`; the last two for a gzip at the first read.
        ImageTooLarge: `volume_too_large`, by the header, before anything is loaded.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `affine_invalid`, `bad_scaling`; at the first
            read `non_finite_voxels`.
    """

    mask_format: ClassVar[MaskFormat] = "nifti"

    def __init__(self, path: Path, max_pixels: int | None = None) -> None:
        self._path = path
        self._voxels: NDArray[Any] | None = None
        self._header = checked_header(head_of(path), MAX_VOXELS if max_pixels is None else max_pixels)
        with path.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                check_size(path, self._header)
        super().__init__(_geometry(self._header), 1, _dtype_inside(self._header))

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._voxels is None:
            self._voxels = _loaded(self._path, self._header, self.dtype)
        return self._voxels[region][None].copy()

    def close(self) -> None:
        """Lets go of the voxels."""
        self._voxels = None


def _geometry(header: NiftiHeader) -> Geometry:
    axes = orientations.io_orientation(header.affine)[:, 0].astype(int)  # file axis -> 0 right, 1 anterior, 2 superior
    order = [int(np.flatnonzero(axes == axis)[0]) for axis in (2, 1, 0)]
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


def _loaded(path: Path, header: NiftiHeader, dtype: np.dtype[Any]) -> NDArray[Any]:
    """(D, H, W); scaled slab by slab, so that no copy of the volume in float64 is made."""
    stored = body(path, header)
    voxels = np.empty(header.shape, dtype, order="F")  # (x, y, z)
    finite = 0
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows float32 is counted
        for index in range(header.shape[2]):
            slab = stored[..., index]
            voxels[..., index] = slab * header.slope + header.inter if _is_scaled(header) else slab
            finite += int(np.isfinite(voxels[..., index]).sum())
    if finite < voxels.size:
        raise UnsuitableImage(
            "non_finite_voxels",
            f"{voxels.size - finite} voxels are NaN, infinite or too large for float32; replace them with numbers",
        )
    return np.ascontiguousarray(to_inside(voxels, header.affine))  # (D, H, W)
