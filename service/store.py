"""Folder of the service: paths of keys, uploads and jobs, JSON files that are written atomically, and the clock of expiry."""

import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk.publish import publish
from disk.user_folders import choosable_by, user_folder

FOLDERS = ("uploads", "jobs")
KEYS = "keys.json"
STORE_VARIABLE = "OVERTILE_STORE"
_ID = re.compile(r"[0-9a-f]{32}")
_START_S = time.time() - time.monotonic()


class Store:
    """Folder of the service with its subfolders, which only their user can open.

    Args:
        folder: created if it doesn't exist.

    Raises:
        OSError: the folder can't be created, or is a link.
    """

    def __init__(self, folder: Path) -> None:
        os.umask(0o077)  # only the user can read the files of this process
        if folder.is_symlink():
            raise NotADirectoryError(f"{folder}: the store is a link; give the folder itself")
        with choosable_by(STORE_VARIABLE, folder):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            for name in FOLDERS:
                (folder / name).mkdir(exist_ok=True)
        self.folder = folder

    @property
    def keys(self) -> Path:
        """Path of the file of keys."""
        return self.folder / KEYS

    def upload(self, upload_id: str) -> Path:
        """Return the folder of an upload; raise ValueError if `upload_id` isn't an ID."""
        return self.folder / "uploads" / check_id(upload_id)

    def job(self, job_id: str) -> Path:
        """Return the folder of a job; raise ValueError if `job_id` isn't an ID."""
        return self.folder / "jobs" / check_id(job_id)


def store_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder in OVERTILE_STORE, or .overtile in the home folder.

    Raises:
        FileNotFoundError: there is neither.
    """
    return user_folder(environment, STORE_VARIABLE, ".overtile")


def new_id() -> str:
    """Return a new ID of 32 hexadecimal digits, which nobody can guess."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Return whether a text has the form of an ID; only IDs become parts of paths."""
    return _ID.fullmatch(text) is not None


def check_id(text: str) -> str:
    """Return the text if it has the form of an ID.

    Raises:
        ValueError: it has another form.
    """
    if not is_id(text):
        raise ValueError("not an ID")
    return text


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, readable for this user only; it is on the disk when this returns."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)

    def write(part: Path) -> None:
        part.touch(mode=0o600)
        part.write_text(text)

    publish(path, write)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file; None if there is no file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def steady_time() -> float:
    """Return the time for expiry, in seconds since 1970; it never advances faster than the process's monotonic clock.

    If the machine's clock is set forward by a year, nothing expires before the next start.
    """
    return min(time.time(), _START_S + time.monotonic())
