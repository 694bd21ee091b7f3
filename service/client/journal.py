"""Journal of the client's uploads and jobs, with which another run of the same command continues where one stopped."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from disk.lock import Held, only_one
from disk.user_folders import CACHE, CACHE_VARIABLE, user_folder
from service.client.errors import UploadHeld

RETENTION_S = 30 * 24 * 3600  # longer than the server keeps anything


def default_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the journal in the user's cache.

    Raises:
        FileNotFoundError: XDG_CACHE_HOME isn't set, and the user has no home.
    """
    return user_folder(environment, CACHE_VARIABLE, CACHE) / "overtile" / "client"


class ClientJournal:
    """IDs of uploads and jobs, each in a small file; the server decides whether an ID is still valid.

    Args:
        folder: is created where it doesn't exist, for its user alone.
        url: address of the server that gave the IDs.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url

    def key(self, files: Sequence[Path], *more: str) -> str:
        """Return a key that changes with the server, with the files' paths, sizes and times of change, and with `more`."""
        states = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return hashlib.sha256(json.dumps([self._url, states, *more]).encode()).hexdigest()[:40]

    def read(self, key: str) -> str | None:
        """Return the ID of a key, or None where there is none."""
        with suppress(FileNotFoundError):
            return self._path(key).read_text(encoding="ascii", errors="replace").strip() or None
        return None

    def write(self, key: str, value: str) -> None:
        """Store the ID of a key; it is on the disk when this returns."""
        self._create_folder()
        part = self._folder / f".{uuid4().hex}.part"
        with part.open("w", encoding="ascii") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path(key))

    def remove(self, key: str) -> None:
        """Remove the ID of a key, if there is one."""
        self._path(key).unlink(missing_ok=True)

    @contextmanager
    def lock(self, key: str, path: Path) -> Iterator[None]:
        """Hold the lock of a key, so that only one process sends the file.

        Raises:
            UploadHeld: another process holds it.
        """
        self._create_folder()
        try:
            with only_one(self._folder / f"{key}.lock"):
                yield
        except Held as held:
            message = f"{path} is being sent by process {held.process}; wait until it has finished, or end it"
            raise UploadHeld("upload_held", message) from held

    def _create_folder(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove_old(self) -> None:
        """Remove files that are older than anything that the server keeps."""
        with suppress(FileNotFoundError):
            for file in list(self._folder.iterdir()):
                with suppress(FileNotFoundError):
                    if time.time() - file.stat().st_mtime > RETENTION_S:
                        file.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.id"
