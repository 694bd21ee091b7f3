"""A NIfTI file's header, checked before anything is loaded, and its bytes, never more of them than the header says."""

import gzip
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat

GZIP_MAGIC = b"\x1f\x8b"
MAX_VOXELS = 2**29

_HEADER_BYTES = 540  # NIfTI-2's; NIfTI-1 has 348
_HEAD_BYTES = 2**16
_CHUNK_BYTES = 2**20
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_GZIP_ERRORS = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class NiftiHeader:
    """What a checked header says; `affine` is in mm, `shape` is the file's own (x, y, z)."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    inter: float
    affine: NDArray[np.float64]
    affine_codes: tuple[int, int]

    @property
    def size_bytes(self) -> int:
        """The whole file's size, uncompressed."""
        return self.offset + prod(self.shape) * self.dtype.itemsize


def head_of(path: Path) -> bytes:
    """The file's first bytes, uncompressed if they are gzip's; enough for a header.

    Raises:
        BrokenImage: `gzip_corrupt`.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(GZIP_MAGIC):
        return head[:_HEADER_BYTES]
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEADER_BYTES)
    except zlib.error as error:
        raise _gzip_corrupt() from error


def is_nifti(head: bytes) -> bool:
    """Whether an uncompressed head is that of a single-file NIfTI-1 or NIfTI-2."""
    return head[344:348] == b"n+1\0" or head[4:12] == b"n+2\0\r\n\x1a\n"


def checked_header(head: bytes, max_voxels: int) -> NiftiHeader:
    """Everything that reading needs, out of a header that was checked field by field.

    Raises:
        BrokenImage, ImageTooLarge, UnsuitableImage, UnsupportedFormat: with the code of the first field that is wrong.
    """
    kind, length = (nib.Nifti1Header, 348) if head[344:348] == b"n+1\0" else (nib.Nifti2Header, 540)
    if not is_nifti(head) or len(head) < length:
        raise UnsupportedFormat("unsupported_format", "not a single-file NIfTI; save the volume as .nii or .nii.gz")
    header = kind(head[:length], check=False)
    shape = _shape(header, max_voxels)
    dtype = _dtype(header)
    slope, inter = _scaling(header)
    codes = (int(header["sform_code"]), int(header["qform_code"]))
    return NiftiHeader(shape, dtype, _offset(header, length), slope, inter, _affine(header), codes)


def body(path: Path, header: NiftiHeader) -> NDArray[Any]:
    """The voxels as stored, (x, y, z) with the header's dtype: mapped from a plain file, in memory from a gzip.

    Raises:
        BrokenImage: `nifti_size_mismatch` if the file holds less or more than the header says, `gzip_corrupt` if its
            checksum or its stream is wrong.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP_MAGIC
    if compressed:
        buffer = _gunzipped(path, header.size_bytes)
        flat = np.frombuffer(buffer, header.dtype, prod(header.shape), header.offset)
        return flat.reshape(header.shape, order="F")
    check_size(path, header)
    return np.memmap(path, header.dtype, "r", header.offset, header.shape, order="F")


def check_size(path: Path, header: NiftiHeader) -> None:
    """A plain file's size is the one that its header declares.

    Raises:
        BrokenImage: `nifti_size_mismatch`.
    """
    size = path.stat().st_size
    if size != header.size_bytes:
        raise _size_mismatch(header.size_bytes, f"{size}")


def _gunzipped(path: Path, size: int) -> bytearray:
    """Grows with what comes, so that a header that lies costs nothing; stops one byte after the declared size."""
    buffer = bytearray()
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(min(_CHUNK_BYTES, size + 1 - len(buffer))):
                buffer += chunk
    except _GZIP_ERRORS as error:
        raise _gzip_corrupt() from error
    if len(buffer) != size:
        raise _size_mismatch(size, "more" if len(buffer) > size else f"{len(buffer)}")
    return buffer


def _gzip_corrupt() -> DataError:
    return BrokenImage("gzip_corrupt", "the compressed volume is cut or damaged; send or export the file again")


def _size_mismatch(declared: int, found: str) -> DataError:
    return BrokenImage(
        "nifti_size_mismatch",
        f"the volume's header declares {declared} bytes, the file holds {found}; send or export the file again",
    )


def _shape(header: Any, max_voxels: int) -> tuple[int, int, int]:
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise BrokenImage("nifti_bad_dims", "the volume's header doesn't declare 1 to 7 dimensions; export it again")
    sizes = [int(size) for size in header["dim"][1 : dimensions + 1]]
    if min(sizes) < 1:
        raise BrokenImage("nifti_bad_dims", f"the volume's header declares the size {tuple(sizes)}; each axis needs 1 or more")
    if prod(sizes) > max_voxels:
        raise ImageTooLarge(
            "volume_too_large",
            f"the volume has {prod(sizes)} voxels, at most {max_voxels} are allowed; crop or resample it",
            max_voxels,
        )
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) != 3:
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the volume has the size {tuple(sizes)}, three axes are needed; send one volume of a series at a time",
        )
    return sizes[0], sizes[1], sizes[2]


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise _dtype_not_supported() from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise _dtype_not_supported()
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise BrokenImage(
            "nifti_header_inconsistent",
            f"the volume's header declares {int(header['bitpix'])} bits a voxel for a type of {8 * dtype.itemsize}; "
            "export the file again",
        )
    return dtype


def _dtype_not_supported() -> DataError:
    return UnsuitableImage(
        "dtype_not_supported",
        "the volume's voxels are neither integers nor real numbers of 8 to 64 bits; convert them, to float32 for example",
    )


def _offset(header: Any, header_bytes: int) -> int:
    offset = float(header["vox_offset"])
    if not offset.is_integer() or not header_bytes + 4 <= offset < 2**31:  # inf and nan aren't integers
        raise BrokenImage(
            "nifti_bad_offset", "the volume's header says that its voxels begin where they can't; export it again"
        )
    return int(offset)


def _scaling(header: Any) -> tuple[float, float]:
    """(1, 0) where the standard or common use says that there is no scaling: a slope of 0 or nan."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, inter]).all():
        raise UnsuitableImage("bad_scaling", "the volume's scaling isn't finite; export it again without scaling")
    return slope, inter


def _affine(header: Any) -> NDArray[np.float64]:
    try:
        affine = np.array(header.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise _affine_invalid() from error
    affine[:3] *= _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    flat = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * prod(lengths)
    if flat or not np.isfinite(affine).all():
        raise _affine_invalid()
    return affine


def _affine_invalid() -> DataError:
    return UnsuitableImage(
        "affine_invalid",
        "the volume's header doesn't say where its voxels lie (an affine that isn't finite or can't be inverted); "
        "export it again with its geometry",
    )
