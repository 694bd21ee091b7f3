"""Streaming gzip decompression: members are read as one stream, and checksums are verified."""

import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from imaging.errors import BrokenImage, DataError, ImageTooLarge

GZIP_MAGIC = b"\x1f\x8b"

_IN_BYTES = 2**18
_FREE_BYTES = 16 * 2**20  # that a file of any size may decompress to
_MOST_TRAILING_BYTES = 2**20  # decompressed; padding and notes take less
_WINDOW_BITS = 31  # zlib's value for gzip, whose CRC-32 and length are verified


class Gunzip:
    """Gzip file open for reading; a context manager.

    Args:
        path: the file.
        max_ratio: upper limit of decompressed bytes for each byte of the file, beyond 16 MiB; None means no limit.
        offset: offset of the first member in the file.
    """

    def __init__(self, path: Path, max_ratio: int | None = None, *, offset: int = 0) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._most_bytes = None if max_ratio is None else max(_FREE_BYTES, max_ratio * path.stat().st_size)
        self._member = zlib.decompressobj(wbits=_WINDOW_BITS)
        self._packed = b""  # read from the file, not yet decompressed
        self._read_bytes = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the last member.

        Several members are one stream, as block-wise compressors (bgzip, pigz) write them.

        Raises:
            BrokenImage: `gzip_corrupt` if the stream is cut or damaged, or its checksum differs.
            ImageTooLarge: `decompressed_too_large`.
        """
        pieces = []
        while size and (piece := self._inflate(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def has_trailing_data(self) -> bool:
        """Return True if more data follow the bytes that were read, in the stream or after it; verify the checksum.

        Raises:
            BrokenImage: `gzip_corrupt`; `gzip_trailing_data` if more than 1 MiB follows in the stream.
        """
        rest = self.read(_MOST_TRAILING_BYTES + 1)
        if len(rest) > _MOST_TRAILING_BYTES:
            raise BrokenImage(
                "gzip_trailing_data",
                f"the compressed file holds more than {_MOST_TRAILING_BYTES} bytes after the volume; compress the volume alone "
                "and send that",
            )
        return bool(rest or self._packed or self._file.read(1))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _inflate(self, size: int) -> bytes:
        """Return 1 to `size` decompressed bytes, none after the last member."""
        piece = b""
        while not piece:
            packed = self._packed or self._file.read(_IN_BYTES)
            if self._member.eof:
                packed += b"" if len(packed) >= len(GZIP_MAGIC) else self._file.read(_IN_BYTES)
                if not packed.startswith(GZIP_MAGIC):
                    self._packed = packed
                    return b""
                self._member = zlib.decompressobj(wbits=_WINDOW_BITS)
            try:
                piece = self._member.decompress(packed, size)
            except zlib.error as error:
                raise _corrupt() from error
            self._packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if not packed and not piece and not self._member.eof:
                raise _corrupt()
        self._read_bytes += len(piece)
        if self._most_bytes is not None and self._read_bytes > self._most_bytes:
            raise ImageTooLarge(
                "decompressed_too_large",
                f"the compressed volume decompresses to more than {self._most_bytes} bytes, the limit for a file of its size; "
                "send it uncompressed",
                self._most_bytes,
            )
        return piece


def _corrupt() -> DataError:
    return BrokenImage("gzip_corrupt", "the compressed volume is cut or damaged; send or export the file again")
