"""What every row of the corpus of faulty files is: how it is built, who refuses it, and with which code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Layer = Literal["header", "reader"]


@dataclass(frozen=True)
class Row:
    """One file, or one folder of files, and what reading it comes to.

    Args:
        id: unique: the fault's number and what the file is, `N07-short`.
        build: writes the file or files into an empty folder and returns the path to open.
        code: of the error; None where the file reads.
        layer: who finds the fault: "header" when the file is opened, "reader" not before its pixels are read.
            Of no meaning where `code` is None.
        warning: a code that the source's `warnings` hold.
    """

    id: str
    build: Callable[[Path], Path]
    code: str | None
    layer: Layer = "header"
    warning: str | None = None
