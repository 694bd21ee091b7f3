"""Text header of an NRRD file, parsed and checked before a voxel is read."""

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import MAX_VOXELS, Guards
from imaging.nrrd.geometry import header_invalid, nrrd_geometry

MAX_HEADER_BYTES = 2**16
MAX_CHANNELS = 256

_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
_END = re.compile(rb"\n\r?\n")
_TYPES = {
    "int8": "signed char|int8|int8_t",
    "uint8": "uchar|unsigned char|uint8|uint8_t",
    "int16": "short|short int|signed short|signed short int|int16|int16_t",
    "uint16": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "int32": "int|signed int|int32|int32_t",
    "uint32": "uint|unsigned int|uint32|uint32_t",
    "int64": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "uint64": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "float32": "float",
    "float64": "double",
}
_CHANNEL_KINDS = ("list", "vector", "rgb-color", "3-color")
_ENCODINGS = {"raw": False, "gzip": True, "gz": True}
_FIELDS = {  # the standard's names without blanks; those that aren't read change neither voxels nor geometry
    "dimension", "type", "sizes", "encoding", "endian", "space", "spacedimension", "spacedirections", "spaceorigin", "spacings",
    "units", "spaceunits", "kinds", "byteskip", "lineskip", "datafile", "blocksize", "content", "labels", "sampleunits",
    "centers", "centerings", "thicknesses", "axismins", "axismaxs", "min", "max", "oldmin", "oldmax", "measurementframe",
    "number",
}  # fmt: skip


@dataclass(frozen=True)
class NrrdHeader:
    """Checked NRRD header.

    Args:
        shape: the file's own (x, y, z).
        channels: length of a fourth axis, 1 without it.
        channel_axis: index of that axis among the file's four; None without it.
        dtype: type of the voxels with its byte order.
        is_compressed: the file is gzip from `offset` on.
        offset: offset of the voxels in the file.
        affine: (4, 4), index -> right-anterior-superior in mm; None where the header doesn't give the patient's directions.
        spacing_um: spacing in (x, y, z) where there is no affine; None: not known.
    """

    shape: tuple[int, int, int]
    channels: int
    channel_axis: int | None
    dtype: np.dtype[Any]
    is_compressed: bool
    offset: int
    affine: NDArray[np.float64] | None
    spacing_um: tuple[float, ...] | None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Sizes of all axes of the file, the fastest first."""
        sizes = list(self.shape)
        if self.channel_axis is not None:
            sizes.insert(self.channel_axis, self.channels)
        return tuple(sizes)

    @property
    def size_bytes(self) -> int:
        """Size of the voxels, uncompressed."""
        return prod(self.stored_shape) * self.dtype.itemsize


def is_nrrd(head: bytes) -> bool:
    """Return True if a file's first bytes are those of an NRRD header, attached or detached."""
    return _MAGIC.match(head) is not None


def nrrd_header(path: Path, guards: Guards) -> NrrdHeader:
    """Return the header of a file, checked field by field.

    Raises:
        BrokenImage: `nrrd_header_invalid`.
        ImageTooLarge: `volume_too_large`, `volume_side_too_large`.
        UnsuitableImage: `dimension_not_supported`, `dtype_not_supported`, `affine_invalid`, `affine_sheared`.
        UnsupportedFormat: `nrrd_detached`, `nrrd_encoding_not_supported`; `unsupported_format` for a compressed header.
    """
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    if not is_nrrd(head):
        raise UnsupportedFormat(
            "unsupported_format",
            "the NRRD is compressed as a whole, header included; decompress it, and save it with the encoding gzip",
        )
    end = _END.search(head)
    fields = _fields(head[: end.start()] if end else head)
    if end is None:
        raise header_invalid(f"the header doesn't end within {MAX_HEADER_BYTES} bytes")
    sizes = _integers(fields, "sizes")
    if _integers(fields, "dimension") != [len(sizes)] or not all(size >= 1 for size in sizes):
        raise header_invalid("`dimension` and `sizes` don't fit together, or a size isn't 1 or more")
    dtype, is_compressed = _dtype(fields), _is_compressed(fields)
    channel_axis = _channel_axis(fields, sizes)
    channels = 1 if channel_axis is None else sizes.pop(channel_axis)
    _check_sizes(sizes, channels, dtype, guards)
    shape = (sizes[0], sizes[1], sizes[2])
    affine, spacing_um = nrrd_geometry(fields, channel_axis)
    return NrrdHeader(shape, channels, channel_axis, dtype, is_compressed, end.end(), affine, spacing_um)


