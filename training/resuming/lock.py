"""One training at a time in a run's folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.schema import ConfigError

LOCK = "lock"  # in the run's folder


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; however the process ends, the system lets it go.

    A lock of the process, not of the open file: workers that outlive a killed training by seconds don't keep it.

    Raises:
        ConfigError: another process trains there.
    """
    with (folder / LOCK).open("a+", encoding="ascii") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            raise ConfigError(
                f"{folder}: another training is at work here (process {file.read().strip()}); wait for it, stop it, or choose "
                "another run.name"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
