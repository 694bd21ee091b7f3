"""Distances between the surfaces of a structure in a mask and in its reference: HD95, ASSD and NSD.

Conventions, because libraries differ widely: surfaces lie between pixels and are closed at the image's border; each surface
element is weighted by its length (its area in 3D). HD95 is the larger of the two directed 95th percentiles, not the percentile
of both together. ASSD is the mean over the elements of both surfaces together, not the mean of the two directed means. A
structure that only one side has gets the image's diagonal as HD95 and as ASSD, and an NSD of 0, so that missing it never
improves a score. A structure that neither side has gets no score (NaN); means leave it out, and it is counted separately.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics.utils import get_mask_edges
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from evaluation.metrics.metric import ONE_SIDED
from evaluation.metrics.overlap import check_same_shape

PERCENTILE = 0.95
STRUCTURE_LIMIT_PX = 2**26  # metrics of kind structure aren't computed for larger boxes: 512 x 512 x 256, or 8,192 squared
SLAB_PX = 2**21  # pixels whose surface elements are computed at once

Values = NDArray[np.float64]
Structure = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StructurePair:
    """Structure of one class in a mask and in its reference, arrays (*S) in 2D or 3D; what metrics share is computed once.

    Args:
        mask: where the mask has the structure.
        reference: where the reference has it.
        spacing_um: distance between pixels, in S order; None measures distances in pixels.
        tolerance: largest distance at which surfaces agree, in the unit of the distances.

    Raises:
        DataError: `shape_mismatch`.
        ValueError: the spacing has another number of axes.
    """

    mask: Structure
    reference: Structure
    spacing_um: Sequence[float] | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Check that the shapes agree."""
        check_same_shape(self.mask, self.reference)
        if len(self.steps) != self.mask.ndim:
            axes = len(self.steps)
            raise ValueError(f"spacing {self.steps} has {axes} axes, the mask has {self.mask.ndim}; give one number an axis")

    @property
    def unit(self) -> str:
        """Unit of the distances: "um", or "px" where the spacing is unknown."""
        return "px" if self.spacing_um is None else "um"

    @property
    def steps(self) -> tuple[float, ...]:
        """Distance between pixels along each axis, in the unit of the distances."""
        return (1.0,) * self.mask.ndim if self.spacing_um is None else tuple(self.spacing_um)

    @property
    def diagonal(self) -> float:
        """Diagonal of the image, in the unit of the distances."""
        return math.hypot(*(size * step for size, step in zip(self.mask.shape, self.steps, strict=True)))

    @cached_property
    def is_empty(self) -> bool:
        """Return whether neither side has the structure."""
        return not (self.mask.any() or self.reference.any())

    @cached_property
    def is_one_sided(self) -> bool:
        """Return whether only the mask or only the reference has the structure."""
        return bool(self.mask.any() != self.reference.any())

    @property
    def remark(self) -> str:
        """Remark of the scores, see `scoring.table.Score`: `one_sided`, or empty."""
        return ONE_SIDED if self.is_one_sided else ""

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """Bounding box of the structure of both sides together, which must not be empty."""
        return ndimage.find_objects((self.mask | self.reference).view(np.uint8))[0]  # type: ignore[no-any-return]

    @cached_property
    def surface_distances(self) -> tuple["DirectedDistances", "DirectedDistances"]:
        """Distances from the mask's surface to the reference's, and from the reference's to the mask's; both sides have one."""
        mask, reference = surface_elements(self.mask[self.box], self.reference[self.box], self.steps)
        return directed_distances(mask, reference, self.steps), directed_distances(reference, mask, self.steps)


class SurfaceElements(NamedTuple):
    """Elements of a surface: the corners (N, axes) of pixels at which they lie, in pixels, and their areas (N)."""

    corners: NDArray[np.int64]
    areas: Values


def surface_elements(
    mask: Structure, reference: Structure, steps: tuple[float, ...]
) -> tuple[SurfaceElements, SurfaceElements]:
    """Return the elements of the surfaces of a mask and its reference (*S), by slabs, so that memory follows the surfaces."""
    padded = [np.pad(side, 1) for side in (mask, reference)]  # closes the surfaces at the border
    rows = max(1, SLAB_PX // padded[0][0].size)
    slabs: tuple[list[SurfaceElements], list[SurfaceElements]] = ([], [])
    for start in range(0, len(padded[0]) - 1, rows):
        slab = [torch.from_numpy(side[start : start + rows + 1]) for side in padded]
        edges_and_areas = [part.numpy() for part in get_mask_edges(slab[0], slab[1], crop=False, spacing=steps)]
        for side, (edges, areas) in enumerate(zip(edges_and_areas[:2], edges_and_areas[2:], strict=True)):
            corners = np.argwhere(edges)
            corners[:, 0] += start
            slabs[side].append(SurfaceElements(corners, areas[edges].astype(np.float64)))
    of_mask, of_reference = (SurfaceElements(*map(np.concatenate, zip(*parts, strict=True))) for parts in slabs)
    return of_mask, of_reference


def directed_distances(start: SurfaceElements, end: SurfaceElements, steps: tuple[float, ...]) -> "DirectedDistances":
    """Return the distance of each element of one surface from the nearest element of another, in the unit of the steps."""
    tree = KDTree(end.corners * np.array(steps), balanced_tree=False)  # faster on a grid
    nearest = tree.query(start.corners * np.array(steps))[1]
    offsets = (start.corners - end.corners[nearest]) * np.array(steps)  # exact, where differences of products are not
    return DirectedDistances(np.sqrt((offsets**2).sum(axis=1)), start.areas)


class DirectedDistances:
    """Distance of each element of one surface from the other surface, in rising order, and the element's area."""

    def __init__(self, distances: Values, areas: Values) -> None:
        order = np.argsort(distances)
        self.distances, self.areas = distances[order], areas[order]

    @property
    def area(self) -> float:
        """Area of the whole surface (its length in 2D)."""
        return float(self.areas.sum())

    @property
    def integral(self) -> float:
        """Sum of the distances, each times the element's area."""
        return float(self.distances @ self.areas)

    def area_within(self, distance: float) -> float:
        """Return the area of the elements that are no farther than a distance."""
        return float(self.areas[self.distances <= distance].sum())

    def percentile(self) -> float:
        """Return the smallest distance that covers the share `PERCENTILE` of the area."""
        sums = np.cumsum(self.areas)
        return float(self.distances[np.searchsorted(sums, PERCENTILE * sums[-1])])


def hd95(pair: StructurePair) -> float:
    """Return the 95th percentile of the Hausdorff distance, the larger of both directions; NaN where neither side has it."""
    if pair.is_empty:
        return math.nan
    if pair.is_one_sided:
        return pair.diagonal
    return max(directed.percentile() for directed in pair.surface_distances)


def assd(pair: StructurePair) -> float:
    """Return the average symmetric surface distance, weighted by area; NaN where neither side has the structure."""
    if pair.is_empty:
        return math.nan
    if pair.is_one_sided:
        return pair.diagonal
    return sum(each.integral for each in pair.surface_distances) / sum(each.area for each in pair.surface_distances)


def nsd(pair: StructurePair) -> float:
    """Return the share of both surfaces that is within the tolerance of the other, the normalised surface Dice (NSD)."""
    if pair.is_empty:
        return math.nan
    if pair.is_one_sided:
        return 0.0
    near = sum(each.area_within(pair.tolerance) for each in pair.surface_distances)
    return near / sum(each.area for each in pair.surface_distances)
