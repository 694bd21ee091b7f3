"""Corners of the outlines of a band's objects, linked: which corner follows which, and which outline lies inside which.

Outlines run along the edges between pixels, the object on their right as the picture is looked at: its top edge runs to the
right, its right edge down. So an outline runs clockwise, a hole the other way. Objects are 4-connected: where two pixels of
a class touch at a corner only, each has a corner of its own there.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.unsignedinteger[Any]]  # labels of a mask, or numbers of objects
Integers = NDArray[np.int64]

NOWHERE = -1

_CONVEX, _CONCAVE, _CROSSED = range(3)


@dataclass(frozen=True)
class Ends:
    """Crossings of outlines from one band to the next, one entry each; `down` gives the direction."""

    label: Integers
    x: Integers
    down: NDArray[np.bool_]


@dataclass(frozen=True)
class Corners:
    """The corners of a band, sorted by label, line and column.

    Args:
        label: whose outline it is.
        line: counted from the band's first.
        x: the column of pixels to the right.
        from_below: its vertical edge lies below, else above.
        leaves_level: it comes by the vertical edge and leaves by the horizontal one, else the other way round.
        is_concave: three of the four pixels around belong to the object, else one or two.
        is_crossed: two opposite ones of the four do, so that two outlines, or one twice, pass here.
    """

    label: Integers
    line: Integers
    x: Integers
    from_below: NDArray[np.bool_]
    leaves_level: NDArray[np.bool_]
    is_concave: NDArray[np.bool_]
    is_crossed: NDArray[np.bool_]


def places(block: Labels) -> Integers:
    """Return the flat indices, in order, of the pixel corners of the block where an outline turns."""
    upright = block[:, 1:] != block[:, :-1]
    level = block[1:] != block[:-1]
    turns = (upright[1:] | upright[:-1]) & (level[:, 1:] | level[:, :-1])
    return np.flatnonzero(turns)


def corners(block: Labels, turns: Integers) -> Corners:
    """Return the corners of all outlines at those places.

    Args:
        block: (1 + lines, 2 + W): a row above the first line, a column of zeros at each side.
        turns: as `places` gives them.
    """
    line, x = np.divmod(turns, block.shape[1] - 1)
    around = [block[line + down, x + right] for down in (0, 1) for right in (0, 1)]
    parts = [_corners_of(quarter, around, line, x) for quarter in range(4)]
    columns = [np.concatenate(column) for column in zip(*(part for pair in parts for part in pair), strict=True)]
    label, line, x, quarter, shape = columns
    order = np.argsort(((label * block.shape[0] + line) * block.shape[1] + x) * 2 + quarter % 2)  # the left one of two first
    label, line, x, quarter, shape = (column[order] for column in columns)
    is_concave = shape == _CONCAVE
    leaves_level = np.isin(quarter, (0, 3)) != is_concave
    return Corners(label, line, x, quarter >= 2, leaves_level, is_concave, shape == _CROSSED)


def _corners_of(quarter: int, around: list[Labels], line: Integers, x: Integers) -> list[tuple[Integers, ...]]:
    """Corners made by one of the four pixels around each place: by its being there alone, or by its missing alone.

    Quarters are 0 above left, 1 above right, 2 below left, 3 below right.
    """
    own, beside, over, opposite = (around[quarter ^ turn] for turn in (0, 1, 2, 3))
    convex = np.flatnonzero((own > 0) & (own != beside) & (own != over))
    concave = np.flatnonzero((opposite > 0) & (opposite == beside) & (opposite == over) & (own != opposite))
    shapes = np.where(own[convex] == opposite[convex], _CROSSED, _CONVEX), np.full(concave.size, _CONCAVE)
    return [
        (owner[at].astype(np.int64), line[at], x[at], np.full(at.size, quarter), shape)
        for at, owner, shape in zip((convex, concave), (own, opposite), shapes, strict=True)
    ]


def ends_below(row: Labels) -> Ends:
    """Return the crossings of the line below a row (2 + W) of labels with zeros at its sides."""
    x = np.flatnonzero(row[1:] != row[:-1])
    left, right = row[:-1][x].astype(np.int64), row[1:][x].astype(np.int64)
    falling, rising = left > 0, right > 0  # the right edge of what lies left runs down
    return Ends(
        np.concatenate([left[falling], right[rising]]),
        np.concatenate([x[falling], x[rising]]),
        np.arange(falling.sum() + rising.sum()) < falling.sum(),
    )


class Uprights:
    """The vertical edges between corners, and between them and the crossings above and below.

    Nodes are numbered: the corners, then the crossings above, then those below.
    """

    def __init__(self, band_corners: Corners, above: Ends, below: Ends, shape: tuple[int, int]) -> None:
        self._lines, self._columns = shape[0] + 1, shape[1]
        nothing = np.zeros(above.x.size, np.int64)
        label = np.concatenate([band_corners.label, above.label, below.label])
        x = np.concatenate([band_corners.x, above.x, below.x])
        line = np.concatenate([band_corners.line + 1, nothing, np.full(below.x.size, self._lines - 1)])
        begins = np.concatenate([band_corners.from_below, nothing == 0, np.zeros(below.x.size, np.bool_)])
        keys = self._keys(label, x, line, begins)
        self._order = np.argsort(keys)
        self._sorted = keys[self._order]

    def partners(self) -> Integers:
        """Return the node at the other end of each node's vertical edge."""
        partners = np.empty_like(self._order)
        partners[self._order[0::2]] = self._order[1::2]
        partners[self._order[1::2]] = self._order[0::2]
        return partners

    def nodes_at(self, label: Any, x: Any, row: Any) -> Integers:
        """Return the upper nodes of the edges of some outlines that pass rows of the block at some columns."""
        nodes: Integers = self._order[np.searchsorted(self._sorted, self._keys(label, x, row, 1), side="right") - 1]
        return nodes

    def _keys(self, label: Any, x: Any, line: Any, begins: Any) -> Any:
        return ((label * self._columns + x) * (self._lines + 1) + line) * 2 + begins


def edges_left_of(block: Labels, row: Integers, x: Integers) -> Integers:
    """Return, for places in rows of the block, the column of the nearest change of label to their left."""
    rows, which = np.unique(row, return_inverse=True)
    picked = block[rows]
    changes = np.flatnonzero(picked[:, 1:] != picked[:, :-1])
    first = which * (block.shape[1] - 1)
    nearest: Integers = changes[np.searchsorted(changes, first + x) - 1] - first
    return nearest
