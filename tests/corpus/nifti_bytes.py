"""NIfTI files built byte by byte, valid except for requested changes."""

import gzip
import random
import struct
import zlib
from math import prod

SHAPE = (5, 6, 7)
VALUES = [(7 * index) % 101 for index in range(prod(SHAPE))]  # x fastest; none needs more than 7 bits

_FIELDS = {  # version -> name -> struct's format, offset
    1: {
        "sizeof_hdr": ("i", 0), "dim": ("8h", 40), "intent_code": ("h", 68), "datatype": ("h", 70), "bitpix": ("h", 72),
        "pixdim": ("8f", 76), "vox_offset": ("f", 108), "scl_slope": ("f", 112), "scl_inter": ("f", 116),
        "xyzt_units": ("B", 123), "descrip": ("80s", 148), "aux_file": ("24s", 228), "qform_code": ("h", 252),
        "sform_code": ("h", 254), "quatern": ("3f", 256), "qoffset": ("3f", 268), "srow_x": ("4f", 280),
        "srow_y": ("4f", 296), "srow_z": ("4f", 312), "intent_name": ("16s", 328), "magic": ("4s", 344),
    },
    2: {
        "sizeof_hdr": ("i", 0), "magic": ("8s", 4), "datatype": ("h", 12), "bitpix": ("h", 14), "dim": ("8q", 16),
        "pixdim": ("8d", 104), "vox_offset": ("q", 168), "scl_slope": ("d", 176), "scl_inter": ("d", 184),
        "descrip": ("80s", 240), "aux_file": ("24s", 320), "qform_code": ("i", 344), "sform_code": ("i", 348),
        "quatern": ("3d", 352), "qoffset": ("3d", 376), "srow_x": ("4d", 400), "srow_y": ("4d", 432), "srow_z": ("4d", 464),
        "xyzt_units": ("i", 500), "intent_code": ("i", 504), "intent_name": ("16s", 508),
    },
}  # fmt: skip
_SIZES = {1: 348, 2: 540}
TYPES = {  # NIfTI's code -> struct's letter
    2: "B", 256: "b", 4: "h", 512: "H", 8: "i", 768: "I", 1024: "q", 1280: "Q", 16: "f", 64: "d",
}  # fmt: skip


def nifti(
    *, version: int = 1, order: str = "<", body: bytes | None = None, extensions: bytes = bytes(4), **fields: object
) -> bytes:
    """Return a volume of SHAPE, right-anterior-superior, int16 in millimetres, valid except for the arguments.

    Without `body` the voxels are VALUES in the header's type; `extensions` is what lies between header and voxels.
    """
    sound: dict[str, object] = {
        "sizeof_hdr": _SIZES[version],
        "magic": b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n",
        "dim": (3, *SHAPE, 1, 1, 1, 1),
        "datatype": 4,
        "pixdim": (1, 1, 1, 1, 1, 1, 1, 1),
        "vox_offset": _SIZES[version] + len(extensions),
        "scl_slope": 1,
        "xyzt_units": 2,
        "sform_code": 1,
        "srow_x": (1, 0, 0, 0),
        "srow_y": (0, 1, 0, 0),
        "srow_z": (0, 0, 1, 0),
    }
    told = {**sound, **fields}
    letter = TYPES.get(told["datatype"], "B")
    told.setdefault("bitpix", 8 * struct.calcsize(letter))
    header = bytearray(_SIZES[version])
    for name, value in told.items():
        form, offset = _FIELDS[version][name]
        struct.pack_into(order + form, header, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(header) + extensions + (voxels(letter, order) if body is None else body)


def voxels(letter: str, order: str = "<", values: list[float] | None = None) -> bytes:
    """Return VALUES, or others, packed as a type of `struct`."""
    values = VALUES if values is None else values
    return struct.pack(f"{order}{len(values)}{letter}", *values)


def noise(size: int) -> bytes:
    """Return bytes that can't be compressed."""
    return random.Random(0).randbytes(size)


def zeros_gzip(head: bytes, size: int) -> bytes:
    """Return a valid gzip file of `head` and zeros, `size` bytes uncompressed; it takes no time for large sizes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    count, rest = divmod(size - len(head), 2**20)
    packed = packer.compress(head + bytes(rest)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)) * count + packer.flush()
    checksum = zlib.crc32(head + bytes(rest))
    for _ in range(count):
        checksum = zlib.crc32(bytes(2**20), checksum)
    return gzip.compress(b"")[:10] + packed + struct.pack("<II", checksum, size % 2**32)


def extension(size: int, content: bytes = b"", code: int = 6) -> bytes:
    """Return an extension whose content is padded or cut to `size`; for false sizes it has at most 4 KiB."""
    length = min(max(size, 8), 2**12) - 8
    return struct.pack("<ii", size, code) + content.ljust(length, b"\0")[:length]
