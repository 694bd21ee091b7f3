"""Clean-up of a mask's pieces, each by itself: thin parts are removed by an opening, and small holes are filled."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region
from inference.objects.image_object import Readable
from inference.objects.intensities import Intensities
from inference.objects.runs import Canvas, Groups, Integers, Runs
from transforms.opening import opening


@dataclass(frozen=True)
class OpenedMask:
    """Mask each of whose labels is opened with a disc or a ball: only places into which it fits remain.

    An opening of a mask is that of its pieces one by one, since a disc that lies in several pieces would connect them.
    Objects are assumed to continue beyond the image's border.

    Args:
        mask: labels (*S).
        radius_px: radius of the disc or the ball.
    """

    mask: Readable
    radius_px: int

    @property
    def shape(self) -> tuple[int, ...]:
        """S of the mask."""
        return self.mask.shape

    def read(self, region: Region) -> NDArray[Any]:
        """Return the opened labels of a region, for which pixels up to two radii around it are read."""
        halo = 2 * self.radius_px
        around = tuple(
            slice(max(axis.start - halo, 0), min(axis.stop + halo, size)) for axis, size in zip(region, self.shape, strict=True)
        )
        labels = self.mask.read(around)
        opened = np.zeros_like(labels)
        for label in np.unique(labels[labels > 0]):
            opened[opening(labels == label, self.radius_px)] = label
        return opened[
            tuple(slice(axis.start - wide.start, axis.stop - wide.start) for axis, wide in zip(region, around, strict=True))
        ]


def fill_holes(pieces: Groups, canvas: Canvas, largest_px: int, labels: Intensities) -> Groups:
    """Return the pieces with those holes filled that are background and have at most that many pixels.

    The pixels of a hole are connected by their sides, and enclosed by the piece. What is open to the image's border is no
    hole, and neither is what contains pixels of other pieces.

    Args:
        pieces: connected pieces.
        canvas: canvas of the mask.
        largest_px: number of pixels of the largest hole that is filled.
        labels: reader of the mask's labels (1, *S).
    """
    lines, of_runs = pieces.runs.starts // canvas.steps[-2], pieces.of_runs
    has_gap = np.zeros(len(pieces), np.bool_)
    has_gap[of_runs[1:][(np.diff(lines) == 0) & (np.diff(of_runs) == 0)]] = True
    gapped = np.flatnonzero(has_gap)
    if not len(gapped):
        return pieces
    holes, owner = _small_holes(pieces.take(gapped), canvas, largest_px)
    if not len(holes):
        return pieces
    is_background = holes.sums(labels.run_sums(holes.runs)[:, 0].sum(axis=1)) == 0
    holes, owner = holes.take(is_background), gapped[owner[is_background]][holes.take(is_background).of_runs]
    filling = Runs(holes.runs.starts, holes.runs.stops, pieces.labels[owner])
    return Groups.by(Runs.joined([pieces.runs, filling]), np.concatenate([of_runs, owner])).merged()


def _small_holes(pieces: Groups, canvas: Canvas, largest_px: int) -> tuple[Groups, Integers]:
    """Return the holes of at most that many pixels, and the piece (holes,) of each.

    The pieces are put one below the other on a canvas of their own, with a free pixel on each side. Free pixels that are not
    connected with those outside of the pieces are holes.
    """
    first, lengths, of_runs = canvas.positions(pieces.runs.starts), pieces.runs.lengths, pieces.of_runs
    lower, upper = np.minimum.reduceat(first, pieces.bounds[:-1]), np.maximum.reduceat(first, pieces.bounds[:-1]) + 1
    upper[:, -1] = np.maximum.reduceat(first[:, -1] + lengths, pieces.bounds[:-1])
    sizes = upper - lower + 2
    shift = 1 - lower
    shift[:, 0] += np.cumsum(sizes[:, 0]) - sizes[:, 0]
    own = Canvas((int(sizes[:, 0].sum()), *sizes[:, 1:].max(axis=0).tolist()))
    starts = own.numbers(first + shift[of_runs])
    heads = np.insert(np.moveaxis(np.indices(own.shape[:-1]), 0, -1).reshape(-1, len(own.shape) - 1), len(own.shape) - 1, 0, 1)
    lines = own.numbers(heads)
    free_starts = np.sort(np.concatenate([lines, starts + lengths]))
    free_stops = np.sort(np.concatenate([starts, lines + own.shape[-1]]))
    free = Runs(free_starts, free_stops, np.ones_like(free_starts))
    component = own.components(free)
    is_hole = np.bincount(component, free.lengths) <= largest_px
    is_hole[component[0]] = False  # outside of the pieces
    holes = Groups.by(free.take(is_hole[component]), component[is_hole[component]])
    positions = own.positions(holes.runs.starts)
    owner = np.searchsorted(shift[:, 0] + lower[:, 0], positions[:, 0], side="right") - 1
    place = canvas.numbers(positions - shift[owner])
    return Groups(Runs(place, place + holes.runs.lengths, holes.runs.labels), holes.bounds), owner[holes.bounds[:-1]]
