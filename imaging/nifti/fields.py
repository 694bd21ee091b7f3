"""Positions of a NIfTI header's fields, in both versions of the format and both byte orders."""

import struct
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

HEADER_BYTES = 540  # of NIfTI-2, whose header is the longer one

Fields = Any  # a numpy record; fields that hold text are never read

_NIFTI1 = {  # name -> type, offset: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    "dim": ("8i2", 40),
    "intent_code": ("i2", 68),
    "datatype": ("i2", 70),
    "bitpix": ("i2", 72),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "xyzt_units": ("u1", 123),
    "qform_code": ("i2", 252),
    "sform_code": ("i2", 254),
    "quatern": ("3f4", 256),
    "qoffset": ("3f4", 268),
    "srow": ("(3,4)f4", 280),
}
_NIFTI2 = {  # https://nifti.nimh.nih.gov/pub/dist/doc/nifti2.h
    "datatype": ("i2", 12),
    "bitpix": ("i2", 14),
    "dim": ("8i8", 16),
    "pixdim": ("8f8", 104),
    "vox_offset": ("i8", 168),
    "scl_slope": ("f8", 176),
    "scl_inter": ("f8", 184),
    "qform_code": ("i4", 344),
    "sform_code": ("i4", 348),
    "quatern": ("3f8", 352),
    "qoffset": ("3f8", 376),
    "srow": ("(3,4)f8", 400),
    "xyzt_units": ("i4", 500),
    "intent_code": ("i4", 504),
}


@dataclass(frozen=True)
class NiftiKind:
    """Variant of the format: a version and a byte order, which is also that of the voxels."""

    size: int
    magic: bytes
    magic_at: int
    byte_order: Literal["<", ">"]
    layout: np.dtype[Any]

    def matches(self, head: bytes) -> bool:
        """Return True if a head, or its beginning, is that of this kind."""
        size = struct.pack(f"{self.byte_order}i", self.size)
        if len(head) < self.size:
            return head[:4] == size[: len(head)]
        return head[:4] == size and head[self.magic_at : self.magic_at + len(self.magic)] == self.magic


def kind_of(head: bytes) -> NiftiKind | None:
    """Return the kind of an uncompressed head; None if it isn't NIfTI, or is the header of a file pair."""
    return next((kind for kind in _KINDS if kind.matches(head)), None)


def _layout(fields: dict[str, tuple[str, int]], size: int, byte_order: str) -> np.dtype[Any]:
    formats, offsets = zip(*fields.values(), strict=True)
    layout: dict[str, Any] = {"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": size}
    record: np.dtype[Any] = np.dtype(cast("Any", layout))
    return record.newbyteorder(byte_order)  # type: ignore[arg-type]


_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_KINDS = tuple(
    NiftiKind(size, magic, magic_at, order, _layout(fields, size, order))
    for size, magic, magic_at, fields in ((348, b"n+1\0", 344, _NIFTI1), (540, b"n+2\0\r\n\x1a\n", 4, _NIFTI2))
    for order in _ORDERS
)
