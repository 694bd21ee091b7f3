"""Tracing of a mask's objects as polygons, band by band; only unfinished objects are held in memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imaging.outlines.corners import (
    NOWHERE,
    Corners,
    Ends,
    Integers,
    Labels,
    Uprights,
    corners,
    edges_left_of,
    ends_below,
    places,
)

Ring = NDArray[np.int32]

_WALKED = -2
_MOST_TURNS = 2**16  # at once; a band of noise is split


@dataclass(frozen=True)
class Polygon:
    """Object: 4-connected pixels of one label.

    Args:
        label: above 0.
        rings: the outline, then the holes: (n, 2) corners (y, x) of pixels, not closed, none on the line between its
            neighbours. Seen with y down the outline runs clockwise, holes the other way; none touches itself.
    """

    label: int
    rings: tuple[Ring, ...]


def trace(bands: Iterable[Labels], width: int) -> Iterator[Polygon]:
    """Yield the objects of every label above 0; a polygon holds exactly the pixels whose centres lie inside.

    Args:
        bands: (rows, W) of a mask, from the first row to the last.
        width: W.
    """
    tracer = _Tracer(width)
    for band in bands:
        yield from tracer.add(np.pad(band, ((0, 0), (1, 1))))
    yield from tracer.add(np.zeros((1, width + 2), np.uint8))


@dataclass(frozen=True)
class _Open:
    """Outlines that continue below a band.

    Args:
        ends: first the heads of all open outlines, where they come up from the next band, then in the same order their
            tails, where they go down into it.
        pieces: corners of each outline, from head to tail.
        objects: number of the object of each outline.
        closed: closed rings of objects that also have open ones.
    """

    ends: Ends
    pieces: list[list[Ring]]
    objects: Integers
    closed: dict[int, list[Ring]]


class _Tracer:
    """Tracer that holds one row of labels and the outlines that continue below it."""

    def __init__(self, width: int) -> None:
        nothing = np.zeros(0, np.int64)
        self._row = np.zeros((1, width + 2), np.uint8)
        self._first_line = 0
        self._open = _Open(Ends(nothing, nothing, nothing.astype(np.bool_)), [], nothing, {})

    def add(self, rows: Labels) -> Iterator[Polygon]:
        """Add the next rows, with a zero at each side."""
        block = np.concatenate([self._row, rows])
        turns = places(block)
        if turns.size > _MOST_TURNS and len(rows) > 1:
            yield from self.add(rows[: len(rows) // 2])
            yield from self.add(rows[len(rows) // 2 :])
            return
        strands = _Strands(block, corners(block, turns), self._open, self._first_line)
        self._row, self._first_line = block[-1:].copy(), self._first_line + len(rows)
        self._open, finished = strands.separate()
        yield from finished


class _Strands:
    """Pieces of outlines in one band: first those that continue below at both ends, then the closed ones."""

    def __init__(self, block: Labels, band_corners: Corners, above: _Open, first_line: int) -> None:
        self._band_corners, self._above, self._below = band_corners, above, ends_below(block[-1])
        self._corners, self._chains = band_corners.x.size, len(above.pieces)
        uprights = Uprights(band_corners, above.ends, self._below, block.shape)
        starts = self._first_below + np.flatnonzero(~self._below.down)
        self._nodes, lengths = _walk(self._followers(uprights.partners()), starts)
        self._count, self._opened = lengths.size, starts.size
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        self._strand_of = np.empty_like(self._nodes)
        self._strand_of[self._nodes] = np.repeat(np.arange(self._count), lengths)
        points = np.zeros((self._nodes.size, 2), np.int32)  # by node; crossings have none
        points[: self._corners] = np.stack([band_corners.line + first_line, band_corners.x], axis=1)
        self._points = points[self._nodes]
        holes, lefts = self._holes(block, uprights)
        heads = self._corners + np.arange(self._chains)
        ones = np.concatenate([self._strand_of[heads], holes])
        others = np.concatenate([self._count + above.objects, lefts])
        size = self._count + int(above.objects.max(initial=-1)) + 1
        graph = coo_array((np.ones(ones.size, np.bool_), (ones, others)), shape=(size, size))
        # number of the object that each strand belongs to, followed by that of each object from above
        self._object_of: Integers = connected_components(graph, directed=False)[1].astype(np.int64)

    @property
    def _first_below(self) -> int:
        return self._corners + 2 * self._chains

    def _followers(self, partners: Integers) -> Integers:
        """Return the node that follows each; an outline from above is passed from its head to its tail in one step."""
        followers = partners
        level = np.arange(self._corners) ^ 1  # corners on a line are connected in pairs
        followers[: self._corners] = np.where(self._band_corners.leaves_level, level, partners[: self._corners])
        heads = self._corners + np.arange(self._chains)
        followers[heads] = heads + self._chains
        followers[self._first_below :][self._below.down] = NOWHERE
        return followers

    def _holes(self, block: Labels, uprights: Uprights) -> tuple[Integers, Integers]:
        """Return the strands that begin below pixels of their object, as holes do, and for each another strand of that object.

        Left of the strand's highest corner, one row up, lies the object, and where that ends runs another of its outlines.
        """
        if not self._count:
            return self._nodes, self._nodes
        highest = np.minimum.reduceat(self._nodes, self._bounds[:-1])  # corners are sorted, and stand before all other nodes
        holes = np.flatnonzero(~self._any((self._nodes >= self._corners) & (self._nodes < self._first_below)))
        holes = holes[self._band_corners.is_concave[highest[holes]]]
        label, row, x = (
            values[highest[holes]] for values in (self._band_corners.label, self._band_corners.line, self._band_corners.x)
        )
        left = uprights.nodes_at(label, edges_left_of(block, row, x), row)
        return holes, self._strand_of[left]

    def separate(self) -> tuple[_Open, Iterator[Polygon]]:
        """Return the outlines that continue below, and the finished objects."""
        rings: dict[int, list[Ring]] = defaultdict(list)
        for number, closed in self._above.closed.items():
            rings[int(self._object_of[self._count + number])] += closed
        labels = {}
        # A ring may touch itself at crossed corners, and in outlines from above, which may have such corners.
        touches = self._nodes >= self._corners
        touches[~touches] = self._band_corners.is_crossed[self._nodes[~touches]]
        is_plain = ~self._any(touches)
        for strand, number in enumerate(self._object_of[self._opened : self._count].tolist(), self._opened):
            first, last = self._bounds[strand], self._bounds[strand + 1]
            labels[number] = int(self._band_corners.label[self._nodes[first]])
            if is_plain[strand]:
                rings[number].append(self._points[first:last].copy())
            else:
                rings[number] += _split(np.concatenate(self._pieces(strand)))
        return self._take_open(rings), (_polygon(labels[number], rings[number]) for number in rings)

    def _any(self, of_nodes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return True where it holds for any of a strand's nodes, as they follow each other."""
        return np.logical_or.reduceat(of_nodes, self._bounds[:-1]) if self._count else of_nodes

    def _take_open(self, rings: dict[int, list[Ring]]) -> _Open:
        """Remove the unfinished outlines from the rings."""
        firsts, lasts = self._nodes[self._bounds[: self._opened]], self._nodes[self._bounds[1 : self._opened + 1] - 1]
        at = np.concatenate([firsts, lasts]) - self._first_below
        numbers, objects = np.unique(self._object_of[: self._opened], return_inverse=True)
        closed = {place: rings.pop(number, []) for place, number in enumerate(numbers.tolist())}
        return _Open(
            Ends(self._below.label[at], self._below.x[at], self._below.down[at]),
            [self._pieces(strand) for strand in range(self._opened)],
            objects,
            closed,
        )

    def _pieces(self, strand: int) -> list[Ring]:
        """Return a strand's corners, with those of the outlines from above where it runs through them."""
        nodes = self._nodes[self._bounds[strand] : self._bounds[strand + 1]]
        heads = np.flatnonzero((nodes >= self._corners) & (nodes < self._corners + self._chains))
        pieces: list[Ring] = []
        for first, last in pairwise([0, *heads.tolist(), nodes.size]):
            part = nodes[first:last]
            if self._corners <= part[0] < self._corners + self._chains:
                pieces += self._above.pieces[part[0] - self._corners]
            pieces.append(self._points[self._bounds[strand] + first :][: part.size][part < self._corners])
        return [piece for piece in pieces if piece.size]


