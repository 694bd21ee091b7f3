"""Masks -> files in the image's own geometry, band by band; a file appears only when it is complete."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from imaging.encoders import write_nifti, write_png, write_tiff
from imaging.errors import UnsuitableImage
from imaging.pictures import MAX_PICTURE_PIXELS
from imaging.source import Geometry, MaskFormat

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class _Format:
    suffix: str
    suits: Callable[[Geometry], bool]
    encode: Callable[[Path, Labels, Geometry, Sequence[str]], None]


_FORMATS: dict[MaskFormat, _Format] = {
    "png": _Format(".png", lambda lies: len(lies.shape) == 2 and prod(lies.shape) <= MAX_PICTURE_PIXELS, write_png),
    "tiff": _Format(".tiff", lambda lies: len(lies.shape) == 2, write_tiff),
    "nifti": _Format(".nii.gz", lambda lies: len(lies.shape) == 3, write_nifti),
}


def suffix_of(format: MaskFormat) -> str:
    """How a mask's file name ends: .png, .tiff or .nii.gz."""
    return _FORMATS[format].suffix


class MaskWriter:
    """Takes a mask's rows in order and writes the file when it is left; made by `open_writer`.

    Leaving it by an exception leaves nothing behind. While it is open, the labels lie in a file without a name beside the
    target, so that memory stays bounded and a killed process leaves nothing either.
    """

    def __init__(self, path: Path, geometry: Geometry, kind: _Format, colours: Sequence[str]) -> None:
        self._path = path
        self._geometry = geometry
        self._kind = kind
        self._colours = tuple(colours)
        self._next_row = 0
        self._scratch = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115  (closed by __exit__)

    def write(self, start: int, rows: Labels) -> None:
        """Takes the next rows.

        Args:
            start: their place on the first axis of S.
            rows: (rows, *rest), uint8 labels.

        Raises:
            ValueError: rows that don't follow the last ones, or of a wrong shape or type.
        """
        size, *rest = self._geometry.shape
        if start != self._next_row:
            raise ValueError(f"rows from {start} came, rows from {self._next_row} are next; write them in order without gaps")
        if rows.dtype != np.uint8 or rows.ndim != 1 + len(rest) or rows.shape[1:] != tuple(rest):
            raise ValueError(f"rows {rows.shape} of {rows.dtype} came, (rows, {str(rest)[1:-1]}) of uint8 are allowed")
        if start + len(rows) > size:
            raise ValueError(f"rows {start} to {start + len(rows)} came, the mask ends at {size}; cut them")
        self._scratch.write(rows.tobytes())
        self._next_row = start + len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._scratch:
            if kind is None:
                self._publish()

    def _publish(self) -> None:
        if self._next_row != self._geometry.shape[0]:
            raise ValueError(f"the writer was left after {self._next_row} of {self._geometry.shape[0]} rows; write all of them")
        self._scratch.flush()
        labels = np.memmap(self._scratch, np.uint8, "r", shape=self._geometry.shape)
        # the suffix is the target's, because it says whether NIfTI is compressed
        part = self._path.parent / f".{uuid4().hex}.part{self._path.suffix}"
        try:
            self._kind.encode(part, labels, self._geometry, self._colours)
            _sync(part)
            part.replace(self._path)
            _sync(self._path.parent)
        finally:
            part.unlink(missing_ok=True)


def open_writer(
    path: Path,
    geometry: Geometry,
    *,
    format: MaskFormat,
    colours: Sequence[str],
) -> MaskWriter:
    """A writer of one mask, a context manager.

    Args:
        path: the file to make; one that is there is replaced at the end. For NIfTI the suffix .gz compresses.
        geometry: the image's own; shape, spacing and affine go into the file as far as the format holds them.
        format: "png" (a palette, values are labels), "tiff" (tiled, with a pyramid) or "nifti".
        colours: "#rrggbb" of each label, shown by PNG viewers.

    Raises:
        UnsuitableImage: `format_not_suitable` if such an image can't have a mask of that format; names those that suit.
    """
    kind = _FORMATS[format]
    if not kind.suits(geometry):
        suitable = " or ".join(name for name, other in _FORMATS.items() if other.suits(geometry)) or "a 2D or 3D image"
        raise UnsuitableImage(
            "format_not_suitable",
            f"a mask of the size {geometry.shape} can't be written as {format}; choose {suitable}",
        )
    return MaskWriter(path, geometry, kind, colours)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
