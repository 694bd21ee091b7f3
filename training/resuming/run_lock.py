"""One training at a time in a run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.schema import ConfigError
from disk import lock

LOCK = "lock"  # in the run's folder


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the folder's lock.

    Raises:
        ConfigError: another process trains there.
    """
    try:
        with lock.only_one(folder / LOCK):
            yield
    except lock.Held as error:
        raise ConfigError(
            f"{folder}: another training is at work here (process {error.process}); wait for it, stop it, or choose "
            "another run.name"
        ) from error
