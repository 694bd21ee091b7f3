"""Random movements of a patch, composed into one field of coordinates that is looked up once, for image and reference alike.

Matrices take an offset from the centre of the result to an offset from the centre of the patch, in pixels. Flips and quarter
turns stay exact: their coordinates are whole numbers.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.sections import AugmentSection
from transforms.warp import Floats, inside, mirrored, warp, warp_labels

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Movement:
    """Where a patch's pixels go.

    Args:
        matrix: (dimensions, dimensions).
        shift_px: (dimensions,) added to where each pixel comes from.
        control_px: (dimensions, n + 2, ...) displacements at a grid's points, see `elastic`; None: none.
    """

    matrix: Matrix
    shift_px: NDArray[np.float64]
    control_px: Floats | None = None

    @property
    def stays(self) -> bool:
        """Nothing moves."""
        return self.control_px is None and not self.shift_px.any() and np.array_equal(self.matrix, np.eye(len(self.matrix)))


class Patch(NamedTuple):
    """Image (C, *S), reference as it was given, and which pixels (*S) don't come from beyond the mirrored border."""

    image: Floats
    reference: NDArray[Any]
    inside: NDArray[np.bool_]


def draw_movement(
    section: AugmentSection, dimensions: int, random: np.random.Generator, spacing_um: Sequence[float] | None = None
) -> Movement:
    """Rotation, scaling, shear, shift and elastic deformation by their own coins; flips and quarter turns by fair ones.

    Where the spacing is known, rotations and shears are those of space: thick slices are turned without being distorted.
    """

    def drawn(limit: float, count: int) -> NDArray[np.float64]:
        return random.uniform(-limit, limit, count) * (random.random() < section.probability)

    planes = dimensions * (dimensions - 1) // 2
    on = section.probability > 0
    exact = flip(random.random(dimensions) < 0.5 * (section.flips and on))
    exact = exact @ quarter_turn(int(random.integers(4)) * (section.quarter_turns and on), dimensions)
    turned = rotate(drawn(section.rotation_degrees, planes)) @ shear(drawn(section.shear_degrees, planes))
    matrix = exact @ in_pixels(turned, spacing_um) @ scale(1 + float(drawn(section.scaling, 1)[0]), dimensions)
    shift_px = drawn(section.translation_px, dimensions)
    control_px = None
    if section.elastic_px > 0 and random.random() < section.probability:
        points = (section.elastic_points + 2,) * dimensions
        control_px = random.normal(0, section.elastic_px, (dimensions, *points)).astype(np.float32)
    return Movement(matrix, shift_px, control_px)


def move(movement: Movement, image: Floats, reference: NDArray[Any]) -> Patch:
    """Image (C, *S) and reference (*S) or (channels, *S), looked up once at the movement's coordinates."""
    shape = image.shape[1:]
    if movement.stays:
        return Patch(image, reference, np.ones(shape, bool))
    field = coordinates(movement, shape)
    folded = mirrored(field)
    labels = [warp_labels(channel, folded) for channel in reference.reshape(-1, *shape)]
    return Patch(warp(np.ascontiguousarray(image), folded), np.stack(labels).reshape(reference.shape), inside(field))


def coordinates(movement: Movement, shape: Sequence[int]) -> Floats:
    """(dimensions, *S): where in the patch each pixel of the result comes from; may lie outside."""
    offsets = [np.arange(size) - (size - 1) / 2 for size in shape]
    field = np.empty((len(shape), *shape), np.float32)
    for axis, size in enumerate(shape):
        along = [factor * offset for factor, offset in zip(movement.matrix[axis], offsets, strict=True)]
        along[0] += (size - 1) / 2 + movement.shift_px[axis]
        *others, last = (vector.astype(np.float32) for vector in along)
        np.add.outer(reduce(np.add.outer, others), last, out=field[axis])
    if movement.control_px is not None:
        field += elastic(movement.control_px, shape)
    return field


def elastic(control_px: Floats, shape: Sequence[int]) -> Floats:
    """A smooth displacement (dimensions, *S) from one at every point of a coarse grid (U-Net, arXiv:1505.04597, section 3.1).

    Cubic B-splines along each axis; n points span the patch, and one more lies beyond each side. Weights are scaled to a
    sum of squares of 1, so displacements drawn with a deviation of s at the points have it at every pixel.
    """
    field = control_px
    for size in shape:
        weights = _spline_weights(size, control_px.shape[-1] - 2)
        field = np.tensordot(field, weights, axes=(1, 1))  # (dimensions, other axes' points, .., sizes so far)
    return field


def flip(axes: Sequence[bool] | NDArray[np.bool_]) -> Matrix:
    """Mirrors the axes that are true."""
    return np.diag(np.where(axes, -1.0, 1.0))


def quarter_turn(times: int, dimensions: int) -> Matrix:
    """Counter-clockwise turns by 90 degrees within rows and columns, as numpy.rot90 does."""
    return np.rint(_plane_rotation(90.0 * times, dimensions, (dimensions - 2, dimensions - 1)))


def rotate(degrees: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Counter-clockwise turns in each plane of two axes: one angle in 2D; in 3D (D, H), (D, W), (H, W)."""
    dimensions = 2 if len(degrees) == 1 else 3
    planes = itertools.combinations(range(dimensions), 2)
    return reduce(
        np.matmul, [_plane_rotation(float(angle), dimensions, plane) for angle, plane in zip(degrees, planes, strict=True)]
    )


def shear(degrees: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Slants each plane of two axes by an angle, in the order of `rotate`; areas and volumes stay."""
    dimensions = 2 if len(degrees) == 1 else 3
    matrix = np.eye(dimensions)
    matrix[np.triu_indices(dimensions, 1)] = np.tan(np.radians(degrees))
    return matrix


def in_pixels(matrix: Matrix, spacing_um: Sequence[float] | None) -> Matrix:
    """A matrix of offsets in space as one of offsets in pixels; None: pixels are as long as wide."""
    if spacing_um is None:
        return matrix
    return np.asarray(matrix * np.asarray(spacing_um) / np.asarray(spacing_um)[:, None])


def scale(factor: float, dimensions: int) -> Matrix:
    """Enlarges what is seen by a factor."""
    return np.eye(dimensions) / factor


def _plane_rotation(degrees: float, dimensions: int, plane: tuple[int, int]) -> Matrix:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(dimensions)
    matrix[np.ix_(plane, plane)] = [[cosine, sine], [-sine, cosine]]
    return matrix


def _spline_weights(size: int, points: int) -> Floats:
    """(size, points + 2): how much each point's displacement counts at each pixel."""
    place = np.linspace(0, points - 1, size)
    first = np.minimum(place.astype(int), points - 2)
    u = place - first
    cubics = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], axis=1)  # (size, 4)
    weights = np.zeros((size, points + 2))
    np.put_along_axis(weights, first[:, None] + np.arange(4), cubics, axis=1)
    return np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), np.float32)
