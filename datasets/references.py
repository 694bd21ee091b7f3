"""References: labels or values that lie on their image; what they hold is checked before anybody trains or scores with them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.annotations import AnnotationSource, is_annotation
from datasets.cases import Case, open_case_image
from datasets.channels import AFFINE_TOLERANCE_MM, affine_distance_mm, stack_channels
from datasets.reference_conversion import as_foreground
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource, spacing_text

SPACING_TOLERANCE = 0.01  # of the image's, where no affine says more
VALUES_SHOWN = 8
MOST_LABELS = 16  # of values that are no labels; more look like grey

_JPEG_MAGIC = b"\xff\xd8\xff"


def open_reference(case: Case, *, numbered: bool = False) -> ImageSource:
    """The case's reference, open; annotations are drawn where they are read.

    One channel of labels or of values; of classes that overlap a channel a foreground class, where 1 is the class.

    Args:
        case: whose it is.
        numbered: where it counts objects, their numbers are wanted instead of one class.

    Raises:
        DataError: there is none, it doesn't suit the classes, or it can't be read.
    """
    if case.reference is None:
        raise DataError("reference_missing", "there is no reference; name one in cases.csv")
    paths = (case.reference, *case.other_references)
    if len(paths) == 1:
        source = _open_one(case, case.reference, numbered=numbered and case.instances)
        return as_foreground(source, case.ignore_label) if case.instances and not numbered else source
    if len(paths) != len(case.classes) - 1:
        raise DataError(
            "reference_channels",
            f"reference has {len(paths)} files for {len(case.classes)} classes; give one file with all labels, or a file for "
            "each class but the background",
        )
    with ExitStack() as opened:
        classes = [as_foreground(opened.enter_context(_open_one(case, path)), case.ignore_label) for path in paths]
        reference = stack_channels(classes, "reference")
        opened.pop_all()
    return reference


def _open_one(case: Case, path: Path, *, numbered: bool = False) -> ImageSource:
    """One file, with one channel."""
    if is_annotation(path):
        with open_case_image(case) as image:
            return AnnotationSource(path, image.geometry, image.levels, case.classes, numbered=numbered)
    if _is_jpeg(path):
        raise DataError("reference_lossy", "reference is a JPEG, which changes labels at every edge; export it as PNG or TIFF")
    source = open_image(path, labels=True)
    if source.channels != 1:
        source.close()
        raise DataError(
            "reference_channels", f"reference has {source.channels} channels, allowed is 1; save labels, not colours"
        )
    return source


def check_aligned(image: ImageSource, reference: ImageSource) -> None:
    """Nothing, when the reference lies on its image.

    Raises:
        DataError: another shape, an affine that differs by more than `AFFINE_TOLERANCE_MM` anywhere, or without affines a
            spacing that differs by more than `SPACING_TOLERANCE`.
    """
    if reference.shape != image.shape:
        raise DataError(
            "reference_shape",
            f"reference {reference.shape} has another shape than its image {image.shape}; export it on the image's own grid",
        )
    affines = image.geometry.affine, reference.geometry.affine
    if affines[0] is not None and affines[1] is not None:
        difference = affine_distance_mm(affines[0], affines[1])
        if difference > AFFINE_TOLERANCE_MM:
            raise DataError(
                "reference_affine",
                f"reference's affine differs from its image's by {difference:.3g} mm, allowed are {AFFINE_TOLERANCE_MM:g} mm; "
                "resample it onto the image's grid",
            )
    elif image.spacing_um and reference.spacing_um and not _close(image.spacing_um, reference.spacing_um):
        raise DataError(
            "reference_spacing",
            f"reference's spacing is {spacing_text(reference.spacing_um)} um, its image's {spacing_text(image.spacing_um)} um, "
            f"allowed is {SPACING_TOLERANCE:.0%} more or less; export it from this image, or give spacing_um in cases.csv",
        )


def check_labels(labels: NDArray[np.generic], classes: int, ignore_label: int | None = None) -> None:
    """Nothing, when every value is one of 0 .. classes - 1, or to be ignored.

    Args:
        labels: (channels, *S); several channels are classes that overlap, and hold nothing that could be wrong.
        classes: K; 1 stands for values instead of labels, and any will do.
        ignore_label: of pixels that nothing is said about.

    Raises:
        DataError: other values, each with its number of pixels.
    """
    if classes > 1 and len(labels) == 1:
        check_label_counts(count_labels(labels), classes, ignore_label)


def check_label_counts(counts: Mapping[int, int], classes: int, ignore_label: int | None = None) -> None:
    """`check_labels` for labels that are counted already.

    Raises:
        DataError: `labels_unknown`.
    """
    allowed = {*range(classes), ignore_label}
    unknown = [f"{value} ({count} pixels)" for value, count in sorted(counts.items()) if value not in allowed]
    if unknown:
        smoothed = "; so many come from smoothing or from JPEG, export labels without" if len(unknown) > MOST_LABELS else ""
        raise DataError(
            "labels_unknown",
            f"reference holds {join_first(unknown)}; "
            f"allowed are 0 .. {classes - 1}, one for each of data.classes, in order{smoothed}",
        )


def class_masks(pixels: NDArray[Any], classes: int, ignore_label: int | None = None) -> Iterator[NDArray[np.bool_]]:
    """Which pixels are of each class, K times (*S), of a reference (channels, *S).

    One channel holds labels; several are classes that overlap, and the background is where none is. K of 1 stands for
    values, where all pixels are alike.
    """
    if classes > 1 and len(pixels) == 1:
        yield from (pixels[0] == label for label in range(classes))
        return
    counted = np.ones(pixels.shape[1:], bool) if ignore_label is None else (pixels != ignore_label).all(axis=0)
    if classes == 1:
        yield counted
    else:
        yield counted & (pixels != 1).all(axis=0)
        yield from pixels == 1


def foreground_mask(pixels: NDArray[Any], ignore_label: int | None = None) -> NDArray[np.bool_]:
    """Which pixels (*S) of a reference (channels, *S) are of any class but the background."""
    foreground = pixels > 0
    if ignore_label is not None:
        foreground &= pixels != ignore_label
    return np.asarray(foreground.any(axis=0))


def count_classes(pixels: NDArray[Any], ignore_label: int | None = None) -> dict[int, int]:
    """Pixels of each label of a reference (channels, *S) that holds labels; those to be ignored are left out.

    Raises:
        DataError: `labels_not_whole`, with every value and its number of pixels.
    """
    if len(pixels) == 1:
        return {label: count for label, count in count_labels(pixels[0]).items() if label != ignore_label}
    masks = class_masks(pixels, len(pixels) + 1, ignore_label)
    return {label: int(np.count_nonzero(mask)) for label, mask in enumerate(masks) if mask.any()}


def count_labels(labels: NDArray[np.generic]) -> dict[int, int]:
    """Pixels of each label.

    Raises:
        DataError: `labels_not_whole`, with every value and its number of pixels.
    """
    if labels.dtype in (np.uint8, np.uint16):
        counted = np.bincount(labels.reshape(-1))
        return {int(label): int(counted[label]) for label in np.flatnonzero(counted)}
    values, counts = np.unique(labels, return_counts=True)
    pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
    broken = [f"{value:g} ({count} pixels)" for value, count in pairs if value != int(value)]
    if broken:
        raise DataError(
            "labels_not_whole",
            f"reference holds {join_first(broken)}, which are no labels; export it without smoothing or interpolation",
        )
    return {int(value): count for value, count in pairs}


def join_first(items: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(items) - VALUES_SHOWN} more" if len(items) > VALUES_SHOWN else ""
    return ", ".join(items[:VALUES_SHOWN]) + more


def _is_jpeg(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_JPEG_MAGIC)) == _JPEG_MAGIC


def _close(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return bool(np.allclose(second, first, rtol=SPACING_TOLERANCE, atol=0))
