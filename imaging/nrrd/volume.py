"""NRRD volumes, (C, D, H, W), whatever their orientation in the file; the voxels are read once and held in memory."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel import affines
from numpy.typing import NDArray

from imaging.errors import BrokenImage, UnsuitableImage
from imaging.guards import LOCAL, Guards
from imaging.gunzip import Gunzip
from imaging.nifti.volume import check_range, order_inside, to_file
from imaging.nrrd.header import NrrdHeader, nrrd_header
from imaging.source import Geometry, ImageSource, MaskFormat, Region

_PIECE_BYTES = 2**20


class NrrdSource(ImageSource):
    """An NRRD volume in one file, raw or gzip, with S = (superior, anterior, right).

    Real types come as float32, integers as they are. A space named after the patient's directions gives `geometry.affine`,
    in mm to right-anterior-superior; the lengths there are mm unless `space units` says otherwise, the origin 0 where none
    is given. In other spaces and without one, S is the file's axes, slowest first, there is no affine, the warning is
    `no_orientation`, and the spacing is known only where the file gives a unit. A fourth axis whose kind is list,
    vector or RGB-color is the channels.

    Args:
        path: the file.
        guards: how far it is trusted; at most 2**29 voxels where it doesn't say.

    Raises:
        BrokenImage: `nrrd_header_invalid`, `nrrd_size_mismatch`; for a gzip at the first read, `gzip_corrupt` and
            `gzip_trailing_data` too.
        ImageTooLarge: `volume_too_large`, `volume_side_too_large`, by the header; at the first read
            `decompressed_too_large`.
        UnsupportedFormat: `nrrd_detached`, `nrrd_encoding_not_supported`.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `affine_invalid`, `affine_sheared`; at the first
            read `non_finite_voxels`, and `value_range` for integers of 64 bits.
    """

    mask_format: ClassVar[MaskFormat] = "nifti"

    def __init__(self, path: Path, guards: Guards = LOCAL) -> None:
        self._path = path
        self._voxels: NDArray[Any] | None = None
        self._max_gzip_ratio = guards.max_gzip_ratio
        self._header = nrrd_header(path, guards)
        if not self._header.is_compressed:
            _check_size(path.stat().st_size - self._header.offset, self._header)
        super().__init__(_geometry(self._header), self._header.channels, _dtype_inside(self._header))
        if self._header.affine is None:
            self.file_warnings = ("no_orientation",)
        if not self._header.is_compressed and path.stat().st_size > self._header.offset + self._header.size_bytes:
            self.file_warnings += ("trailing_data",)

    @property
    def held_bytes(self) -> int:
        """All voxels, once one was read."""
        return self.channels * int(np.prod(self.shape)) * self.dtype.itemsize

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._voxels is None:
            self._voxels = self._loaded()
        return self._voxels[(slice(None), *region)].copy()

    def _stored(self) -> NDArray[Any]:
        """(C, x, y, z) with the header's dtype: mapped from a raw file, in memory from a gzip."""
        header = self._header
        if header.is_compressed:
            flat = np.frombuffer(self._gunzipped(), header.dtype)
        else:
            _check_size(self._path.stat().st_size - header.offset, header)
            flat = np.memmap(self._path, header.dtype, "r", header.offset, (header.size_bytes // header.dtype.itemsize,))
        stored = flat.reshape(header.stored_shape, order="F")
        return stored[None] if header.channel_axis is None else np.moveaxis(stored, header.channel_axis, 0)

    def _gunzipped(self) -> bytearray:
        """Return the decompressed voxels; the buffer grows with what comes, so that a wrong header costs nothing."""
        buffer = bytearray()
        with Gunzip(self._path, self._max_gzip_ratio, offset=self._header.offset) as stream:
            while piece := stream.read(min(_PIECE_BYTES, self._header.size_bytes - len(buffer))):
                buffer += piece
            _check_size(len(buffer), self._header)
            if stream.has_trailing_data():
                self.file_warnings += ("trailing_data",)
        return buffer

    def _loaded(self) -> NDArray[Any]:
        """(C, D, H, W), filled plane by plane."""
        stored = self._stored()
        inside = np.empty((self.channels, *self.shape), self.dtype)
        not_finite = 0
        for channel in range(self.channels):
            place = to_file(inside[channel], _affine(self._header))  # (x, y, z), a view
            for plane in range(place.shape[2]):
                values = _converted(stored[channel, ..., plane], self.dtype)
                place[..., plane] = values
                not_finite += values.size - int(np.isfinite(values).sum())
        if not_finite:
            raise UnsuitableImage(
                "non_finite_voxels",
                f"{not_finite} voxels are NaN, infinite or too large for float32; replace them with numbers",
            )
        return inside

    def close(self) -> None:
        """Lets go of the voxels."""
        self._voxels = None


def _affine(header: NrrdHeader) -> NDArray[np.float64]:
    """Return the header's affine; without one the file's axes stay as they are."""
    return np.eye(4) if header.affine is None else header.affine


def _geometry(header: NrrdHeader) -> Geometry:
    affine, spacing_um = _affine(header), header.spacing_um
    order = order_inside(affine)
    if header.affine is not None:
        spacing_um = tuple(1000.0 * float(size) for size in affines.voxel_sizes(affine))
    return Geometry(
        shape=tuple(header.shape[axis] for axis in order),
        spacing_um=spacing_um and tuple(spacing_um[axis] for axis in order),
        affine=header.affine,
    )


def _dtype_inside(header: NrrdHeader) -> np.dtype[Any]:
    return np.dtype(np.float32) if header.dtype.kind == "f" else header.dtype.newbyteorder("=")


def _converted(stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values as `dtype`; what overflows float32 is infinite, and counted by the caller."""
    if stored.dtype.kind in "iu" and stored.dtype.itemsize == 8:
        check_range(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(dtype)


def _check_size(found: int, header: NrrdHeader) -> None:
    if found < header.size_bytes:
        raise BrokenImage(
            "nrrd_size_mismatch",
            f"the volume's header declares {header.size_bytes} bytes of voxels, the file {found}; send or export it again",
        )
