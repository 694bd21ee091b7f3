"""Where a structure ends in the mask and in the reference -> how far apart: HD95, and the share that is near enough.

Conventions, since libraries differ by far. Surfaces lie between pixels and are closed at the image's border; each of their
elements counts by its length (area in 3D). HD95 is the larger of the two directed 95th percentiles, not that of both together.
A structure that only one side has gets the image's diagonal and a surface Dice of 0, and is counted, so that nobody gains by
missing it. One that neither side has gives no value: NaN, left out of means, and counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.utils import get_mask_edges
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.metrics.overlap import check_shapes

PERCENTILE = 0.95

Values = NDArray[np.float64]
Structure = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceScores:
    """Of one structure in one case.

    Args:
        hd95: in `unit`.
        nsd: normalised surface Dice, the share of both surfaces within the tolerance of the other.
        unit: "um", or "px" where the spacing isn't known.
        one_sided: the structure was missed or invented.
    """

    hd95: float
    nsd: float
    unit: str
    one_sided: bool


def surface_scores(
    mask: Structure, reference: Structure, spacing_um: Sequence[float] | None, *, tolerance: float
) -> SurfaceScores:
    """HD95 and normalised surface Dice (Nikolov et al. 2021) of one structure, arrays (*S) in 2D or 3D.

    Args:
        mask: where the mask has the structure.
        reference: where the reference has it.
        spacing_um: between pixels, in S order; None counts distances in pixels.
        tolerance: as far as surfaces may be apart, in the unit of the distances.

    Raises:
        DataError: `shape_mismatch`.
        ValueError: the spacing has another number of axes.
    """
    check_shapes(mask, reference)
    unit, spacing = ("um", tuple(spacing_um)) if spacing_um is not None else ("px", (1.0,) * mask.ndim)
    if len(spacing) != mask.ndim:
        raise ValueError(f"spacing {spacing} has {len(spacing)} axes, the mask has {mask.ndim}; give one number an axis")
    present = mask.any(), reference.any()
    if not any(present):
        return SurfaceScores(math.nan, math.nan, unit, one_sided=False)
    if not all(present):
        diagonal = math.hypot(*(size * step for size, step in zip(mask.shape, spacing, strict=True)))
        return SurfaceScores(diagonal, 0.0, unit, one_sided=True)
    there, back = _distances(mask, reference, spacing)
    near = there.area_within(tolerance) + back.area_within(tolerance)
    nsd = near / (there.area_within(math.inf) + back.area_within(math.inf))
    return SurfaceScores(max(there.percentile(), back.percentile()), nsd, unit, one_sided=False)


class _Directed:
    """Elements of one surface: how far each is from the other surface, in rising order, and its area."""

    def __init__(self, distances: Values, areas: Values) -> None:
        order = np.argsort(distances)
        self.distances, self.areas = distances[order], areas[order]

    def area_within(self, distance: float) -> float:
        return float(self.areas[self.distances <= distance].sum())

    def percentile(self) -> float:
        """The least distance that `PERCENTILE` of the area doesn't exceed."""
        sums = np.cumsum(self.areas)
        return float(self.distances[np.searchsorted(sums, PERCENTILE * sums[-1])])


def _distances(mask: Structure, reference: Structure, spacing: tuple[float, ...]) -> tuple[_Directed, _Directed]:
    """From the mask's surface to the reference's, and back."""
    box = ndimage.find_objects((mask | reference).astype(np.uint8))[0]
    both = [torch.from_numpy(np.pad(structure[box], 1)) for structure in (mask, reference)]  # surfaces closed at the border
    edges_and_areas = get_mask_edges(both[0], both[1], crop=False, spacing=spacing)
    edges = [found.numpy() for found in edges_and_areas[:2]]  # each at the corners between pixels
    areas = [found.numpy().astype(np.float64) for found in edges_and_areas[2:]]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return _Directed(away[1][edges[0]], areas[0][edges[0]]), _Directed(away[0][edges[1]], areas[1][edges[1]])
