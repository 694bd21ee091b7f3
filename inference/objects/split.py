"""Division of pieces into objects at narrow places, by a watershed of the distance to the piece's border."""

from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from inference.objects.runs import Canvas, Groups, Integers, Runs, ranges
from inference.objects.shapes import shapes_of

CONVEX_SOLIDITY = 0.95  # of the hull's pixels; what fills more of its hull has no narrow place
WINDOW_PIXELS = 2**22  # a piece in a bounding box of four times as many is divided in windows, each of that many
_SIGMAS_AROUND = 8  # width of a window's border, unless an eighth of its side is more
_TRUNCATE = 4.0  # sigmas at which the Gaussian ends


def split_pieces(pieces: Groups, canvas: Canvas, sigma_px: float) -> Groups:
    """Return the objects of connected pieces, in the order of the pieces, then of the objects' first pixels.

    In 2D a piece that fills 95 percent of its convex hull is one object. A piece whose bounding box has more than 16 million
    pixels, as when nuclei touch all over a slide, is divided in windows that see a border around them, since a watershed
    takes about 25 bytes for each pixel. Their objects are joined by their peaks. If a pixel is farther from the piece's border
    than a window's border is wide, the piece is one object.
    """
    shapes = shapes_of(pieces, canvas)
    is_convex = shapes.areas_px == 1 if shapes.solidities is None else shapes.solidities >= CONVEX_SOLIDITY
    parts, owners = [], []
    for piece in np.flatnonzero(~is_convex).tolist():
        runs = pieces.runs.take(slice(*pieces.bounds[piece : piece + 2]))
        objects = _split_runs(runs, canvas, shapes.lower[piece], shapes.upper[piece], sigma_px)
        if len(np.unique(objects.labels)) > 1:
            parts.append(objects)
            owners.append(np.full(len(objects), piece))
    if not parts:
        return pieces
    owner, cut = np.concatenate(owners), Runs.joined(parts)
    order = np.argsort(cut.starts)
    cut, firsts = cut.take(order).merged()
    owner = owner[order][firsts]
    _, first_run, component = np.unique(canvas.components(cut), return_index=True, return_inverse=True)
    is_whole = ~np.isin(np.arange(len(pieces)), owner)
    whole = pieces.take(is_whole)
    runs = Runs.joined([whole.runs, replace(cut, labels=pieces.labels[owner])])
    piece_of_run = np.concatenate([np.flatnonzero(is_whole)[whole.of_runs], owner])
    first_pixel = np.concatenate([whole.firsts[whole.of_runs], cut.starts[first_run][component]])
    return Groups.by(runs, piece_of_run * canvas.size + first_pixel)


def _split_runs(runs: Runs, canvas: Canvas, lower: Integers, upper: Integers, sigma_px: float) -> Runs:
    """Return the runs of the objects of a piece between two positions, labelled by their peaks' numbers on the canvas."""
    parts, side, around = [], max(upper - lower), 0
    if np.prod(upper - lower) > 4 * WINDOW_PIXELS:
        side = round(WINDOW_PIXELS ** (1 / len(lower)))
        around = max(side // 8, round(_SIGMAS_AROUND * sigma_px))
    for first in product(*(range(start, stop, side) for start, stop in zip(lower.tolist(), upper.tolist(), strict=True))):
        last = np.minimum(np.array(first) + side, upper)
        begin, end = np.maximum(np.array(first) - around, lower), np.minimum(last + around, upper)
        inside = _pixels(runs, canvas, begin, end)
        if not inside.any():
            continue
        peaks, thickness_px = split(inside, sigma_px, (begin > lower) | (lower == 0), (end < upper) | (upper == canvas.shape))
        if around and thickness_px > around:
            return runs
        window = tuple(slice(start, stop) for start, stop in zip(first - begin, last - begin, strict=True))
        part = canvas.runs(peaks[window], first)
        peak = begin + np.stack(np.unravel_index(part.labels - 1, inside.shape), axis=1)
        parts.append(replace(part, labels=canvas.numbers(peak)))
    return Runs.joined(parts)


def _pixels(runs: Runs, canvas: Canvas, lower: Integers, upper: Integers) -> NDArray[np.bool_]:
    """Return whether each pixel from the position `lower` to `upper` belongs to a run."""
    rows = np.searchsorted(runs.starts, [lower[0] * canvas.steps[0], upper[0] * canvas.steps[0]])
    near = runs.take(slice(*rows))
    local = canvas.positions(near.starts) - lower
    start, stop = local[:, -1].clip(0), (local[:, -1] + near.lengths).clip(max=upper[-1] - lower[-1])
    is_within = (start < stop) & ((local[:, :-1] >= 0) & (local[:, :-1] < (upper - lower)[:-1])).all(axis=1)
    local[:, -1] = start
    pixels = np.zeros(upper - lower, np.bool_)
    first = np.ravel_multi_index(tuple(local[is_within].T), pixels.shape)
    pixels.reshape(-1)[ranges(first, (stop - start)[is_within])] = True
    return pixels


def split(
    inside: NDArray[np.bool_], sigma_px: float, continues_before: NDArray[np.bool_], continues_after: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], float]:
    """Return the objects of a piece (*S) in its box, labelled by their peaks, with 0 outside of it, and the largest distance.

    The distance to the piece's border is smoothed by a Gaussian of `sigma_px`, so that ragged borders have no peaks, and
    divided between its peaks. A larger sigma gives fewer objects. Labels are the indices of the peaks' first pixels plus 1.

    Args:
        inside: whether each pixel of the box belongs to the piece.
        sigma_px: standard deviation of the Gaussian.
        continues_before: (dimensions,) whether the box begins at the image's border, beyond which the piece is assumed to
            continue, or at the border of a window.
        continues_after: (dimensions,) whether the box ends there.

    Source: the watershed of Beucher and Lantuejoul 1979.
    """
    whole = inside * np.int64(inside.argmax() + 1)
    rim = [(int(not before), int(not after)) for before, after in zip(continues_before, continues_after, strict=True)]
    inner = tuple(slice(before, before + size) for (before, _), size in zip(rim, inside.shape, strict=True))
    surrounded = np.zeros([size + sum(sides) for size, sides in zip(inside.shape, rim, strict=True)], np.bool_)
    surrounded[inner] = inside
    if surrounded.all():
        return whole, np.inf  # without a border there is no distance to it
    distance = ndimage.distance_transform_edt(surrounded)[inner].astype(np.float32)
    reach = int(_TRUNCATE * sigma_px + 0.5)
    beyond = [(reach * before, reach * after) for before, after in zip(continues_before, continues_after, strict=True)]
    extended = np.pad(distance, beyond, mode="edge") if np.any(beyond) else distance  # padding takes as long as the distance
    smooth = ndimage.gaussian_filter(extended, sigma_px, mode="constant", truncate=_TRUNCATE)
    smooth = smooth[tuple(slice(before, before + size) for (before, _), size in zip(beyond, inside.shape, strict=True))]
    markers = number_pieces(local_maxima(smooth) & inside)
    if not markers.any():
        return whole, distance.max()
    pixels = np.flatnonzero(markers)
    _, firsts = np.unique(markers.reshape(-1)[pixels], return_index=True)
    labels = np.append(0, pixels[firsts] + 1)
    objects = labels[inside.astype(np.int64) if len(firsts) == 1 else watershed(-smooth, markers, mask=inside)]
    return np.where(objects > 0, objects, whole), distance.max()  # in a window there may be parts without a peak
