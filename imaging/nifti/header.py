"""Header of a NIfTI file, checked field by field before anything is loaded, and its voxels, piece by piece."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isfinite, prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage, DataError, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards, check_voxel_bytes, check_voxels
from imaging.gunzip import GZIP_MAGIC, Gunzip
from imaging.nifti.affine import affine_codes, checked_affine
from imaging.nifti.fields import HEADER_BYTES, Fields, NiftiKind, kind_of

_LARGEST_OFFSET = 2**24  # of the voxels: extensions in use take some hundred KiB
_MOST_EXTENSIONS = 1000
_HEADER_SUFFIX = ".hdr"  # of a pair
_EXTENSION_HEAD = 8  # bytes: size and code
_LEAST_EXTENSION = 16  # bytes; sizes are multiples of it
_CHUNK_BYTES = 2**22
_SLOPES = (1e-12, 1e12)
_CIFTI_INTENTS = range(3000, 3100)
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}


@dataclass(frozen=True)
class NiftiHeader:
    """Checked NIfTI header; `affine` is in mm, `shape` is the file's own (x, y, z)."""

    shape: tuple[int, int, int]
    axes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: NDArray[np.float64]
    affine_codes: tuple[int, int]
    warnings: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the whole file, uncompressed."""
        return self.offset + prod(self.shape) * self.dtype.itemsize


def head_of(path: Path, size: int = HEADER_BYTES) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzip; by default as many as a header has.

    Raises:
        BrokenImage: `gzip_corrupt`.
    """
    if not _is_gzip(path):
        with path.open("rb") as file:
            return file.read(size)
    with Gunzip(path) as member:
        return member.read(size)


def is_nifti(head: bytes) -> bool:
    """Return True if an uncompressed head is that of NIfTI-1, NIfTI-2 or Analyze 7.5, or the beginning of a single file's."""
    return kind_of(head) is not None


def voxel_file(path: Path, guards: Guards) -> Path:
    """Return the file with the voxels of a header: the same file, or the one beside it that ends with .img or .img.gz.

    Raises:
        DataError: `file_missing`.
        UnsupportedFormat: `unsupported_format`: the voxels are in another file, which isn't read for uploads.
        UnsuitableImage: `several_files`: a third file, SPM's .mat, moves the volume.
    """
    kind = kind_of(head_of(path))
    if kind is None or not kind.is_pair:
        return path
    name = path.name.removesuffix(".gz")
    if not guards.companions or not name.lower().endswith(_HEADER_SUFFIX):
        raise _unsupported_format()
    stem = name[: -len(_HEADER_SUFFIX)]
    if kind.is_analyze and path.with_name(f"{stem}.mat").exists():
        raise UnsuitableImage(
            "several_files",
            "a .mat file beside the Analyze header moves the volume; convert the volume to a single file with python -c "
            "\"import nibabel as nib; nib.save(nib.load('IN.hdr'), 'OUT.nii.gz')\"",
        )
    candidates = [path.with_name(stem + suffix) for suffix in (".img", ".img.gz", ".IMG")]
    voxels_path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if voxels_path is None:
        raise DataError(
            "file_missing", "the file is a header whose voxels are missing; put the file of the same name with .img beside it"
        )
    return voxels_path


