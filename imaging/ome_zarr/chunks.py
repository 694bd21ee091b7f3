"""Chunk files of a Zarr array, read region by region and decoded within the size that the metadata declare.

The `zarr` library decodes chunks of any declared size, follows links, and starts threads; untrusted files are read here
instead.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import google_crc32c
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage
from imaging.ome_zarr.arrays import ArrayLayout, ChunkCodec, Sharding
from imaging.source import Region

_CHECKSUM_BYTES = 4
_BLOSC_HEADER_BYTES = 16
_BLOSC_LENGTH = slice(12, 16)  # position in that header of the compressed size
_NO_CHUNK = 2**64 - 1  # in a shard's index: the chunk is missing


@dataclass(frozen=True, eq=False)
class ZarrArray:
    """An array in a folder of its own.

    Args:
        folder: resolved folder of the chunk files.
        root: folder outside of which no file is read.
        layout: layout from the array's metadata.
    """

    folder: Path
    root: Path
    layout: ArrayLayout

    @property
    def chunks(self) -> int:
        """Number of chunks, with or without a file."""
        return prod(-(-size // part) for size, part in zip(self.layout.shape, self.layout.codec.shape, strict=True))

    def chunks_in(self, region: Region) -> Iterator[tuple[int, ...]]:
        """Yield the numbers of the chunks that a region touches."""
        sizes = self.layout.codec.shape
        yield from product(
            *(range(axis.start // size, -(-axis.stop // size)) for axis, size in zip(region, sizes, strict=True))
        )

    def chunk(self, number: tuple[int, ...]) -> NDArray[Any] | None:
        """Return one chunk, in full even at the array's end, in the machine's byte order.

        None where there is no file: in Zarr, such a chunk consists of the fill value.

        Raises:
            BrokenImage: `chunk_unreadable`.
        """
        sharding, codec = self.layout.sharding, self.layout.codec
        stored = self._read(number) if sharding is None else self._read_from_shard(number, sharding)
        if stored is None:
            return None
        if codec.has_checksum:
            stored = _without_checksum(stored)
        content = _decompress(stored, codec.compression, codec.size_bytes)
        if len(content) != codec.size_bytes:
            raise _unreadable()
        flat = np.frombuffer(content, codec.dtype)
        as_stored = flat.reshape([codec.shape[axis] for axis in codec.order])
        return as_stored.transpose(np.argsort(codec.order)).astype(codec.dtype.newbyteorder("="))

    def _read(self, number: tuple[int, ...]) -> bytes | None:
        path = self._file(number)
        if path is None:
            return None
        limit_bytes = _most_bytes(self.layout.codec)
        try:
            with path.open("rb") as file:
                stored = file.read(limit_bytes + 1)
        except OSError as error:
            raise _unreadable() from error
        if len(stored) > limit_bytes:
            raise _unreadable()
        return stored

    def _file(self, number: tuple[int, ...]) -> Path | None:
        """Return the path of a chunk's file; None if there is none.

        Raises:
            BrokenImage: `chunk_unreadable` if it isn't a file inside `root`.
        """
        layout = self.layout
        path = self.folder / (layout.prefix + layout.separator.join(map(str, number)))
        try:
            inside = path.resolve(strict=True)
        except FileNotFoundError as error:
            if path.is_symlink():
                raise _unreadable() from error
            return None
        except OSError as error:
            raise _unreadable() from error
        if not inside.is_relative_to(self.root) or not inside.is_file():
            raise _unreadable()
        return inside

    def _read_from_shard(self, number: tuple[int, ...], sharding: Sharding) -> bytes | None:
        shard = tuple(index // count for index, count in zip(number, sharding.chunks, strict=True))
        within = tuple(index % count for index, count in zip(number, sharding.chunks, strict=True))
        path = self._file(shard)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                size_bytes = file.seek(0, 2)
                offset, length = _place(file, size_bytes, within, sharding)
                if (offset, length) == (_NO_CHUNK, _NO_CHUNK):
                    return None
                if length > _most_bytes(self.layout.codec) or offset + length > size_bytes:
                    raise _unreadable()
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            raise _unreadable() from error


def _place(file: Any, size_bytes: int, within: tuple[int, ...], sharding: Sharding) -> tuple[int, int]:
    """Return the offset and length of a chunk in its shard, from the index, whose checksum is verified."""
    entries = prod(sharding.chunks)
    index_bytes = 16 * entries + (_CHECKSUM_BYTES if sharding.index_has_checksum else 0)
    if index_bytes > size_bytes:
        raise _unreadable()
    file.seek(0 if sharding.index_first else size_bytes - index_bytes)
    stored = file.read(index_bytes)
    if sharding.index_has_checksum:
        stored = _without_checksum(stored)
    index = np.frombuffer(stored, "<u8").reshape(*sharding.chunks, 2)
    offset, length = index[within]
    return int(offset), int(length)


def _decompress(stored: bytes, compression: str | None, size_bytes: int) -> Any:
    """Decompress a chunk, at most one byte more than `size_bytes`.

    Raises:
        BrokenImage: `chunk_unreadable`.
    """
    try:
        if compression == "blosc":  # whose library trusts the header's size and would read beyond the chunk
            if int.from_bytes(stored[_BLOSC_LENGTH], "little") != len(stored) or len(stored) < _BLOSC_HEADER_BYTES:
                raise _unreadable()
            return imagecodecs.blosc_decode(stored, out=size_bytes)
        if compression == "zstd":
            return imagecodecs.zstd_decode(stored, out=size_bytes)
        if compression == "lz4":  # after the size, which numcodecs writes first
            return imagecodecs.lz4_decode(stored[4:], out=size_bytes)
        if compression in ("zlib", "gzip"):
            stream = zlib.decompressobj(31 if compression == "gzip" else 15)  # zlib's codes for the two headers
            content = stream.decompress(stored, size_bytes + 1)
            if not stream.eof or stream.unused_data:
                raise _unreadable()
            return content
    except (RuntimeError, ValueError, MemoryError, zlib.error) as error:
        raise _unreadable() from error
    return stored


def _without_checksum(stored: bytes) -> bytes:
    content, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
    if len(stored) < _CHECKSUM_BYTES or google_crc32c.value(content) != int.from_bytes(checksum, "little"):
        raise _unreadable()
    return content


def _most_bytes(codec: ChunkCodec) -> int:
    """Return the largest size of a stored chunk: compression makes noise slightly larger."""
    return codec.size_bytes + codec.size_bytes // 16 + 4096


def _unreadable() -> BrokenImage:
    return BrokenImage(
        "chunk_unreadable", "a chunk of the OME-Zarr is cut, damaged or out of its folder; copy or export the image again"
    )