def _fields(head: bytes) -> dict[str, str]:
    """Return the fields by their names without blanks; comments and programs' own key/value pairs are left out."""
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#") or ":=" in line:
            continue
        name, colon, value = line.partition(":")
        key = name.strip().lower().replace(" ", "")
        if key == "datafile":
            raise UnsupportedFormat(
                "nrrd_detached", "the NRRD's voxels are in a separate file; save header and voxels as one .nrrd file"
            )
        if not colon or key not in _FIELDS or key in fields:
            raise header_invalid("a line isn't one of the standard's fields, or a field occurs twice")
        fields[key] = value.strip()
    return fields


def _check_sizes(sizes: list[int], channels: int, dtype: np.dtype[Any], guards: Guards) -> None:
    limit = MAX_VOXELS if guards.max_pixels is None else guards.max_pixels
    if guards.max_volume_bytes is not None:
        limit = min(limit, guards.max_volume_bytes // dtype.itemsize)
    voxels = prod(sizes) * channels
    if voxels > limit:
        raise ImageTooLarge(
            "volume_too_large",
            f"the volume has {voxels} voxels, but at most {limit} are allowed; crop or resample it",
            limit,
        )
    if max(sizes) > guards.max_volume_side:
        raise ImageTooLarge(
            "volume_side_too_large",
            f"the volume has an axis of {max(sizes)} voxels, but at most {guards.max_volume_side} are allowed; crop or "
            "resample it",
            guards.max_volume_side,
        )


def _channel_axis(fields: dict[str, str], sizes: list[int]) -> int | None:
    """Return the index of the axis that isn't spatial, of four; None for three axes.

    Raises:
        UnsuitableImage: `dimension_not_supported`.
    """
    kinds = fields.get("kinds", "").lower().split()
    if len(sizes) == 3:
        return None
    places = [place for place, kind in enumerate(kinds) if kind in _CHANNEL_KINDS]
    if len(sizes) != 4 or len(kinds) != 4 or len(places) != 1 or sizes[places[0]] > MAX_CHANNELS:
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the volume has the size {tuple(sizes)}; allowed are three axes, or one more of at most {MAX_CHANNELS} channels "
            "whose kind is list, vector or RGB-color: send one volume of a series at a time",
        )
    return places[0]


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    words = " ".join(fields.get("type", "").lower().split())
    for name, spellings in _TYPES.items():
        if words in spellings.split("|"):
            dtype = np.dtype(name)
            endian = fields.get("endian", "").lower()
            if dtype.itemsize > 1 and endian not in ("little", "big"):
                raise header_invalid("`endian` is neither little nor big")
            return dtype.newbyteorder(">" if endian == "big" else "<")
    raise UnsuitableImage(
        "dtype_not_supported",
        "the volume's voxels are neither integers nor real numbers of 8 to 64 bits; convert them, to float32 for example",
    )


def _is_compressed(fields: dict[str, str]) -> bool:
    encoding = fields.get("encoding", "").lower()
    skips = (fields.get("byteskip", "0"), fields.get("lineskip", "0"))
    if encoding not in _ENCODINGS or skips != ("0", "0"):
        raise UnsupportedFormat(
            "nrrd_encoding_not_supported",
            "the NRRD's encoding isn't supported; allowed are raw and gzip, without bytes or lines to skip: save it again with "
            "gzip",
        )
    return _ENCODINGS[encoding]


def _integers(fields: dict[str, str], name: str) -> list[int]:
    words = fields.get(name, "").split()
    if not words or not all(re.fullmatch(r"[0-9]{1,10}", word) for word in words):
        raise header_invalid(f"`{name}` isn't a list of whole numbers")
    return [int(word) for word in words]
