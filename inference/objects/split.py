"""Division of pieces into objects at narrow places, by a watershed of the distance to the piece's border."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as number_pieces
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

from inference.objects.runs import Canvas, Groups, Integers, Runs, ranges
from inference.objects.shapes import shapes_of

CONVEX_SOLIDITY = 0.95  # of the hull's pixels; what fills more of its hull has no narrow place
_TRUNCATE = 4.0  # sigmas at which the Gaussian ends


def split_pieces(pieces: Groups, canvas: Canvas, sigma_px: float) -> Groups:
    """Return the objects of connected pieces, in the order of the pieces, then of the objects' first pixels.

    In 2D a piece that fills 95 percent of its convex hull is one object.
    """
    shapes = shapes_of(pieces, canvas)
    parts, owners, objects = [], [], 0
    is_convex = shapes.areas_px == 1 if shapes.solidities is None else shapes.solidities >= CONVEX_SOLIDITY
    for piece in np.flatnonzero(~is_convex).tolist():
        lower, upper = shapes.lower[piece], shapes.upper[piece]
        numbers = split(_pixels(pieces, piece, canvas, lower, upper), sigma_px, lower == 0, upper == canvas.shape)
        if numbers.max() > 1:
            part = canvas.runs(numbers, tuple(lower.tolist()))
            parts.append(replace(part, labels=part.labels + objects))
            owners.append(np.full(len(part), piece))
            objects += int(numbers.max())
    if not parts:
        return pieces
    owner, cut = np.concatenate(owners), Runs.joined(parts)
    order = np.argsort(cut.starts)
    owner, cut = owner[order], cut.take(order)
    _, first_run, component = np.unique(canvas.components(cut), return_index=True, return_inverse=True)
    is_whole = ~np.isin(np.arange(len(pieces)), owner)
    whole = pieces.take(is_whole)
    runs = Runs.joined([whole.runs, replace(cut, labels=pieces.labels[owner])])
    piece_of_run = np.concatenate([np.flatnonzero(is_whole)[whole.of_runs], owner])
    first_pixel = np.concatenate([whole.firsts[whole.of_runs], cut.starts[first_run][component]])
    return Groups.by(runs, piece_of_run * canvas.size + first_pixel)


def _pixels(pieces: Groups, piece: int, canvas: Canvas, lower: Integers, upper: Integers) -> NDArray[np.bool_]:
    """Return whether each pixel from `lower` to `upper` belongs to a piece."""
    runs = pieces.runs.take(slice(*pieces.bounds[piece : piece + 2]))
    pixels = np.zeros(upper - lower, np.bool_)
    pixels[tuple((canvas.positions(ranges(runs.starts, runs.lengths)) - lower).T)] = True
    return pixels


def split(
    inside: NDArray[np.bool_], sigma_px: float, continues_before: NDArray[np.bool_], continues_after: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return the objects of a piece (*S) in its bounding box, numbered from 1, with 0 outside of it.

    The distance to the piece's border is smoothed by a Gaussian of `sigma_px`, so that ragged borders have no peaks, and
    divided between its peaks. A larger sigma gives fewer objects.

    Args:
        inside: whether each pixel of the box belongs to the piece.
        sigma_px: standard deviation of the Gaussian.
        continues_before: (dimensions,) whether the box begins at the image's border, beyond which the piece is assumed to
            continue.
        continues_after: (dimensions,) whether the box ends there.

    Source: the watershed of Beucher and Lantuejoul 1979.
    """
    rim = [(int(not before), int(not after)) for before, after in zip(continues_before, continues_after, strict=True)]
    inner = tuple(slice(before, before + size) for (before, _), size in zip(rim, inside.shape, strict=True))
    surrounded = np.pad(inside, rim)
    if surrounded.all():
        return inside.astype(np.int32)  # without a border there is no distance to it
    distance = ndimage.distance_transform_edt(surrounded)[inner].astype(np.float32)
    reach = int(_TRUNCATE * sigma_px + 0.5)
    beyond = [(reach * before, reach * after) for before, after in zip(continues_before, continues_after, strict=True)]
    smooth = ndimage.gaussian_filter(np.pad(distance, beyond, mode="edge"), sigma_px, mode="constant", truncate=_TRUNCATE)
    smooth = smooth[tuple(slice(before, before + size) for (before, _), size in zip(beyond, inside.shape, strict=True))]
    markers: NDArray[np.int32] = number_pieces(local_maxima(smooth) & inside)
    if markers.max() < 2:
        return inside.astype(np.int32)
    objects: NDArray[np.int32] = watershed(-smooth, markers, mask=inside)
    return objects
