"""Mask and reference of a whole case in memory, for metrics of structures and of objects."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as number_pieces

from configs.inference_section import InferenceSection
from evaluation.metrics.membranes import MembranePair
from evaluation.metrics.object_pair import ObjectPair
from evaluation.metrics.surface_distance import STRUCTURE_LIMIT_PX, StructurePair
from inference.objects.find import number_objects

MOST_HELD_PX = 2**27  # of a case that is held in memory: 512 x 512 x 512, or 11,585 squared

Pixels = NDArray[Any]
ObjectFinder = Callable[[NDArray[np.bool_]], Pixels]  # returns the numbers of the objects of a class (*S), 0 outside of it


def connected_parts(is_class: NDArray[np.bool_]) -> Pixels:
    """Return the numbers of the parts of a class (*S) that are connected by sides (faces in 3D)."""
    return np.asarray(number_pieces(is_class, connectivity=1))


def model_objects(section: InferenceSection) -> ObjectFinder:
    """Return a function that finds objects as a model with this section finds them in its masks."""

    def find(is_class: NDArray[np.bool_]) -> Pixels:
        return number_objects(is_class.astype(np.uint8), section)

    return find


class WholeCase:
    """Mask and reference of a case, added band by band; ignored pixels are 0 on both sides.

    Args:
        shape: shape of the image, in S order.
        channels: number of channels: 1 of labels, or one for each class but the background where classes overlap.
        classes: K.
        spacing_um: distance between pixels in S order; None where it is unknown.
        tolerance: distance up to which surfaces agree, see `Selection`.
        find_objects: finds the objects of a mask that does not number them; None: they are its connected parts.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int,
        classes: int,
        *,
        spacing_um: tuple[float, ...] | None,
        tolerance: float | None = None,
        find_objects: ObjectFinder | None = None,
    ) -> None:
        self.spacing_um = spacing_um
        self._find_objects = find_objects
        self.tolerance = max(spacing_um or (1.0,)) if tolerance is None else tolerance
        self._mask, self._reference = np.zeros((2, channels, *shape), np.min_scalar_type(classes))
        self._is_scored = np.ones(shape, np.bool_)
        self._numbers: list[NDArray[np.uint32] | None] = [None, None]  # of the objects of mask and reference

    def add(self, row: int, mask: Pixels, reference: Pixels, is_scored: NDArray[np.bool_]) -> None:
        """Add the rows from `row` on of the labels of mask and reference, and the pixels that count (channels, rows, *rest)."""
        rows = slice(row, row + mask.shape[1])
        self._mask[:, rows] = mask * is_scored
        self._reference[:, rows] = reference * is_scored
        self._is_scored[rows] = is_scored.all(axis=0)

    def add_objects(self, row: int, mask: Pixels | None, reference: Pixels | None) -> None:
        """Add the rows from `row` on of the numbers of objects (rows, *rest); None where a side does not number them."""
        for side, numbers in enumerate((mask, reference)):
            if numbers is not None:
                whole = self._numbers[side]
                if whole is None:
                    whole = self._numbers[side] = np.zeros(self._mask.shape[1:], np.uint32)
                whole[row : row + len(numbers)] = numbers

    @property
    def are_numbered(self) -> bool:
        """Return whether the objects of both sides are given, and are not the connected parts of a class."""
        mask, reference = self._numbers
        return reference is not None and (mask is not None or self._find_objects is not None)

    def structure(self, index: int) -> StructurePair | None:
        """Return a foreground class, by its index from 0, on both sides; None where it extends over too many pixels."""
        mask, reference = (self._is_class(labels, index) for labels in (self._mask, self._reference))
        pair = StructurePair(mask, reference, self.spacing_um, self.tolerance)
        if not pair.is_empty and math.prod(side.stop - side.start for side in pair.box) > STRUCTURE_LIMIT_PX:
            return None
        return pair

    def membranes(self) -> MembranePair | None:
        """Return the first foreground class as membranes; None where the image has too many pixels."""
        if self._is_scored.size > STRUCTURE_LIMIT_PX:
            return None
        return MembranePair(self._is_class(self._mask, 0), self._is_class(self._reference, 0), self._is_scored)

    def objects(self, index: int) -> ObjectPair:
        """Return the objects of a foreground class, by its index from 0; those that are not numbered are found."""
        mask, reference = self._numbers
        if mask is None:
            mask = (self._find_objects or connected_parts)(self._is_class(self._mask, index))
        if reference is None:
            reference = connected_parts(self._is_class(self._reference, index))
        return ObjectPair(mask, reference, self.spacing_um)

    def _is_class(self, labels: Pixels, index: int) -> NDArray[np.bool_]:
        return np.asarray(labels[index] > 0 if len(labels) > 1 else labels[0] == index + 1)
