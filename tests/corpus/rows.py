"""Rows of the corpus of faulty files: how a file is built, where it is refused, and with which code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Layer = Literal["header", "reader"]


@dataclass(frozen=True)
class Row:
    """A file, or a folder of files, and the expected result of reading it.

    Args:
        id: unique id of the fault's number and a name, such as `N07-short`.
        build: writes the file or files into an empty folder and returns the path to open.
        code: code of the error; None if the file is valid.
        layer: where the fault is detected: "header" when the file is opened, "reader" when its pixels are read.
            Unused if `code` is None.
        warning: code among the source's `warnings`.
    """

    id: str
    build: Callable[[Path], Path]
    code: str | None
    layer: Layer = "header"
    warning: str | None = None
