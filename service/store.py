"""The folder in which the service keeps keys, uploads and jobs; what is written there survives a kill, whole or not at all."""

import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk.publish import publish

FOLDERS = ("uploads", "jobs")
KEYS = "keys.json"
_ID = re.compile(r"[0-9a-f]{32}")


class Store:
    """The folder and its parts; nobody but its user can open them.

    Args:
        folder: made where it isn't there.

    Raises:
        OSError: it can't be made, or is a link.
    """

    def __init__(self, folder: Path) -> None:
        os.umask(0o077)  # files of this process are its user's alone
        if folder.is_symlink():
            raise NotADirectoryError(f"{folder}: the store is a link; give the folder itself")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        self.folder = folder

    @property
    def keys(self) -> Path:
        """The file of keys."""
        return self.folder / KEYS

    def upload(self, upload_id: str) -> Path:
        """The folder of an upload; `upload_id` has to be one."""
        return self.folder / "uploads" / checked(upload_id)

    def job(self, job_id: str) -> Path:
        """The folder of a job; `job_id` has to be one."""
        return self.folder / "jobs" / checked(job_id)


def store_folder(environment: Mapping[str, str]) -> Path:
    """OVERTILE_STORE, or .overtile in the home folder."""
    return Path(environment.get("OVERTILE_STORE") or Path.home() / ".overtile")


def new_id() -> str:
    """That nobody can guess."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether it can name an upload or a job; nothing else becomes part of a path."""
    return _ID.fullmatch(text) is not None


def checked(text: str) -> str:
    """The same.

    Raises:
        ValueError: it is no ID.
    """
    if not is_id(text):
        raise ValueError("not an ID")
    return text


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """On the disk when this returns, in one piece whenever the power fails; its user's alone."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)

    def make(part: Path) -> None:
        part.touch(mode=0o600)
        part.write_text(text)

    publish(path, make)


def read_json(path: Path) -> dict[str, Any] | None:
    """What was written; None where there is nothing.

    Raises:
        ValueError: the file isn't what was written.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content
