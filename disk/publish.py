"""Atomic publishing: a finished file or folder appears whole or not at all, and survives a power failure."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def publish(path: Path, make: Callable[[Path], object], temporary_folder: Path | None = None) -> None:
    """Create a file or folder under another name, and move it to its path, replacing what is there, once it is on the disk.

    Args:
        path: path of the file or folder.
        make: creates it at the path that it is given, which has the same suffix; if it raises, nothing is left.
        temporary_folder: folder on the same disk to create it in, which the caller clears after a kill; None: beside `path`.
    """
    part = (temporary_folder or path.parent) / f".{uuid4().hex}.part{path.suffix}"
    try:
        make(part)
        for entry in [*part.rglob("*"), part]:
            sync(entry)
        _replace(part, path)
        sync(path.parent)
    finally:
        _remove(part)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(part: Path, path: Path) -> None:
    """Move a file or folder to a path; an existing folder is first renamed, and renamed back if the move fails."""
    if not path.is_dir():
        if part.is_dir():
            path.unlink(missing_ok=True)
        part.replace(path)
        return
    aside = path.parent / f".{uuid4().hex}.old"
    path.rename(aside)
    try:
        part.rename(path)
    except OSError:
        aside.rename(path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
