"""Probabilities of an image that its objects are measured with, on disk until the objects are found."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region
from imaging.writing.row_buffer import BufferFile, RowBuffer
from inference.tiling.stitch import Band
from models.head import Head


class ProbabilityRows:
    """Rows of the probability of each pixel's own class, or of every foreground class, as float16; a context manager.

    Detections are looked for in the probabilities of the foreground classes. Objects with an extent need one value per pixel.
    As an array that is read, it has the shape (K, *S).

    Args:
        place: folder for an unnamed file, or the file to resume from.
        shape: (*S) of the image.
        classes: K.
        every_class: keeps the probabilities of all foreground classes.
    """

    def __init__(self, place: Path | BufferFile, shape: tuple[int, ...], classes: int, *, every_class: bool) -> None:
        self._every_class = every_class
        self._classes = classes
        leading = (classes - 1,) if every_class else ()
        self._buffer = RowBuffer(place, (*leading, *shape), np.dtype(np.float16), classes=every_class)

    @staticmethod
    def pixel_bytes(classes: int, *, every_class: bool) -> int:
        """Return the bytes per pixel of the image."""
        return 2 * (classes - 1 if every_class else 1)

    def write(self, head: Head, band: Band) -> None:
        """Write the probabilities of finished rows."""
        probabilities = head.probabilities(band.logits)  # (K, rows, *rest)
        if self._every_class:
            rows = probabilities[1:]
        else:
            rows = np.take_along_axis(probabilities, head.mask(band.logits)[None], axis=0)[0]  # (rows, *rest)
        self._buffer.append(rows.astype(np.float16))

    def sync(self) -> None:
        """Wait until all written rows are on the disk."""
        self._buffer.sync()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (K, *S) of what is read."""
        return (self._classes, *self._buffer.shape[int(self._every_class) :])

    def read(self, region: Region) -> NDArray[np.float16]:
        """Return the probabilities (K, *S') of a region of S.

        The background's are 0 if every foreground class is kept; else each pixel has the probability of its own class
        throughout.
        """
        if not self._every_class:
            own = self._buffer.read(region)
            return np.broadcast_to(own, (self._classes, *own.shape))
        foreground = self._buffer.read((slice(None), *region))
        return np.concatenate([np.zeros_like(foreground[:1]), foreground])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._buffer.__exit__(kind, error, trace)
