"""Atomic publishing: a finished file or folder appears whole or not at all, and survives a power failure."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4


def publish(path: Path, make: Callable[[Path], object], workshop: Path | None = None) -> None:
    """Has a file or folder made beside its place, and puts it there, in place of what is there, once it is on the disk.

    Args:
        path: the place.
        make: gets another path with the same suffix, and makes it; when it raises, nothing is left of it.
        workshop: a folder on the same disk where it is made, for whoever clears that after a kill; None: beside the place.
    """
    part = (workshop or path.parent) / f".{uuid4().hex}.part{path.suffix}"
    try:
        make(part)
        for made in [*part.rglob("*"), part]:
            sync(made)
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
    """Replace a folder: the old one is set aside first, and put back if the new one can't take its place."""
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
