"""Counts of the labels in a reference, and refusals of labels that are none of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError

VALUES_SHOWN = 8
MAX_UNKNOWN_LABELS = 16  # more look like a smoothed or grey image


def check_labels(labels: NDArray[np.generic], classes: int, ignore_label: int | None = None) -> None:
    """Refuse labels that are neither one of 0 .. classes - 1 nor `ignore_label`.

    Args:
        labels: labels (channels, *S); several channels are overlapping classes, which are not checked.
        classes: K; 1 means values instead of labels, which are not checked.
        ignore_label: label of pixels that are neither trained on nor scored.

    Raises:
        DataError: `labels_unknown` or `labels_not_whole`, with every other value and its number of pixels.
    """
    if classes > 1 and len(labels) == 1:
        check_label_counts(count_labels(labels), classes, ignore_label)


def check_label_counts(counts: Mapping[int, int], classes: int, ignore_label: int | None = None) -> None:
    """Refuse counts of labels that are neither one of 0 .. classes - 1 nor `ignore_label`.

    Raises:
        DataError: `labels_unknown`, with every other label and its number of pixels.
    """
    allowed = {*range(classes), ignore_label}
    unknown = [f"{value} ({count} pixels)" for value, count in sorted(counts.items()) if value not in allowed]
    if unknown:
        hint = "; so many come from smoothing or from JPEG, export labels without" if len(unknown) > MAX_UNKNOWN_LABELS else ""
        raise DataError(
            "labels_unknown",
            f"reference holds {join_first(unknown)}; "
            f"allowed are 0 .. {classes - 1}, one for each of data.classes, in order{hint}",
        )


def count_labels(labels: NDArray[np.generic]) -> dict[int, int]:
    """Count the pixels of each label.

    Raises:
        DataError: `labels_not_whole`, with every value and its number of pixels.
    """
    if labels.dtype in (np.uint8, np.uint16):
        pixels = np.bincount(labels.reshape(-1))
        return {int(label): int(pixels[label]) for label in np.flatnonzero(pixels)}
    values, counts = np.unique(labels, return_counts=True)
    pairs = list(zip(values.tolist(), counts.tolist(), strict=True))
    fractions = [f"{value:g} ({count} pixels)" for value, count in pairs if value != int(value)]
    if fractions:
        raise DataError(
            "labels_not_whole",
            f"reference holds {join_first(fractions)}, which are no labels; export it without smoothing or interpolation",
        )
    return {int(value): count for value, count in pairs}


def join_first(items: Sequence[str]) -> str:
    """Join the first eight texts with commas, and say how many more there are."""
    more = f" and {len(items) - VALUES_SHOWN} more" if len(items) > VALUES_SHOWN else ""
    return ", ".join(items[:VALUES_SHOWN]) + more