def _walk(followers: Integers, starts: Integers) -> tuple[Integers, Integers]:
    """Return all nodes in the order of the strands, those of `starts` first, and the length of each strand."""
    following = followers.tolist()  # several times as fast as numpy, one number at a time
    nodes: list[int] = []
    lengths = []
    for start in chain(starts.tolist(), range(len(following))):
        if following[start] == _WALKED:
            continue
        before, at = len(nodes), start
        while at >= 0 and following[at] != _WALKED:
            nodes.append(at)
            following[at], at = _WALKED, following[at]
        lengths.append(len(nodes) - before)
    return np.array(nodes, np.int64), np.array(lengths, np.int64)


def _polygon(label: int, rings: Sequence[Ring]) -> Polygon:
    """Return the polygon of these rings; its outline is the only ring that runs clockwise."""
    ordered = rings if len(rings) == 1 else sorted(rings, key=lambda ring: _area(ring) <= 0)
    return Polygon(label, tuple(ordered))


def _split(ring: Ring) -> list[Ring]:
    """Split a ring that touches itself at corners into rings that don't: holes may touch the outline or each other."""
    keys = (ring[:, 0].astype(np.int64) << 32) + ring[:, 1]
    if np.unique(keys).size == keys.size:
        return [ring]
    parts: list[Ring] = []
    path: list[int] = []
    places: dict[int, int] = {}  # of a corner in the path
    for number, key in enumerate(keys.tolist()):
        if key in places:
            loop = path[places[key] :]
            del path[places[key] :]
            parts.append(ring[loop])
            for gone in keys[loop].tolist():
                del places[gone]
        places[key] = len(path)
        path.append(number)
    return [*parts, ring[path]]


def _area(ring: Ring) -> int:
    """Return twice the area, above 0 if the ring runs clockwise with y down."""
    y, x = ring.T.astype(np.int64)
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
