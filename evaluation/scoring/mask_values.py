"""Values of masks: whether those of a folder are indices of classes, values of the references, or numbers of objects.

The values of all masks together decide, so that one mask with a single object means the same as its neighbours.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from datasets.annotations import AnnotationSource
from datasets.cases import Case, open_case_image
from datasets.channels import AFFINE_TOLERANCE_MM, affine_distance_mm
from datasets.class_references import as_channels, as_indices, open_colours, segments_as_classes
from datasets.declared.class_values import ClassValues
from datasets.declared.declaration import BACKGROUND
from datasets.labels.counts import count_labels, join_first
from datasets.labels.kinds import labels_number_objects
from datasets.reference_conversion import ConvertedSource, WholeNumberSource, as_foreground, close_on_error
from evaluation.scoring.case_scores import CaseMask
from evaluation.scoring.mask_files import OUTLINES
from imaging.errors import DataError
from imaging.nrrd.segments import read_segments
from imaging.open import open_image
from imaging.source import ImageSource
from imaging.voxels import affine_inside

FOREGROUND = (255, 65535)  # of masks of two classes that other tools write: white in 8 and in 16 bits
_JPEG_MAGIC = b"\xff\xd8\xff"


@dataclass(frozen=True)
class MaskValues:
    """Meaning of the values of a folder's masks.

    Args:
        number_objects: any value above 0 is class 1, and numbers its object.
        classes: values of each class; None: they are the indices of the classes.
        note: what a reader of the scores must know about it; empty where the values are the expected ones.
    """

    number_objects: bool = False
    classes: ClassValues | None = None
    note: str = ""


def values_of_masks(case: Case, counts: Sequence[Iterable[int]]) -> MaskValues:
    """Decide what the values of masks mean.

    Args:
        case: any case of the data set, with its classes.
        counts: values that occur in each mask, 0 included.

    Raises:
        DataError: `mask_labels_unknown`: a value that can be neither a class nor, of two classes, an object.
    """
    values = {value for each in counts for value in each}
    foreground = sorted(values - {0})
    if case.instances and min(values, default=0) >= 0:
        return _values_for_instances(foreground)
    indices = set(range(len(case.classes)))
    declared = case.class_values if case.class_values and not case.class_values.by_colour else None
    if declared is not None:
        known = {value for each in declared.values for value in each}
        same = all(index in of_class for index, of_class in enumerate(declared.values) if index in values)
        if values <= known and not (values <= indices and same and not declared.overlap):
            note = f"The masks' labels are read as the references' values: {declared.text}." if values <= indices else ""
            return MaskValues(classes=declared, note=note)
    if values <= indices:
        return MaskValues()
    if len(case.classes) == 2 and foreground[0] > 0:
        if len(foreground) == 1 and foreground[0] in FOREGROUND:
            return MaskValues(classes=ClassValues(case.classes, ((0,), (foreground[0],))))
        if labels_number_objects([dict.fromkeys(each) for each in counts]):
            return MaskValues(number_objects=True, note=f"The masks number objects: any value above 0 is {case.classes[1]}.")
    allowed = declared.text if declared else ", ".join(f"{index} ({name})" for index, name in enumerate(case.classes))
    white = " or 255" if len(case.classes) == 2 else ""
    raise DataError(
        "mask_labels_unknown",
        f"the masks hold {join_first([str(value) for value in sorted(values)])}; allowed are {allowed}{white}: save each class "
        "as its label, or give the classes with --config",
    )


def _values_for_instances(foreground: Sequence[int]) -> MaskValues:
    """Return whether masks of a data set of objects number them, which two different values above 0 show."""
    if len(foreground) > 1:
        return MaskValues(number_objects=True)
    white = ClassValues((BACKGROUND, "object"), ((0,), tuple(foreground))) if foreground and foreground[0] != 1 else None
    note = "The masks do not number objects: the connected parts of each mask count as its objects."
    return MaskValues(classes=white, note=note)


def count_mask_values(path: Path, case: Case) -> tuple[int, ...] | None:
    """Return the values that occur in a mask; None for outlines and colours, which say themselves what they mean.

    Raises:
        DataError: the mask can't be read or doesn't lie on its image, see `open_mask`; `labels_not_whole`.
    """
    with ExitStack() as stack:
        source = _open_on_image(path, case, stack)
        if isinstance(source, AnnotationSource) or source.channels > 1:
            return None
        if _has_colours(case):
            for _ in source.blocks():  # refuses colours of no class
                pass
            return None
        return tuple(sorted({value for block in source.blocks() for value in count_labels(block)}))


def open_mask(path: Path, case: Case, values: MaskValues, stack: ExitStack) -> CaseMask:
    """Open the mask of a case as labels, with the numbers of objects where it has them.

    Args:
        path: file or folder of the mask.
        case: its case, with its classes.
        values: meaning of the values of all masks of the folder.
        stack: closes the files.

    Raises:
        DataError: the file can't be read, `mask_shape`, `mask_affine`, `mask_channels`, `mask_lossy`.
    """
    source = _open_on_image(path, case, stack)
    if values.number_objects or (case.instances and isinstance(source, AnnotationSource)):
        return CaseMask(as_foreground(source), source)
    if isinstance(source, AnnotationSource) or values.classes is None or source.channels > 1:
        return CaseMask(source)
    return CaseMask((as_channels if values.classes.overlap else as_indices)(source, values.classes))


def _open_on_image(path: Path, case: Case, stack: ExitStack) -> ImageSource:
    """Open a mask with its values as they are stored, colours as indices of classes, and check that it lies on its image."""
    with open_case_image(case) as image:
        if path.suffix.lower() == OUTLINES:
            ignored = case.ignore_label
            return AnnotationSource(
                path, image.geometry, image.levels, case.classes, ignore_label=ignored, numbered=case.instances
            )
        source = stack.enter_context(_open_stored(path, case))
        check_mask_on_image(source, image)
    return source


def _open_stored(path: Path, case: Case) -> ImageSource:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_JPEG_MAGIC)) == _JPEG_MAGIC:
                raise DataError(
                    "mask_lossy", "the mask is a JPEG, which changes labels at every edge; write masks as PNG, TIFF or NIfTI"
                )
    source = open_image(path, labels=True, dimensions=case.needed_dimensions, axes=case.reference_axes)
    segments = read_segments(path) if path.is_file() else ()
    if segments and all(segment.name in case.classes for segment in segments):
        with close_on_error(source):
            return segments_as_classes(source, segments, case.classes)
    if source.dtype.kind == "f":
        source = WholeNumberSource(source)
    if source.channels == 1 or (_overlap(case) and source.channels == len(case.classes) - 1):
        return source
    with close_on_error(source):
        if source.channels != 3 or len(source.shape) != 2:
            several = f", or one for each of the {len(case.classes) - 1} classes that overlap" if _overlap(case) else ""
            raise DataError("mask_channels", f"the mask has {source.channels} channels; write one with labels{several}")
    if case.class_values is not None and _has_colours(case):
        source.close()
        return as_indices(open_colours(path), case.class_values)
    return ConvertedSource(source, _as_grey, source.dtype, 1)


def _overlap(case: Case) -> bool:
    """Return whether the references have a channel for each class but the background."""
    return bool(case.other_references) or (case.class_values is not None and case.class_values.overlap)


def _has_colours(case: Case) -> bool:
    return case.class_values is not None and case.class_values.by_colour


def _as_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the first of three channels (1, H, W), which must be equal."""
    if (pixels[1:] != pixels[0]).any():
        raise DataError("mask_channels", "the mask has colours, and the references labels; write one channel with labels")
    return pixels[:1]


