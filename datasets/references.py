"""References: labels that lie on their image; what they hold is checked before anybody trains or scores with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.annotations import AnnotatedSource, is_annotation
from datasets.cases import Case, open_case_image
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource, MaskFormat, Region

AFFINE_TOLERANCE_MM = 1e-3
SPACING_TOLERANCE = 0.01  # of the image's, where no affine says more
VALUES_SHOWN = 8
MOST_LABELS = 16  # of values that are no labels; more look like grey

_JPEG_MAGIC = b"\xff\xd8\xff"


class ForegroundSource(ImageSource):
    """A reference that counts objects, as one of background and foreground: any value above 0 is 1."""

    mask_format: MaskFormat  # type: ignore[misc]  # the counted one's

    def __init__(self, objects: ImageSource) -> None:
        self._objects = objects
        self.mask_format = objects.mask_format
        super().__init__(objects.geometry, 1, np.dtype(np.uint8), objects.levels)
        self.file_warnings = objects.file_warnings

    @property
    def held_bytes(self) -> int:
        """That of the counted one."""
        return self._objects.held_bytes

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return (self._objects.read(region, level) > 0).astype(np.uint8)

    def close(self) -> None:
        """Closes the counted one."""
        self._objects.close()


def open_reference(case: Case) -> ImageSource:
    """The case's reference, open, with one channel of labels; annotations are drawn where they are read.

    Raises:
        DataError: there is none, it has several channels, or it can't be read.
    """
    if case.reference is None:
        raise DataError("reference_missing", "there is no reference; name one in cases.csv")
    if is_annotation(case.reference):
        with open_case_image(case) as image:
            return AnnotatedSource(case.reference, image.geometry, image.levels, case.classes)
    if _is_jpeg(case.reference):
        raise DataError("reference_lossy", "reference is a JPEG, which changes labels at every edge; export it as PNG or TIFF")
    source = open_image(case.reference, labels=True)
    if source.channels != 1:
        source.close()
        raise DataError(
            "reference_channels", f"reference has {source.channels} channels, allowed is 1; save labels, not colours"
        )
    return ForegroundSource(source) if case.instances else source


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
        difference = float(np.abs(affines[0] - affines[1]).max())
        if difference > AFFINE_TOLERANCE_MM:
            raise DataError(
                "reference_affine",
                f"reference's affine differs from its image's by {difference:.3g} mm, allowed are {AFFINE_TOLERANCE_MM:g} mm; "
                "resample it onto the image's grid",
            )
    elif image.spacing_um and reference.spacing_um and not _close(image.spacing_um, reference.spacing_um):
        raise DataError(
            "reference_spacing",
            f"reference's spacing is {_um(reference.spacing_um)} um, its image's {_um(image.spacing_um)} um, allowed is "
            f"{SPACING_TOLERANCE:.0%} more or less; export it from this image, or give spacing_um in cases.csv",
        )


def check_labels(labels: NDArray[np.generic], classes: int) -> None:
    """Nothing, when every value is one of 0 .. classes - 1.

    Raises:
        DataError: other values, each with its number of pixels.
    """
    check_counts(count_labels(labels), classes)


def check_counts(counts: Mapping[int, int], classes: int) -> None:
    """`check_labels` for labels that are counted already.

    Raises:
        DataError: `labels_unknown`.
    """
    unknown = [f"{value} ({count} pixels)" for value, count in sorted(counts.items()) if value not in range(classes)]
    if unknown:
        smoothed = "; so many come from smoothing or from JPEG, export labels without" if len(unknown) > MOST_LABELS else ""
        raise DataError(
            "labels_unknown",
            f"reference holds {shown(unknown)}; "
            f"allowed are 0 .. {classes - 1}, one for each of data.classes, in order{smoothed}",
        )


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
            f"reference holds {shown(broken)}, which are no labels; export it without smoothing or interpolation",
        )
    return {int(value): count for value, count in pairs}


def shown(items: Sequence[str]) -> str:
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


def _um(spacing_um: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing_um)
