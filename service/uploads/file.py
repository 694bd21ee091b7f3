"""File of one upload: locked while a request writes to it, and hashed while it is written."""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import Locked

_READ_BYTES = 2**20


@dataclass(frozen=True)
class DigestState:
    """Digest of a file's first `digested_bytes`; valid while the file's size and modification time are `file_state`."""

    digest: "hashlib._Hash"
    digested_bytes: int
    file_state: tuple[int, int]


class UploadFile:
    """File of an upload, locked until it is closed or its process ends.

    Args:
        path: the file.
        new: create the file.
        digest_state: state of the digest when the file was last closed.

    Raises:
        FileNotFoundError: the file doesn't exist, and isn't `new`.
        Locked: another request or process has the file open.
    """

    def __init__(self, path: Path, *, new: bool = False, digest_state: DigestState | None = None) -> None:
        self._file = path.open("x+b" if new else "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise Locked("upload_locked", "another request is writing to the upload; wait until it ends") from error
        if not path.exists():  # removed by the process that had it locked
            self._file.close()
            raise FileNotFoundError(path)
        self.size = self._file.seek(0, os.SEEK_END)
        self._digest, self._digested = hashlib.sha256(), 0
        if digest_state and digest_state.file_state == self._file_state():
            self._digest, self._digested = digest_state.digest, digest_state.digested_bytes

    def append(self, block: bytes | memoryview) -> None:
        """Append a block; after an error, the part that was written stays in the file.

        Raises:
            OSError: the disk is full or broken.
        """
        rest = memoryview(block)
        while rest:
            written = self._file.write(rest) or 0
            if self._digested == self.size:
                self._digest.update(rest[:written])
                self._digested += written
            self.size += written
            rest = rest[written:]

    def truncate(self, size: int) -> None:
        """Truncate the file to `size` bytes."""
        self._file.truncate(size)
        self.size = self._file.seek(size)
        if self._digested > size:
            self._digest, self._digested = hashlib.sha256(), 0

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file in hexadecimal; only bytes that aren't hashed yet are read."""
        while block := os.pread(self._file.fileno(), _READ_BYTES, self._digested):
            self._digest.update(block)
            self._digested += len(block)
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Write everything to the disk."""
        os.fsync(self._file.fileno())

    def digest_state(self) -> DigestState:
        """Return the state of the digest, for opening the file again."""
        return DigestState(self._digest, self._digested, self._file_state())

    def close(self) -> None:
        """Close and unlock the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _file_state(self) -> tuple[int, int]:
        stat = os.fstat(self._file.fileno())
        return stat.st_size, stat.st_mtime_ns