def check_mask_on_image(mask: ImageSource, image: ImageSource) -> None:
    """Refuse a mask that does not lie on its image: of another shape, or of another affine.

    Raises:
        DataError: `mask_shape`, `mask_affine`.
    """
    if mask.shape != image.shape:
        is_turned = sorted(mask.shape) == sorted(image.shape)
        remedy = "its axes are in another order, turn it back" if is_turned else "resample it by nearest neighbours"
        raise DataError(
            "mask_shape",
            f"the mask has shape {mask.shape}, its image {image.shape}; write it on the image's own grid: {remedy}",
        )
    affines = affine_inside(mask.geometry), affine_inside(image.geometry)
    if affines[0] is None and affines[1] is None:
        return
    if affines[0] is None or affines[1] is None:
        which = "mask" if affines[0] is None else "image"
        raise DataError(
            "mask_affine", f"the {which} has no affine, so that its axes are unknown; write the mask in the image's own format"
        )
    difference = affine_distance_mm(affines[0], affines[1])
    if difference > AFFINE_TOLERANCE_MM:
        raise DataError(
            "mask_affine",
            f"the mask's affine differs from its image's by {difference:.3g} mm, allowed are {AFFINE_TOLERANCE_MM:g} mm; "
            "write it with the image's affine, or resample it onto the image's grid",
        )
