"""Geometry of DICOM images: the position of each plane, and the stack with one affine that the planes form."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from imaging.dicom.header import DicomHeader, dicom_broken, dicom_errors, number_of_frames, numbers
from imaging.dicom.pixels import DicomPixels
from imaging.errors import DataError, UnsuitableImage
from imaging.source import Geometry
from imaging.voxels import geometry_inside

Vector = NDArray[np.float64]

_COSINE_TOLERANCE = 1e-3  # headers round to three digits or more
_SPACING_TOLERANCE = 1e-3  # of the spacing
_STEP_TOLERANCE = 0.05  # of the step: positions are often rounded to 0.1 mm
_SHEAR_TOLERANCE = 1e-3  # of the stack's height
_SAME_MM = 1e-3
_ZOOMS_MM = (1e-6, 100.0)  # from electron microscopy to the thickest slices
_RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes point to the left and to the back


@dataclass(frozen=True, eq=False)
class Plane:
    """Plane of one image in mm, left-posterior-superior (PS3.3, C.7.6.2).

    Args:
        position: centre of its first pixel.
        along_row: unit vector from one column to the next.
        along_column: unit vector from one row to the next.
        spacing_mm: distance between rows, and between columns.
        between_mm: distance to the next slice; None where the header doesn't give it.
        thickness_mm: thickness of the slice; None where the header doesn't give it.
    """

    position: Vector
    along_row: Vector
    along_column: Vector
    spacing_mm: tuple[float, float]
    between_mm: float | None
    thickness_mm: float | None

    @property
    def normal(self) -> Vector:
        """Unit vector at right angles to the row and the column, right-handed."""
        normal = np.cross(self.along_row, self.along_column)
        return normal / np.linalg.norm(normal)


@dataclass(frozen=True, eq=False)
class Stack:
    """Grid that several planes form.

    Args:
        affine: (4, 4), (column, row, slice) -> mm, right-anterior-superior.
        spacing_mm: lengths of the affine's columns, without their rounding.
        depth: number of slices.
        slices: index of the slice of each plane.
    """

    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    depth: int
    slices: tuple[int, ...]


def functional_group(dataset: Dataset, frame: int, sequence: str) -> Dataset:
    """Return the data set that holds one image's values: its own functional group, the shared one, or the whole data set."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups)
        if items and items[place].get(sequence):
            group: Dataset = items[place][sequence].value[0]
            return group
    return dataset


def planes_of(header: DicomHeader) -> list[Plane]:
    """Return the plane of every image in the file, in the file's order.

    Raises:
        BrokenImage: `dicom_broken`.
        UnsuitableImage: `dicom_geometry_missing`, `affine_invalid`.
    """
    with dicom_errors():
        frames = number_of_frames(header.dataset)
        groups = header.dataset.get("PerFrameFunctionalGroupsSequence") or []
        if frames > 1 and not groups:
            raise _geometry_missing()
        if groups and len(groups) != frames:
            raise dicom_broken()
        return [_plane(header.dataset, frame) for frame in range(frames)]


def stacked(planes: Sequence[Plane], *, sparse: bool = False) -> Stack:
    """Return the stack that the planes form, its slices in the order of their normal.

    Args:
        planes: planes in any order.
        sparse: several planes may lie in one slice, and slices may be left out, as in a segmentation.

    Raises:
        UnsuitableImage: `dicom_series_mixed`, `dicom_series_duplicate`, `dicom_series_uneven`, `dicom_spacing_missing`,
            `affine_sheared`.
    """
    first = planes[0]
    if not all(_is_parallel(plane, first) for plane in planes):
        raise series_mixed("orientations or pixel spacings")
    heights = np.array([plane.position @ first.normal for plane in planes])
    distinct = np.sort(heights)
    distinct = distinct[np.diff(distinct, prepend=-np.inf) > _SAME_MM]
    if not sparse and len(distinct) < len(planes):
        raise UnsuitableImage(
            "dicom_series_duplicate",
            f"{len(planes) - len(distinct)} of the DICOM images lie where another one does, as several echoes, times or "
            "reconstructions do; send the images of one volume alone",
        )
    span = distinct[-1] - distinct[0]
    steps = _count_steps(first, distinct) if sparse else len(distinct) - 1
    step = span / steps if steps else first.between_mm or first.thickness_mm
    if step is None:
        raise UnsuitableImage(
            "dicom_spacing_missing",
            "the DICOM image is a single slice whose header gives no thickness; give the folder of its series",
        )
    slices = np.rint((heights - distinct[0]) / step).astype(int)
    _check_even(heights - distinct[0] - slices * step, step, distinct)
    origin = planes[int(np.argmin(heights))].position
    _check_upright(planes, origin, max(span * _SHEAR_TOLERANCE, step * _STEP_TOLERANCE))
    spacing_mm = (first.spacing_mm[1], first.spacing_mm[0], float(step))
    if not all(_ZOOMS_MM[0] <= size <= _ZOOMS_MM[1] for size in spacing_mm):
        raise _affine_invalid()
    affine = np.eye(4)
    affine[:3] = np.column_stack([np.stack([first.along_row, first.along_column, first.normal], axis=1) * spacing_mm, origin])
    return Stack(_RAS_OF_LPS @ affine, spacing_mm, steps + 1, tuple(map(int, slices)))


