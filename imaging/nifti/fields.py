"""Positions of a NIfTI header's fields, in both versions of the format and both byte orders."""

import struct
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

HEADER_BYTES = 540  # of NIfTI-2, whose header is the longer one

Fields = Any  # a numpy record; fields that hold text are never read

_ANALYZE = {  # Analyze 7.5, with SPM's additions: https://nipy.org/nibabel/reference/nibabel.spm99analyze.html
    "sizeof_hdr": ("i4", 0),
    "dim": ("8i2", 40),
    "datatype": ("i2", 70),
    "bitpix": ("i2", 72),
    "pixdim": ("8f4", 76),
    "vox_offset": ("f4", 108),
    "scl_slope": ("f4", 112),
    "scl_inter": ("f4", 116),
    "calibration": ("2f4", 124),
    "extrema": ("2i4", 140),
    "origin": ("3i2", 253),
}
_NIFTI1 = {  # name -> type, offset: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
    "sizeof_hdr": ("i4", 0),
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
    "sizeof_hdr": ("i4", 0),
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
    """Variant of the format: a version and a byte order, which is also that of the voxels.

    Args:
        size: of the header, bytes.
        magic: bytes that identify the kind; none for Analyze.
        magic_at: offset of the magic bytes.
        is_pair: the voxels are in another file.
        byte_order: "<" or ">".
        layout: positions of the header's fields.
    """

    size: int
    magic: bytes
    magic_at: int
    is_pair: bool
    byte_order: Literal["<", ">"]
    layout: np.dtype[Any]

    @property
    def is_analyze(self) -> bool:
        """True for Analyze 7.5, which knows neither sform nor qform."""
        return not self.magic

    @property
    def lowest_offset(self) -> int:
        """Smallest offset of the voxels in their file: behind the header and the flag of the extensions."""
        return 0 if self.is_pair else self.size + 4

    def matches(self, head: bytes) -> bool:
        """Return True if a head is that of this kind, or begins like one of a single file.

        The size that the header gives itself may be wrong where the magic bytes are right, as in nibabel.
        """
        size = struct.pack(f"{self.byte_order}i", self.size)
        if len(head) < self.size:
            return not self.is_pair and head[:4] == size[: len(head)]
        has_magic = head[self.magic_at : self.magic_at + len(self.magic)] == self.magic
        axes = int(np.frombuffer(head[: self.size], self.layout)[0]["dim"][0])
        if self.is_pair:
            return head[:4] == size and has_magic and 1 <= axes <= 7
        return has_magic and (head[:4] == size or 1 <= axes <= 7)


def kind_of(head: bytes) -> NiftiKind | None:
    """Return the kind of an uncompressed head; None if it is neither NIfTI nor Analyze."""
    return next((kind for kind in _KINDS if kind.matches(head)), None)


def _layout(fields: dict[str, tuple[str, int]], size: int, byte_order: str) -> np.dtype[Any]:
    formats, offsets = zip(*fields.values(), strict=True)
    layout: dict[str, Any] = {"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": size}
    record: np.dtype[Any] = np.dtype(cast("Any", layout))
    return record.newbyteorder(byte_order)  # type: ignore[arg-type]


_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_KINDS = tuple(
    NiftiKind(size, magic, magic_at, is_pair, order, _layout(fields, size, order))
    for size, magic, magic_at, is_pair, fields in (
        (348, b"n+1\0", 344, False, _NIFTI1),
        (540, b"n+2\0\r\n\x1a\n", 4, False, _NIFTI2),
        (348, b"ni1\0", 344, True, _NIFTI1),
        (540, b"ni2\0\r\n\x1a\n", 4, True, _NIFTI2),
        (348, b"", 344, True, _ANALYZE),
    )
    for order in _ORDERS
)
