"""Random spatial transforms, composed into one field of coordinates by which image and reference are interpolated once.

Matrices map an offset from the centre of the result to an offset from the centre of the patch, in pixels. Flips and quarter
turns are exact, since their coordinates are whole numbers.
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
    """Parameters of a spatial transform.

    Args:
        matrix: (dimensions, dimensions).
        shift_px: (dimensions,), added to the coordinates that pixels are read from.
        control_px: (dimensions, n + 2, ...), displacements at the points of a grid, see `elastic`; None has no displacements.
    """

    matrix: Matrix
    shift_px: NDArray[np.float64]
    control_px: Floats | None = None

    @property
    def is_identity(self) -> bool:
        """True if the transform leaves a patch unchanged."""
        return self.control_px is None and not self.shift_px.any() and np.array_equal(self.matrix, np.eye(len(self.matrix)))


class Patch(NamedTuple):
    """Image (C, *S), reference in its own shape, and a mask (*S) of pixels that don't come from beyond the mirrored border."""

    image: Floats
    reference: NDArray[Any]
    inside: NDArray[np.bool_]


def draw_movement(
    section: AugmentSection, dimensions: int, random: np.random.Generator, spacing_um: Sequence[float] | None = None
) -> Movement:
    """Draw a random transform. Rotation, scaling, shear, shift and deformation each have the probability of the section.

    Each flip has the probability 1/2, each quarter turn 1/4. If the spacing is given, rotations and shears are those of
    physical space, so that volumes with thick slices are not distorted.
    """

    def draw(limit: float, count: int) -> NDArray[np.float64]:
        values = random.uniform(-limit, limit, count)
        return values if random.random() < section.probability else 0 * values

    planes = dimensions * (dimensions - 1) // 2
    is_on = section.probability > 0
    coins, turns = random.random(dimensions), int(random.integers(4))
    flips = flip(coins < (0.5 if section.flips and is_on else 0))
    quarter_turns = quarter_turn(turns if section.quarter_turns and is_on else 0, dimensions)
    rotation, shearing = rotate(draw(section.rotation_degrees, planes)), shear(draw(section.shear_degrees, planes))
    scaling = scale(1 + float(draw(section.scaling, 1)[0]), dimensions)
    matrix = flips @ quarter_turns @ in_pixels(rotation @ shearing, spacing_um) @ scaling
    shift_px = draw(section.translation_px, dimensions)
    control_px = None
    if section.elastic_px > 0 and random.random() < section.probability:
        points = (section.elastic_points + 2,) * dimensions
        control_px = random.normal(0, section.elastic_px, (dimensions, *points)).astype(np.float32)
    return Movement(matrix, shift_px, control_px)


def move(movement: Movement, image: Floats, reference: NDArray[Any]) -> Patch:
    """Transform an image (C, *S) and its reference (*S) or (channels, *S)."""
    shape = image.shape[1:]
    if movement.is_identity:
        return Patch(image, reference, np.ones(shape, bool))
    field = coordinates(movement, shape)
    folded = mirrored(field)
    labels = [warp_labels(channel, folded) for channel in reference.reshape(-1, *shape)]
    return Patch(warp(np.ascontiguousarray(image), folded), np.stack(labels).reshape(reference.shape), inside(field))


def coordinates(movement: Movement, shape: Sequence[int]) -> Floats:
    """Return the coordinates (dimensions, *S) in the patch that pixels of the result are read from. They may lie outside."""
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
    """Interpolate the displacements of a coarse grid: (dimensions, *S) (U-Net paper, arXiv:1505.04597, section 3.1).

    Cubic B-splines run along each axis; n points span the patch, and one more lies beyond each side. The squares of the
    weights sum to 1, so that displacements of standard deviation s at the points have it at every pixel.
    """
    field, points = control_px, control_px.shape[-1] - 2
    for size in shape:
        position = np.linspace(0, points - 1, size)
        first = np.minimum(position.astype(int), points - 2)
        u = position - first
        cubics = np.stack([(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3], axis=1)  # (size, 4)
        weights = np.zeros((size, points + 2))  # of each point's displacement at each pixel
        np.put_along_axis(weights, first[:, None] + np.arange(4), cubics, axis=1)
        weights = np.asarray(weights / np.linalg.norm(weights, axis=1, keepdims=True), np.float32)
        field = np.tensordot(field, weights, axes=(1, 1))  # (dimensions, other axes' points, .., sizes so far)
    return field


def flip(axes: Sequence[bool] | NDArray[np.bool_]) -> Matrix:
    """Return the matrix that mirrors the axes that are true."""
    return np.diag(np.where(axes, -1.0, 1.0))


def quarter_turn(times: int, dimensions: int) -> Matrix:
    """Return the matrix of counter-clockwise turns by 90 degrees in rows and columns, as in numpy.rot90."""
    return np.rint(_plane_rotation(90.0 * times, dimensions, (dimensions - 2, dimensions - 1)))


def rotate(degrees: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Return the matrix of counter-clockwise turns in each plane: one angle in 2D; in 3D those of (D, H), (D, W), (H, W)."""
    dimensions = 2 if len(degrees) == 1 else 3
    planes = itertools.combinations(range(dimensions), 2)
    return reduce(
        np.matmul, [_plane_rotation(float(angle), dimensions, plane) for angle, plane in zip(degrees, planes, strict=True)]
    )


def shear(degrees: Sequence[float] | NDArray[np.float64]) -> Matrix:
    """Return the matrix that shears each plane by an angle, in the order of `rotate`. Areas and volumes are preserved."""
    dimensions = 2 if len(degrees) == 1 else 3
    matrix = np.eye(dimensions)
    matrix[np.triu_indices(dimensions, 1)] = np.tan(np.radians(degrees))
    return matrix


def in_pixels(matrix: Matrix, spacing_um: Sequence[float] | None) -> Matrix:
    """Convert a matrix of physical offsets to one of pixel offsets. Spacing None means isotropic pixels."""
    if spacing_um is None:
        return matrix
    return np.asarray(matrix * np.asarray(spacing_um) / np.asarray(spacing_um)[:, None])


def scale(factor: float, dimensions: int) -> Matrix:
    """Return the matrix that enlarges the contents of the patch by a factor."""
    return np.eye(dimensions) / factor


def _plane_rotation(degrees: float, dimensions: int, plane: tuple[int, int]) -> Matrix:
    """Return the matrix of a counter-clockwise turn in one plane of two axes."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(dimensions)
    matrix[np.ix_(plane, plane)] = [[cosine, sine], [-sine, cosine]]
    return matrix
