"""References of cases: labels or values for each pixel of an image, opened and checked before training or scoring."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.annotations import AnnotationSource, is_annotation
from datasets.cases import Case, open_case_image
from datasets.channels import AFFINE_TOLERANCE_MM, affine_distance_mm, stack_channels
from datasets.class_references import as_channels, as_indices, open_colours, segments_as_classes
from datasets.labels.counts import count_labels
from datasets.reference_conversion import WholeNumberSource, as_foreground, close_on_error
from imaging.errors import DataError
from imaging.nrrd.segments import read_segments
from imaging.open import open_image
from imaging.source import ImageSource, spacing_text

SPACING_TOLERANCE = 0.01  # relative, where there are no affines to compare
_JPEG_MAGIC = b"\xff\xd8\xff"


def open_reference(case: Case, *, numbered: bool = False) -> ImageSource:
    """Open the case's reference; annotations are drawn when they are read.

    It has one channel with the index of each pixel's class, or with values. Where classes overlap, it has a channel for each
    foreground class, with 1 for the class.

    Args:
        case: case whose reference is opened.
        numbered: return the numbers of objects, where the reference has them, instead of one class.

    Raises:
        DataError: the case has no reference, it doesn't suit the classes, or it can't be read. At a read: `labels_unknown`,
            where a pixel has none of the values that the classes have.
    """
    if case.reference is None:
        raise DataError("reference_missing", "there is no reference; name one in cases.csv")
    paths = (case.reference, *case.other_references)
    if len(paths) == 1:
        if not case.instances:
            return _open_classes(case, case.reference)
        source = _open_stored(case, case.reference, numbered=numbered)
        return source if numbered else as_foreground(source, case.ignore_label)
    if case.class_values:
        raise DataError(
            "reference_channels",
            f"reference has {len(paths)} files, and data.classes gives values, which are those of one file with all classes; "
            "remove value: in a file for each class, any value above 0 is the class",
        )
    if len(paths) != len(case.classes) - 1:
        raise DataError(
            "reference_channels",
            f"reference has {len(paths)} files for {len(case.classes)} classes; give one file with all labels, or a file for "
            "each class but the background",
        )
    with ExitStack() as open_sources:
        classes = [as_foreground(open_sources.enter_context(_open_stored(case, path)), case.ignore_label) for path in paths]
        reference = stack_channels(classes, "reference")
        open_sources.pop_all()
    return reference


def holds_segments(case: Case) -> bool:
    """Return whether the reference is one file of segments with names, as 3D Slicer writes them."""
    is_file = case.reference is not None and not case.other_references and case.reference.is_file()
    return bool(is_file and case.reference and read_segments(case.reference))


def _open_classes(case: Case, path: Path) -> ImageSource:
    """Open a file whose values say which class each pixel belongs to, as indices or as channels of the classes."""
    values = case.class_values
    if case.classes and values is None and not case.values and holds_segments(case):
        source = open_image(path, labels=True, dimensions=case.needed_dimensions, axes=case.reference_axes)
        with close_on_error(source):
            return segments_as_classes(source, read_segments(path), case.classes)
    source = _open_stored(case, path)
    if values is None or is_annotation(path):
        return source
    return as_channels(source, values) if values.overlap else as_indices(source, values)


def _open_stored(case: Case, path: Path, *, numbered: bool = False) -> ImageSource:
    """Open one file of a reference with its values as they are stored; it must have one channel."""
    if is_annotation(path):
        with open_case_image(case) as image:
            return AnnotationSource(
                path,
                image.geometry,
                image.levels,
                case.classes,
                ignore_label=case.ignore_label,
                numbered=numbered,
                image=case.images[0],
            )
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_JPEG_MAGIC)) == _JPEG_MAGIC:
                message = "reference is a JPEG, which changes labels at every edge; export it as PNG or TIFF"
                raise DataError("reference_lossy", message)
    if case.class_values and case.class_values.by_colour:
        return open_colours(path)
    source = open_image(path, labels=True, dimensions=case.needed_dimensions, axes=case.reference_axes)
    if source.dtype.kind == "f" and not case.values:
        source = WholeNumberSource(source)
    if source.channels != 1:
        source.close()
        colours = source.channels in (3, 4) and len(source.shape) == 2
        remedy = (
            "save labels, or give each class its colour as value in data.classes" if colours else "save labels, not colours"
        )
        raise DataError("reference_channels", f"reference has {source.channels} channels, allowed is 1; {remedy}")
    return source


def check_aligned(image: ImageSource, reference: ImageSource) -> None:
    """Refuse a reference that does not lie on its image.

    Raises:
        DataError: only one of them has an EXIF orientation, the shapes differ, the affines differ by more than
            `AFFINE_TOLERANCE_MM`, or, without affines, the spacings differ by more than `SPACING_TOLERANCE`.
    """
    turned = ["orientation_applied" in source.file_warnings for source in (image, reference)]
    if turned[0] != turned[1]:
        one, other = ("image", "reference") if turned[0] else ("reference", "image")
        raise DataError(
            "reference_orientation",
            f"the {one} is turned by its EXIF orientation, and the {other} has none; save the image as viewers show it without "
            "EXIF orientation, and export the reference from that",
        )
    if reference.shape != image.shape:
        raise DataError(
            "reference_shape",
            f"reference {reference.shape} has another shape than its image {image.shape}; export it on the image's own grid",
        )
    affines = image.geometry.affine, reference.geometry.affine
    spacings = image.spacing_um, reference.spacing_um
    if affines[0] is not None and affines[1] is not None:
        difference = affine_distance_mm(affines[0], affines[1])
        if difference > AFFINE_TOLERANCE_MM:
            raise DataError(
                "reference_affine",
                f"reference's affine differs from its image's by {difference:.3g} mm, allowed are {AFFINE_TOLERANCE_MM:g} mm; "
                "resample it onto the image's grid",
            )
    elif spacings[0] and spacings[1] and not np.allclose(spacings[1], spacings[0], rtol=SPACING_TOLERANCE, atol=0):
        raise DataError(
            "reference_spacing",
            f"reference's spacing is {spacing_text(spacings[1])}, its image's {spacing_text(spacings[0])}, "
            f"allowed is {SPACING_TOLERANCE:.0%} more or less; export it from this image, or give spacing_um in cases.csv",
        )


def class_masks(pixels: NDArray[Any], classes: int, ignore_label: int | None = None) -> Iterator[NDArray[np.bool_]]:
    """Yield the pixels of each class, K masks (*S), of a reference (channels, *S).

    One channel holds labels. Several channels are overlapping classes, and the background is where there is none of them. With
    values instead of labels (K = 1), the one mask has all pixels that are not ignored.
    """
    if classes > 1 and len(pixels) == 1:
        yield from (pixels[0] == label for label in range(classes))
        return
    is_labelled = np.ones(pixels.shape[1:], bool) if ignore_label is None else (pixels != ignore_label).all(axis=0)
    if classes == 1:
        yield is_labelled
    else:
        yield is_labelled & (pixels != 1).all(axis=0)
        yield from pixels == 1


def foreground_mask(pixels: NDArray[Any], ignore_label: int | None = None) -> NDArray[np.bool_]:
    """Return which pixels (*S) of a reference (channels, *S) belong to any class but the background."""
    foreground = pixels > 0
    if ignore_label is not None:
        foreground &= pixels != ignore_label
    return np.asarray(foreground.any(axis=0))


def count_classes(pixels: NDArray[Any], ignore_label: int | None = None) -> dict[int, int]:
    """Count the pixels of each label of a reference (channels, *S), without the ignored ones.

    Raises:
        DataError: `labels_not_whole`, with every value and its number of pixels.
    """
    if len(pixels) == 1:
        return {label: count for label, count in count_labels(pixels[0]).items() if label != ignore_label}
    masks = class_masks(pixels, len(pixels) + 1, ignore_label)
    return {label: int(np.count_nonzero(mask)) for label, mask in enumerate(masks) if mask.any()}
