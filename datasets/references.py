"""References: labels that lie on their image; what they hold is checked before anybody trains or scores with them."""

import numpy as np
from numpy.typing import NDArray

from datasets.cases import Case
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource

AFFINE_TOLERANCE_MM = 1e-3
VALUES_SHOWN = 8


def open_reference(case: Case) -> ImageSource:
    """The case's reference, open, with one channel of labels.

    Raises:
        DataError: there is none, it has several channels, or it can't be read.
    """
    if case.reference is None:
        raise DataError("reference_missing", "there is no reference; name one in cases.csv")
    source = open_image(case.reference, labels=True)
    if source.channels != 1:
        source.close()
        raise DataError(
            "reference_channels", f"reference has {source.channels} channels, allowed is 1; save labels, not colours"
        )
    return source


def check_aligned(image: ImageSource, reference: ImageSource) -> None:
    """Nothing, when the reference lies on its image.

    Raises:
        DataError: another shape, or an affine that differs by more than `AFFINE_TOLERANCE_MM` anywhere.
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


def check_labels(labels: NDArray[np.generic], classes: int) -> None:
    """Nothing, when every value is one of 0 .. classes - 1.

    Raises:
        DataError: other values, each with its number of pixels.
    """
    values, counts = np.unique(labels, return_counts=True)
    unknown = [
        f"{value:g} ({count} pixels)" for value, count in zip(values, counts, strict=True) if value not in range(classes)
    ]
    if unknown:
        more = f" and {len(unknown) - VALUES_SHOWN} more" if len(unknown) > VALUES_SHOWN else ""
        raise DataError(
            "labels_unknown",
            f"reference holds {', '.join(unknown[:VALUES_SHOWN])}{more}; "
            f"allowed are 0 .. {classes - 1}, one for each of data.classes, in order",
        )