def checked_header(path: Path, guards: Guards, voxels_path: Path | None = None) -> NiftiHeader:
    """Return the header of a file, checked field by field; extensions are skipped, never parsed.

    `voxels_path` is the file with the voxels where it is another one, see `voxel_file`.

    `warnings` may hold the remarks `no_orientation`, `orientation_code_unknown`, `sform_qform_differ`, `single_frame`,
    `scaling_ignored`, `bitpix_ignored`, `offset_corrected`, `header_size_ignored`, `extension_ignored`, `trailing_data` and
    `name_differs`: see `imaging/remarks.py`.

    Raises:
        BrokenImage: `gzip_corrupt`, `nifti_truncated_header`, `nifti_bad_dims`, `nifti_bad_offset`,
            `nifti_bad_extension`, `nifti_size_mismatch`.
        ImageTooLarge: `volume_too_large`.
        UnsupportedFormat: `unsupported_format`.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `bad_scaling`, `affine_invalid`, `affine_sheared`.
    """
    kind, fields = _fields(head_of(path))
    if kind.is_pair and voxels_path is None:
        raise _unsupported_format()
    sizes = _sizes(fields, guards)
    dtype = _dtype(fields, kind)
    check_voxel_bytes(prod(sizes) * dtype.itemsize, guards)
    slope, intercept = _scaling(fields)
    affine, warnings = checked_affine(fields, sizes[:3])
    if int(fields["sizeof_hdr"]) != kind.size:
        warnings += ("header_size_ignored",)
    if not isfinite(float(fields["scl_slope"])):
        warnings += ("scaling_ignored",)
    if int(fields["bitpix"]) != 8 * dtype.itemsize:
        warnings += ("bitpix_ignored",)
    offset = float(fields["vox_offset"]) or float(kind.lowest_offset)  # 0 means directly after the header
    if not offset.is_integer() or not kind.lowest_offset <= offset <= _LARGEST_OFFSET:  # infinity and NaN aren't integers
        raise _bad_offset()
    if offset != float(fields["vox_offset"]):
        warnings += ("offset_corrected",)
    if len(sizes) < int(fields["dim"][0]):
        warnings += ("single_frame",)
    if path.suffix in (".gz", ".nii") and _is_gzip(path) != (path.suffix == ".gz"):
        warnings += ("name_differs",)
    header = NiftiHeader(
        shape=sizes,
        axes=min(int(fields["dim"][0]), 3),
        dtype=dtype,
        offset=int(offset),
        slope=slope,
        intercept=intercept,
        affine=affine,
        affine_codes=affine_codes(fields),
        warnings=warnings,
    )
    if not kind.is_pair:
        header = _with_extension_remark(path, header, kind)
    voxels_path = voxels_path or path
    return header if _is_gzip(voxels_path) else _with_size_remark(voxels_path, header)


def voxel_stream(path: Path, guards: Guards) -> Gunzip | IO[bytes]:
    """Open a file for `voxels`, decompressed if it is gzip; a context manager."""
    return Gunzip(path, guards.max_gzip_ratio) if _is_gzip(path) else path.open("rb")


def voxels(stream: Gunzip | IO[bytes], header: NiftiHeader) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield slabs of the volume: the slice of the third axis, and the stored voxels (x, y, n) with the header's dtype.

    Raises:
        BrokenImage: `nifti_size_mismatch` if the file holds less than the header declares; `gzip_corrupt`.
        ImageTooLarge: `decompressed_too_large`.
    """
    size_bytes = len(stream.read(header.offset))
    depth = max(1, _CHUNK_BYTES // (prod(header.shape[:2]) * header.dtype.itemsize))
    for start in range(0, header.shape[2], depth):
        planes = slice(start, min(start + depth, header.shape[2]))
        shape = (*header.shape[:2], planes.stop - planes.start)
        content = stream.read(prod(shape) * header.dtype.itemsize)
        size_bytes += len(content)
        if len(content) < prod(shape) * header.dtype.itemsize:
            raise _size_mismatch(header.size_bytes, size_bytes)
        yield planes, np.frombuffer(content, header.dtype).reshape(shape, order="F")


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _fields(head: bytes) -> tuple[NiftiKind, Fields]:
    kind = kind_of(head)
    if kind is None:
        raise _unsupported_format()
    if len(head) < kind.size:
        raise BrokenImage(
            "nifti_truncated_header",
            f"the volume ends within its header, after {len(head)} of {kind.size} bytes; send or export the file again",
        )
    fields = np.frombuffer(head[: kind.size], kind.layout)[0]
    if not kind.is_analyze and int(fields["intent_code"]) in _CIFTI_INTENTS:
        raise _unsupported_format()
    return kind, fields


def _unsupported_format() -> DataError:
    return UnsupportedFormat(
        "unsupported_format",
        "the file isn't a volume in a single NIfTI file; save the volume as .nii or .nii.gz, without a second file",
    )


def _sizes(fields: Fields, guards: Guards) -> tuple[int, int, int]:
    dimensions = int(fields["dim"][0])
    if not 1 <= dimensions <= 7:
        raise BrokenImage("nifti_bad_dims", "the volume's header doesn't declare 1 to 7 dimensions; export it again")
    sizes = [int(size) for size in fields["dim"][1 : dimensions + 1]]
    if min(sizes) < 1:
        raise BrokenImage("nifti_bad_dims", f"the volume's header declares the size {tuple(sizes)}, but sizes are 1 or more")
    check_voxels(prod(sizes), max(sizes), guards)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == 2:
        sizes.append(1)
    if len(sizes) != 3:
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the volume has the size {tuple(sizes)}, but three axes are needed; send one volume of a series at a time",
        )
    return sizes[0], sizes[1], sizes[2]


def _dtype(fields: Fields, kind: NiftiKind) -> np.dtype[Any]:
    code = int(fields["datatype"])
    if code not in _DTYPES:
        raise UnsuitableImage(
            "dtype_not_supported",
            "the volume's voxels are neither integers nor real numbers of 8 to 64 bits; convert them, to float32 for example",
        )
    return np.dtype(_DTYPES[code]).newbyteorder(kind.byte_order)


def _scaling(fields: Fields) -> tuple[float, float]:
    """Return slope and intercept; (1, 0) where the slope is 0 (the standard), or NaN or infinite (as nibabel reads it)."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not isfinite(slope):
        ranges = ("calibration", "extrema")  # of an Analyze header, whose ranges nibabel and SPM take for a scale
        if "extrema" in fields.dtype.names and all(float(fields[name][0]) != float(fields[name][1]) for name in ranges):
            raise UnsuitableImage(
                "bad_scaling",
                "the Analyze header gives ranges of values (cal_max, glmax) that some programs use as a scale and some don't; "
                "convert the volume to NIfTI with the program that wrote it",
            )
        return 1.0, 0.0
    if not (isfinite(intercept) and _SLOPES[0] < abs(slope) < _SLOPES[1]):
        raise UnsuitableImage(
            "bad_scaling",
            f"the volume's intercept isn't finite, or the size of its slope isn't between {_SLOPES[0]:g} and {_SLOPES[1]:g}; "
            "export it again without scaling",
        )
    return slope, intercept


