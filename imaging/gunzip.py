"""A gzip file's one member, uncompressed piece by piece: memory grows only with what comes, checksum and end are verified."""

import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from imaging.errors import BrokenImage, DataError, ImageTooLarge

GZIP_MAGIC = b"\x1f\x8b"

_IN_BYTES = 2**18
_FREE_BYTES = 16 * 2**20  # the ratio counts from here on
_WINDOW_BITS = 31  # zlib's word for gzip, with its CRC-32 and length checked


class Gunzip:
    """A gzip file open for reading; a context manager.

    Args:
        path: the file.
        max_ratio: most uncompressed bytes for each byte of the file, once there are 16 MiB of them; None means any.
        offset: where in the file the member begins.
    """

    def __init__(self, path: Path, max_ratio: int | None = None, *, offset: int = 0) -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._most_bytes = None if max_ratio is None else max(_FREE_BYTES, max_ratio * path.stat().st_size)
        self._member = zlib.decompressobj(wbits=_WINDOW_BITS)
        self._come = 0

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only where the member ends.

        Raises:
            BrokenImage: `gzip_corrupt` if the stream is cut, damaged, or not what its checksum says.
            ImageTooLarge: `decompressed_too_large`.
        """
        pieces = []
        while size and not self._member.eof:
            pieces.append(self._inflated(size))
            size -= len(pieces[-1])
        return b"".join(pieces)

    def finish(self) -> None:
        """Verify the checksum, after everything was read.

        Raises:
            BrokenImage: `gzip_trailing_data` if anything follows what was read: in the member or after it, another
                member too; `gzip_corrupt`.
        """
        if self.read(1) or self._member.unused_data or self._file.read(1):
            raise BrokenImage(
                "gzip_trailing_data",
                "something follows the volume in the compressed file; compress the volume alone, once, and send that",
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _inflated(self, size: int) -> bytes:
        """Return 1 to `size` decompressed bytes, none at the member's end."""
        while True:
            packed = self._member.unconsumed_tail or self._file.read(_IN_BYTES)
            try:
                piece = self._member.decompress(packed, size)
            except zlib.error as error:
                raise _corrupt() from error
            if piece or self._member.eof:
                break
            if not packed:
                raise _corrupt()
        self._come += len(piece)
        if self._most_bytes is not None and self._come > self._most_bytes:
            raise _too_large(self._most_bytes)
        return piece


def _corrupt() -> DataError:
    return BrokenImage("gzip_corrupt", "the compressed volume is cut or damaged; send or export the file again")


def _too_large(most_bytes: int) -> DataError:
    return ImageTooLarge(
        "decompressed_too_large",
        f"the compressed volume unpacks to more than {most_bytes} bytes, too many for a file of its size; send it uncompressed",
        most_bytes,
    )
