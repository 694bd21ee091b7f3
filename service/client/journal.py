"""What an earlier run of the client left behind: which uploads it had begun, which jobs it had handed over."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from disk.lock import Held, only_one
from service.client.errors import UploadHeld

KEPT_S = 30 * 24 * 3600  # longer than the server keeps anything


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where a user's programs keep what they can do without."""
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overtile" / "client"


class Memory:
    """IDs by what they are of; only hints: the server says whether they still hold.

    Args:
        folder: made where it is missing, for its user alone.
        url: of the server that gave the IDs.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url

    def key(self, files: Sequence[Path], *more: str) -> str:
        """Of files as they are now, and what else counts."""
        known = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return hashlib.sha256(json.dumps([self._url, known, *more]).encode()).hexdigest()[:40]

    def recall(self, key: str) -> str | None:
        """The ID, if there is one."""
        with suppress(FileNotFoundError):
            return self._path(key).read_text(encoding="ascii", errors="replace").strip() or None
        return None

    def remember(self, key: str, known: str) -> None:
        """Until it is forgotten; on the disk when this returns."""
        self._make()
        part = self._folder / f".{uuid4().hex}.part"
        with part.open("w", encoding="ascii") as file:
            file.write(known)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path(key))

    def forget(self, key: str) -> None:
        """Nothing is left of it."""
        self._path(key).unlink(missing_ok=True)

    @contextmanager
    def alone(self, key: str, path: Path) -> Iterator[None]:
        """While no other process sends the file.

        Raises:
            UploadHeld: one does.
        """
        self._make()
        try:
            with only_one(self._folder / f"{key}.lock"):
                yield
        except Held as held:
            message = f"{path} is being sent by process {held.process}; wait until it is done, or end it"
            raise UploadHeld("upload_held", message) from held

    def _make(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def sweep(self) -> None:
        """Drops what is too old to be of use."""
        with suppress(FileNotFoundError):
            for file in list(self._folder.iterdir()):
                with suppress(FileNotFoundError):
                    if time.time() - file.stat().st_mtime > KEPT_S:
                        file.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.id"