def _bad_offset() -> DataError:
    return BrokenImage(
        "nifti_bad_offset",
        "the volume's header gives an offset of the voxels that is inside the header or beyond the file's end; export it again",
    )


def _with_size_remark(path: Path, header: NiftiHeader) -> NiftiHeader:
    """Return the header of an uncompressed file, with a remark if the file holds more than the volume.

    Raises:
        BrokenImage: `nifti_size_mismatch` if the file holds less, or more where the offset of the voxels is an assumption.
    """
    size = path.stat().st_size
    if size < header.size_bytes or (size > header.size_bytes and "offset_corrected" in header.warnings):
        raise _size_mismatch(header.size_bytes, size)
    return header if size == header.size_bytes else replace(header, warnings=(*header.warnings, "trailing_data"))


def _with_extension_remark(path: Path, header: NiftiHeader, kind: NiftiKind) -> NiftiHeader:
    """Return the header of a single file whose extensions, each of which begins with its size, lie before the voxels.

    Sizes that aren't multiples of 16, and a rest of fewer than 16 bytes, are ignored with a remark, as in nibabel.

    Raises:
        BrokenImage: `nifti_bad_offset`, `nifti_size_mismatch`, `nifti_bad_extension`, `gzip_corrupt`.
    """
    if not _is_gzip(path) and header.offset > path.stat().st_size:
        raise _bad_offset()
    start = head_of(path, header.offset)
    if len(start) < header.offset:
        raise _size_mismatch(header.size_bytes, len(start))
    content = start[kind.size + 4 :] if start[kind.size] else b""  # the flag that says whether extensions follow
    position, count, is_odd = 0, 0, False
    while len(content) - position >= _LEAST_EXTENSION:
        (size,) = struct.unpack_from(f"{kind.byte_order}i", content, position)
        count += 1
        position += size
        if size < _EXTENSION_HEAD or position > len(content) or count > _MOST_EXTENSIONS:
            raise BrokenImage(
                "nifti_bad_extension",
                f"the extensions after the volume's header have impossible sizes, or are more than {_MOST_EXTENSIONS}; "
                "export it again without them",
            )
        is_odd |= size % _LEAST_EXTENSION != 0
    is_odd |= position < len(content)
    return replace(header, warnings=(*header.warnings, "extension_ignored")) if is_odd else header


def _size_mismatch(declared_bytes: int, size_bytes: int) -> DataError:
    return BrokenImage(
        "nifti_size_mismatch",
        f"the volume's header declares {declared_bytes} bytes, but the file holds {size_bytes}; send or export the file again",
    )