def series_mixed(what: str) -> DataError:
    """Return the error for images that don't form one volume; `what` names the property that differs."""
    return UnsuitableImage(
        "dicom_series_mixed", f"the DICOM images have different {what}; send the images of one volume alone, without scouts"
    )


def geometry_of(stack: Stack, pixels: DicomPixels, files: tuple[Path, ...]) -> Geometry:
    """Return the geometry of a stack's voxels."""
    shape = (pixels.columns, pixels.rows, stack.depth)
    spacing_um = tuple(1000.0 * size_mm for size_mm in stack.spacing_mm)
    return replace(geometry_inside(shape, stack.affine, spacing_um), files=files)


def _plane(dataset: Dataset, frame: int) -> Plane:
    """Return the plane of one image in the file.

    Raises:
        UnsuitableImage: `dicom_geometry_missing`, `affine_invalid`.
    """
    position = numbers(functional_group(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    directions = numbers(functional_group(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    measures = functional_group(dataset, frame, "PixelMeasuresSequence")
    spacing = numbers(measures, "PixelSpacing", 2)
    if position is None or directions is None or spacing is None:
        raise _geometry_missing()
    along_row, along_column = np.array(directions[:3]), np.array(directions[3:])
    lengths = np.linalg.norm(along_row), np.linalg.norm(along_column)
    deviation = max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(along_row @ along_column))
    if deviation > _COSINE_TOLERANCE or min(spacing) <= 0:
        raise _affine_invalid()
    return Plane(
        position=np.array(position),
        along_row=along_row / lengths[0],
        along_column=along_column / lengths[1],
        spacing_mm=(spacing[0], spacing[1]),
        between_mm=_positive_length(measures, "SpacingBetweenSlices"),
        thickness_mm=_positive_length(measures, "SliceThickness"),
    )


def _geometry_missing() -> DataError:
    return UnsuitableImage(
        "dicom_geometry_missing",
        "the DICOM file doesn't give the position of each image in the patient, or the size of its pixels; "
        "export it again with position, orientation and pixel spacing",
    )


def _affine_invalid() -> DataError:
    return UnsuitableImage(
        "affine_invalid",
        "the DICOM image's directions aren't two unit vectors at a right angle, or its spacing isn't between "
        f"{_ZOOMS_MM[0]:g} and {_ZOOMS_MM[1]:g} mm; export it again with its geometry",
    )


def _positive_length(dataset: Dataset, keyword: str) -> float | None:
    lengths = numbers(dataset, keyword, 1)
    return lengths[0] if lengths and lengths[0] > 0 else None


def _is_parallel(plane: Plane, other: Plane) -> bool:
    return (
        np.allclose(plane.along_row, other.along_row, rtol=0, atol=_COSINE_TOLERANCE)
        and np.allclose(plane.along_column, other.along_column, rtol=0, atol=_COSINE_TOLERANCE)
        and np.allclose(plane.spacing_mm, other.spacing_mm, rtol=_SPACING_TOLERANCE, atol=0)
    )


def _count_steps(first: Plane, distinct: Vector) -> int:
    """Return the number of steps between the outermost slices, of which some may be missing."""
    if len(distinct) == 1:
        return 0
    gaps = np.diff(distinct)
    nearest = float(gaps[gaps < 1.5 * gaps.min()].mean())
    times = nearest / (first.between_mm or nearest)  # a header may give the gap between slices instead of the step
    is_multiple = abs(times - round(times)) < _STEP_TOLERANCE
    return round(float(distinct[-1] - distinct[0]) / nearest * (max(1, round(times)) if is_multiple else 1))


def _check_even(deviations: Vector, step: float, distinct: Vector) -> None:
    """Check that the slices are equally far apart.

    Raises:
        UnsuitableImage: `dicom_series_uneven`.
    """
    if np.abs(deviations).max() > _STEP_TOLERANCE * step:
        gaps = np.diff(distinct)
        raise UnsuitableImage(
            "dicom_series_uneven",
            f"the DICOM slices lie {gaps.min():.3f} to {gaps.max():.3f} mm apart, but equal distances are needed; "
            "look for a missing slice, or resample the volume",
        )


def _check_upright(planes: Sequence[Plane], origin: Vector, tolerance_mm: float) -> None:
    """Check that no slice is shifted within its plane against the first one.

    Raises:
        UnsuitableImage: `affine_sheared`.
    """
    normal = planes[0].normal
    offsets = np.array([plane.position - origin for plane in planes])
    within_plane = offsets - np.outer(offsets @ normal, normal)
    if np.linalg.norm(within_plane, axis=1).max() > tolerance_mm:
        raise UnsuitableImage(
            "affine_sheared",
            "the DICOM slices are shifted against each other, as a tilted gantry leaves them; resample the volume to axes at "
            "right angles: dcm2niix -z y -o OUT SERIES writes it as a NIfTI file with _Tilt in its name",
        )
