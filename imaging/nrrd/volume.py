"""NRRD volumes, (C, D, H, W), of any orientation in the file; the voxels are read once and held in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from nibabel import affines
from numpy.typing import NDArray

from imaging.errors import BrokenImage
from imaging.guards import LOCAL, Guards
from imaging.gunzip import Gunzip
from imaging.nrrd.header import NrrdHeader, nrrd_header
from imaging.source import HeldSource, MaskFormat
from imaging.voxels import convert_voxels, geometry_inside, to_file

_PIECE_BYTES = 2**20


class NrrdSource(HeldSource):
    """An NRRD volume in one file, raw or gzip, with S = (superior, anterior, right).

    Real types become float32; integers keep their type. A space named after the patient's directions gives `geometry.affine`,
    in mm to right-anterior-superior; lengths are in mm unless `space units` says otherwise, and the origin is 0 where none
    is given. In other spaces and without one, S is the file's axes, slowest first, there is no affine, the warning is
    `no_orientation`, and the spacing is known only where the file gives a unit. A fourth axis whose kind is list,
    vector or RGB-color is the channels.

    Args:
        path: the file.
        guards: how far it is trusted; at most 2**29 voxels where `max_pixels` is None.

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
        self._max_gzip_ratio = guards.max_gzip_ratio
        self._header = header = nrrd_header(path, guards)
        if not header.is_compressed:
            _check_size(path.stat().st_size - header.offset, header)
        self._affine = np.eye(4) if header.affine is None else header.affine  # without one the axes keep their order
        spacing_um = header.spacing_um
        if header.affine is not None:
            spacing_um = tuple(1000.0 * float(size_mm) for size_mm in affines.voxel_sizes(header.affine))
        geometry = replace(geometry_inside(header.shape, self._affine, spacing_um), affine=header.affine)
        dtype = np.dtype(np.float32) if header.dtype.kind == "f" else header.dtype.newbyteorder("=")
        super().__init__(geometry, header.channels, dtype)
        if header.affine is None:
            self.file_warnings = ("no_orientation",)
        if not header.is_compressed and path.stat().st_size > header.offset + header.size_bytes:
            self.file_warnings += ("trailing_data",)

    def _decode(self) -> NDArray[Any]:
        header = self._header
        if header.is_compressed:
            flat = np.frombuffer(self._gunzip(), header.dtype)
        else:
            _check_size(self._path.stat().st_size - header.offset, header)
            flat = np.memmap(self._path, header.dtype, "r", header.offset, (header.size_bytes // header.dtype.itemsize,))
        stored = flat.reshape(header.stored_shape, order="F")
        stored = stored[None] if header.channel_axis is None else np.moveaxis(stored, header.channel_axis, 0)  # (C, x, y, z)
        inside = np.empty((self.channels, *self.shape), self.dtype)
        as_in_file = [to_file(channel, self._affine) for channel in inside]  # (x, y, z) each, views
        planes = [(channel, plane) for channel in range(self.channels) for plane in range(stored.shape[3])]
        convert_voxels((as_in_file[channel][..., plane], stored[channel, ..., plane]) for channel, plane in planes)
        return inside

    def _gunzip(self) -> bytearray:
        """Return the uncompressed voxels. Memory grows with them, so that a header with false sizes costs nothing."""
        header = self._header
        content = bytearray()
        with Gunzip(self._path, self._max_gzip_ratio, offset=header.offset) as stream:
            while piece := stream.read(min(_PIECE_BYTES, header.size_bytes - len(content))):
                content += piece
            _check_size(len(content), header)
            if stream.has_trailing_data():
                self.file_warnings += ("trailing_data",)
        return content


def _check_size(size_bytes: int, header: NrrdHeader) -> None:
    if size_bytes < header.size_bytes:
        raise BrokenImage(
            "nrrd_size_mismatch",
            f"the volume's header declares {header.size_bytes} bytes of voxels, but the file holds {size_bytes}; send or "
            "export it again",
        )
