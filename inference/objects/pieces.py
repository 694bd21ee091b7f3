"""Connected pieces of a mask, found in bands of rows; only the runs of unfinished pieces are held."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.objects.image_object import Readable
from inference.objects.runs import Canvas, Groups, Integers, Runs

BAND_PIXELS = 4 * 2**20


def find_pieces(mask: Readable, canvas: Canvas, band_rows: int | None = None) -> Iterator[Groups]:
    """Yield the connected pieces of each label of a mask, in the order of their last rows, then of their first pixels.

    Args:
        mask: labels (*S), 0 is background; read once, from the first row to the last.
        canvas: canvas of S.
        band_rows: number of rows that are read at a time; None: as many as have four million pixels.
    """
    rows, *rest = mask.shape
    band_rows = band_rows or max(1, BAND_PIXELS // int(np.prod(rest)))
    finder = _Finder(canvas)
    for start in range(0, rows, band_rows):
        stop = min(start + band_rows, rows)
        yield finder.add(mask.read((slice(start, stop), *(slice(0, size) for size in rest))), start)


class _Finder:
    """Finder that holds the pieces which reach the last row, whether or not they continue below it."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._open: dict[int, list[Runs]] = {}  # runs of each open piece
        self._last_row = Runs.joined([])
        self._pieces = np.zeros(0, np.int64)  # open piece of each run of the last row

    def add(self, labels: NDArray[Any], start: int) -> Groups:
        """Return the pieces that end above the last of the rows (rows, *rest), or in it if it is the image's last."""
        stop = start + len(labels)
        band = self._canvas.runs(labels, (start,) + (0,) * (labels.ndim - 1))
        piece_of_run = self._canvas.components(Runs.joined([self._last_row, band]), self._links())
        above, here = np.split(piece_of_run, [len(self._last_row)])
        parts: dict[int, list[Runs]] = defaultdict(list)
        for old, new in dict(zip(self._pieces.tolist(), above.tolist(), strict=True)).items():
            parts[new] += self._open[old]
        is_last = band.starts >= (stop - 1) * self._canvas.steps[0]
        is_open = np.zeros(int(piece_of_run.max(initial=-1)) + 1, np.bool_)
        is_open[here[is_last]] = stop < self._canvas.shape[0]
        finished, pieces = [band.take(~is_open[here])], [here[~is_open[here]]]
        for piece in [piece for piece in parts if not is_open[piece]]:
            for part in parts.pop(piece):
                finished.append(part)
                pieces.append(np.full(len(part), piece))
        continued = Groups.by(band.take(is_open[here]), here[is_open[here]])
        for index, piece in enumerate(np.flatnonzero(is_open).tolist()):
            parts[piece].append(continued.runs.take(np.arange(*continued.bounds[index : index + 2])))
        self._open, self._last_row, self._pieces = parts, band.take(is_last), here[is_last]
        groups = Groups.by(Runs.joined(finished), np.concatenate(pieces))
        return groups.take(np.lexsort((groups.firsts, groups.lasts // self._canvas.steps[0])))

    def _links(self) -> tuple[Integers, Integers]:
        """Return pairs of runs of the last row that belong to the same piece by what is above them."""
        order = np.argsort(self._pieces, kind="stable")
        is_same = np.diff(self._pieces[order]) == 0
        return order[:-1][is_same], order[1:][is_same]
