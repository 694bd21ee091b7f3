"""Surface distances between the structures of a mask and of its reference: HD95 and the normalised surface Dice.

Conventions, because libraries differ widely: surfaces lie between pixels and are closed at the image's border; each surface
element is weighted by its length (its area in 3D). HD95 is the larger of the two directed 95th percentiles, not the percentile
of both together. A structure that only one side has gets the image's diagonal as HD95 and a surface Dice of 0, so that missing
it never improves a score. A structure that neither side has gets no score (NaN); means leave it out, and it is counted
separately.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.utils import get_mask_edges
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.metrics.overlap import check_same_shape

PERCENTILE = 0.95

Values = NDArray[np.float64]
Structure = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceScores:
    """Surface scores of one structure in one case.

    Args:
        hd95: 95th percentile of the surface distances, in `unit`.
        nsd: normalised surface Dice, the share of both surfaces within the tolerance of the other.
        unit: "um", or "px" where the spacing is unknown.
        one_sided: only the mask or only the reference has the structure.
    """

    hd95: float
    nsd: float
    unit: str
    one_sided: bool


def surface_scores(
    mask: Structure, reference: Structure, spacing_um: Sequence[float] | None, *, tolerance: float
) -> SurfaceScores:
    """Return HD95 and normalised surface Dice (Nikolov et al. 2021) of one structure, arrays (*S) in 2D or 3D.

    Args:
        mask: where the mask has the structure.
        reference: where the reference has it.
        spacing_um: distance between pixels, in S order; None measures distances in pixels.
        tolerance: largest distance at which surfaces agree, in the unit of the distances.

    Raises:
        DataError: `shape_mismatch`.
        ValueError: the spacing has another number of axes.
    """
    check_same_shape(mask, reference)
    unit, spacing = ("um", tuple(spacing_um)) if spacing_um is not None else ("px", (1.0,) * mask.ndim)
    if len(spacing) != mask.ndim:
        raise ValueError(f"spacing {spacing} has {len(spacing)} axes, the mask has {mask.ndim}; give one number an axis")
    is_present = mask.any(), reference.any()
    if not any(is_present):
        return SurfaceScores(math.nan, math.nan, unit, one_sided=False)
    if not all(is_present):
        diagonal = math.hypot(*(size * step for size, step in zip(mask.shape, spacing, strict=True)))
        return SurfaceScores(diagonal, 0.0, unit, one_sided=True)
    from_mask, from_reference = _surface_distances(mask, reference, spacing)
    near = from_mask.area_within(tolerance) + from_reference.area_within(tolerance)
    nsd = near / (from_mask.area_within(math.inf) + from_reference.area_within(math.inf))
    return SurfaceScores(max(from_mask.percentile(), from_reference.percentile()), nsd, unit, one_sided=False)


class _DirectedDistances:
    """Distance of each element of one surface from the other surface, in rising order, and the element's area."""

    def __init__(self, distances: Values, areas: Values) -> None:
        order = np.argsort(distances)
        self.distances, self.areas = distances[order], areas[order]

    def area_within(self, distance: float) -> float:
        return float(self.areas[self.distances <= distance].sum())

    def percentile(self) -> float:
        """Return the smallest distance that covers the share `PERCENTILE` of the area."""
        sums = np.cumsum(self.areas)
        return float(self.distances[np.searchsorted(sums, PERCENTILE * sums[-1])])


def _surface_distances(
    mask: Structure, reference: Structure, spacing: tuple[float, ...]
) -> tuple[_DirectedDistances, _DirectedDistances]:
    """Return the distances from the mask's surface to the reference's, and from the reference's to the mask's."""
    box = ndimage.find_objects((mask | reference).astype(np.uint8))[0]
    padded = [torch.from_numpy(np.pad(structure[box], 1)) for structure in (mask, reference)]  # closes surfaces at the border
    edges_and_areas = get_mask_edges(padded[0], padded[1], crop=False, spacing=spacing)
    edges = [edge.numpy() for edge in edges_and_areas[:2]]  # each at the corners between pixels
    areas = [area.numpy().astype(np.float64) for area in edges_and_areas[2:]]
    distances = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]  # of every corner to each edge
    return (
        _DirectedDistances(distances[1][edges[0]], areas[0][edges[0]]),
        _DirectedDistances(distances[0][edges[1]], areas[1][edges[1]]),
    )
