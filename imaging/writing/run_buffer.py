"""Buffer on disk for an image of numbers that is filled object by object, in any order."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.writing.row_buffer import BLOCK_BYTES, RowBuffer

_PIXELS_AT_ONCE = 2**20
_OBJECTS_AT_ONCE = 2**14

Runs = NDArray[np.int32]


class RunBuffer(RowBuffer):
    """Array (*S) uint32 on disk whose pixels are 0 until runs of them are filled; a context manager.

    Its file has no name and is sparse, so that background takes no space.

    Args:
        folder: folder of the file, best on the target's file system.
        shape: (*S).
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        super().__init__(folder, shape, np.dtype(np.uint32))
        self._file.truncate(self.size_bytes)
        self._runs: list[Runs] = []
        self._numbers: list[int] = []
        self._pixels = 0

    def fill(self, runs: Runs, number: int) -> None:
        """Fill runs of pixels with a number, once enough have come.

        Args:
            runs: (n, dimensions + 1): the position of a line along the last axis, its first pixel and the one after its last.
            number: from 1 to 2**32 - 1.
        """
        self._runs.append(runs)
        self._numbers.append(number)
        self._pixels += int((runs[:, -1] - runs[:, -2]).sum())
        if self._pixels >= _PIXELS_AT_ONCE or len(self._numbers) >= _OBJECTS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write all runs into the file. Call it before reading."""
        if not self._runs:
            return
        runs = np.concatenate(self._runs).astype(np.int64)
        numbers = np.repeat(np.array(self._numbers, np.uint32), [len(each) for each in self._runs])
        self._runs, self._numbers, self._pixels = [], [], 0
        window_rows = max(1, BLOCK_BYTES // self._row_bytes)
        windows = runs[:, 0] // window_rows
        for window in np.unique(windows).tolist():
            in_window = windows == window
            self._fill_window(window * window_rows, window_rows, runs[in_window], numbers[in_window])

    def _fill_window(self, first_row: int, rows: int, runs: NDArray[np.int64], numbers: NDArray[np.uint32]) -> None:
        """Fill runs that lie in some rows; these are mapped into memory for this call only."""
        shape = (min(rows, self.shape[0] - first_row), *self.shape[1:])
        mapped = np.memmap(self._file, self.dtype, "r+", first_row * self._row_bytes, shape)
        pixels = mapped.reshape(-1)
        lines = np.ravel_multi_index(tuple((runs[:, :-2] - [first_row, *[0] * (len(shape) - 2)]).T), shape[:-1])
        starts, lengths = lines * shape[-1] + runs[:, -2], runs[:, -1] - runs[:, -2]
        ends = np.cumsum(lengths)
        first = 0
        while first < len(runs):  # at least one run, whose length is limited by the image's width
            done = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, done + _PIXELS_AT_ONCE, side="right")))
            size = lengths[first:last]
            offsets = np.repeat(starts[first:last] - (ends[first:last] - size), size) + np.arange(done, ends[last - 1])
            pixels[offsets] = np.repeat(numbers[first:last], size)
            first = last
