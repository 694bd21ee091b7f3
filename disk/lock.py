"""Locks between processes: one process at a time works in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Held(Exception):
    """Another process is at it; `process` is its number."""

    def __init__(self, process: str) -> None:
        super().__init__(process)
        self.process = process


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock on a file; the system releases it however the process ends.

    A lock of the process, not of the open file: children that outlive a killed process by seconds don't keep it.

    Raises:
        Held: another process holds it.
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
