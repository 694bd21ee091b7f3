"""Locks between processes: one process at a time works in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Held(Exception):
    """Another process holds the lock; `process` is its process id."""

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock on a file; the system releases it when the process ends, even if it is killed.

    The lock belongs to the process, not to the open file: children that outlive a killed process don't hold it.

    Raises:
        Held: another process holds the lock.
    """
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise Held(file.read().strip()) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Return whether a process, other than this one, holds the lock. The file must exist.

    The test itself holds a shared lock for an instant.
    """
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
    return False
