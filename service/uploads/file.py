"""The file of one upload: locked while a request writes to it, and its SHA-256 kept up on the way."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.errors import Locked

_READ_BYTES = 2**20


@dataclass(frozen=True)
class Running:
    """A digest of a file's first `digested` bytes; holds while the file has the size, and the time of writing, of `state`."""

    digest: "hashlib._Hash"
    digested: int
    state: tuple[int, int]


class UploadFile:
    """A file that only grows, or is cut; closed, and so unlocked, at the end of a `with` or by a kill.

    Args:
        path: the file.
        new: it isn't there yet.
        running: what was known of its digest when it was last closed.

    Raises:
        FileNotFoundError: it isn't there, and isn't `new`.
        Locked: another request or process has it.
    """

    def __init__(self, path: Path, *, new: bool = False, running: Running | None = None) -> None:
        self._file = path.open("x+b" if new else "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise Locked("upload_locked", "another request is writing to the upload; wait for it to end") from error
        if not path.exists():  # removed by whoever had it locked
            self._file.close()
            raise FileNotFoundError(path)
        self.size = self._file.seek(0, os.SEEK_END)
        self._digest, self._digested = hashlib.sha256(), 0
        if running and running.state == self._state():
            self._digest, self._digested = running.digest, running.digested

    def append(self, block: bytes | memoryview) -> None:
        """Writes at the end; what the disk took of it is in the file also when it takes no more.

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

    def cut(self, size: int) -> None:
        """Drops what is beyond `size`."""
        self._file.truncate(size)
        self.size = self._file.seek(size)
        if self._digested > size:
            self._digest, self._digested = hashlib.sha256(), 0

    def sha256(self) -> str:
        """Of the whole file, hexadecimal; reads what wasn't hashed when it was written."""
        for block in self._undigested():
            self._digest.update(block)
            self._digested += len(block)
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Returns when everything is on the disk."""
        os.fsync(self._file.fileno())

    def running(self) -> Running:
        """What to go on with when the file is opened again."""
        return Running(self._digest, self._digested, self._state())

    def close(self) -> None:
        """Unlocks it, too."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _undigested(self) -> Iterator[bytes]:
        while block := os.pread(self._file.fileno(), _READ_BYTES, self._digested):
            yield block

    def _state(self) -> tuple[int, int]:
        known = os.fstat(self._file.fileno())
        return known.st_size, known.st_mtime_ns
