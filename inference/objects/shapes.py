"""Size, place and shape of objects, computed from their runs; equal to scikit-image's `regionprops`.

`regionprops` takes 0.3 to 3 ms for each object, which is minutes for the nuclei of a slide.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.source import Region
from inference.objects.runs import Canvas, Groups, Integers

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # pixels; above the error of an interpolation, below the distance of a pixel's centre from a hull beside it


@dataclass(frozen=True)
class Shapes:
    """Shapes of n objects; see `ImageObject` for what they are.

    Args:
        lower: (n, dimensions) first position of the box.
        upper: (n, dimensions) last position of the box, plus 1.
        areas_px: (n,).
        centroids_px: (n, dimensions).
        eccentricities: (n,); None in 3D.
        solidities: (n,); None in 3D.
    """

    lower: Integers
    upper: Integers
    areas_px: Integers
    centroids_px: Floats
    eccentricities: Floats | None
    solidities: Floats | None

    @property
    def boxes(self) -> list[Region]:
        """The smallest region that contains each object."""
        lower, upper = self.lower.T.tolist(), self.upper.T.tolist()
        return list(zip(*(map(slice, *ends) for ends in zip(lower, upper, strict=True)), strict=True))

    @property
    def diameters_px(self) -> Floats:
        """Diameter of the disc or ball of the same area."""
        dimensions = self.lower.shape[1]
        diameters: Floats = (2 * dimensions * self.areas_px / np.pi) ** (1 / dimensions)
        return diameters


def shapes_of(groups: Groups, canvas: Canvas) -> Shapes:
    """Return the shapes of objects; those in 2D have runs in each row of their boxes."""
    first, lengths, of_runs = canvas.positions(groups.runs.starts), groups.runs.lengths, groups.of_runs
    lower = np.minimum.reduceat(first, groups.bounds[:-1])
    upper = np.maximum.reduceat(first, groups.bounds[:-1]) + 1
    upper[:, -1] = np.maximum.reduceat(first[:, -1] + lengths, groups.bounds[:-1])
    local = first - lower[of_runs]
    start = local[:, -1]
    areas = groups.sums(lengths)
    row_sums = [groups.sums(lengths * local[:, axis]) for axis in range(local.shape[1] - 1)]
    x_sums = lengths * (2 * start + lengths - 1) // 2  # of each run
    sums = np.stack([*row_sums, groups.sums(x_sums)], axis=1)
    centroids = lower + sums / areas[:, None]
    if local.shape[1] == 3:
        return Shapes(lower, upper, areas, centroids, None, None)
    rows = local[:, 0]
    squares = lengths * start**2 + start * lengths * (lengths - 1) + (lengths - 1) * lengths * (2 * lengths - 1) // 6
    second = (groups.sums(lengths * rows**2), groups.sums(rows * x_sums), groups.sums(squares))
    hulls = _convex_areas(groups, rows, start, start + lengths - 1)
    return Shapes(lower, upper, areas, centroids, _eccentricities(areas, sums, second), areas / hulls)


def _eccentricities(areas: Integers, sums: Integers, second: tuple[Integers, Integers, Integers]) -> Floats:
    """Return the eccentricities (n,) of the ellipses with the objects' second moments.

    Args:
        areas: (n,) number of pixels.
        sums: (n, 2) sums of their rows y and columns x.
        second: (n,) sums of y * y, x * y and x * x.
    """
    y, x = (sums / areas[:, None]).T
    yy, xy, xx = (moment / areas for moment in second)
    tensors = np.array([[xx - x * x, y * x - xy], [y * x - xy, yy - y * y]])  # (2, 2, n): inertia about the centroid
    smaller, larger = np.linalg.eigvalsh(np.moveaxis(tensors, -1, 0)).clip(0).T
    flat = np.divide(smaller, larger, out=np.ones_like(larger), where=larger > 0)
    eccentricities: Floats = np.sqrt(1 - flat)
    return eccentricities


def _convex_areas(groups: Groups, rows: Integers, first: Integers, last: Integers) -> Integers:
    """Return the number (n,) of pixels of each object's convex hull.

    As in scikit-image, the hull is that of the pixels' four edge centres. So it is the hull of the pixels' centres, widened
    by the diamond of half a pixel: its border in a row is half a pixel farther than the inner hull's there, or as far as
    that is half a row above or below.

    Args:
        groups: the objects.
        rows: row of each run.
        first: first column of each run.
        last: last column of each run.
    """
    of_runs = groups.of_runs
    is_first = np.ones(len(rows), np.bool_)  # run of its row
    is_first[1:] = (np.diff(rows) != 0) | (np.diff(of_runs) != 0)
    heads = np.flatnonzero(is_first)
    group = of_runs[heads]
    right = _hull_border(group, last[np.append(heads[1:], len(rows)) - 1])
    left = -_hull_border(group, -first[heads])
    widths = np.floor(right + _ROUNDING) - np.ceil(left - _ROUNDING) + 1
    bounds = np.searchsorted(group, np.arange(len(groups)))
    return np.add.reduceat(widths, bounds).astype(np.int64)


def _hull_border(group: Integers, ends: Integers) -> Floats:
    """Return where each row leaves its object's hull.

    Args:
        group: (rows,) object of each row; rows of an object follow each other.
        ends: (rows,) last column of the object in each row.
    """
    corners = np.arange(len(ends))
    is_corner = np.zeros(1, np.bool_)
    while not is_corner.all():  # a row is no corner if it doesn't pass the line between its neighbours among what is left
        is_corner = np.ones(len(corners), np.bool_)
        before, here, after = corners[:-2], corners[1:-1], corners[2:]
        rise = (ends[here] - ends[before]) * (after - here)
        fall = (ends[after] - ends[here]) * (here - before)
        is_corner[1:-1] = (rise > fall) | (group[before] != group[here]) | (group[here] != group[after])
        corners = corners[is_corner]
    border = np.interp(np.arange(len(ends)), corners, ends[corners])
    widened = border + 0.5
    halfway, is_inside = (border[1:] + border[:-1]) / 2, group[1:] == group[:-1]
    for side in (slice(None, -1), slice(1, None)):
        widened[side] = np.maximum(widened[side], np.where(is_inside, halfway, -np.inf))
    return widened
