"""References as classes: stored labels, colours and named segments become indices of classes while they are read."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.declared.class_values import ClassValues, value_text
from datasets.labels.counts import MAX_UNKNOWN_LABELS, count_labels, join_first
from datasets.reference_conversion import ConvertedSource, close_on_error
from imaging.errors import DataError, UnsuitableImage
from imaging.nrrd.segments import Segment
from imaging.open import open_image
from imaging.source import ImageSource

Pixels = NDArray[Any]


def open_colours(path: Path) -> ImageSource:
    """Open a reference whose colours are classes: RGB, palette or grey of 8 bits, as one channel of 0xRRGGBB, int32.

    Raises:
        DataError: `reference_channels`, and as `open_image`.
    """
    source = open_image(path)
    with close_on_error(source):
        if source.channels not in (1, 3) or source.dtype != np.uint8:
            raise DataError(
                "reference_channels",
                f"reference has {source.channels} channels of {source.dtype}, and colours have 3 of uint8; save it as RGB or "
                "with a palette, in 8 bits",
            )
    return ConvertedSource(source, _colour_numbers, np.dtype(np.int32), 1)


def as_indices(source: ImageSource, values: ClassValues) -> ImageSource:
    """Return the source with the index of each pixel's class; reading a value that no class has is `labels_unknown`."""

    def convert(pixels: Pixels) -> Pixels:
        _check_known(pixels, source, values)
        return np.asarray(values.to_indices(pixels))

    return ConvertedSource(source, convert, values.dtype)


def as_channels(source: ImageSource, values: ClassValues) -> ImageSource:
    """Return the source with a channel for each class but the first, with 1 for its pixels.

    Reading a value that no class has is `labels_unknown`.
    """

    def convert(pixels: Pixels) -> Pixels:
        _check_known(pixels, source, values)
        return values.to_channels(pixels)

    return ConvertedSource(source, convert, values.dtype, len(values.names) - 1)


def indices_as_channels(source: ImageSource, classes: int, ignore_label: int | None) -> ImageSource:
    """Return a source of indices with a channel for each class but the first, for a head whose classes may overlap."""
    dtype = np.promote_types(np.uint8, np.min_scalar_type(ignore_label or 0))

    def convert(indices: Pixels) -> Pixels:
        channels = (indices == np.arange(1, classes).reshape(-1, *[1] * (indices.ndim - 1))).astype(dtype)
        if ignore_label is not None:
            channels[:, indices[0] == ignore_label] = ignore_label
        return np.asarray(channels)

    return ConvertedSource(source, convert, dtype, classes - 1)


def segments_as_classes(source: ImageSource, segments: Sequence[Segment], classes: Sequence[str]) -> ImageSource:
    """Return a segmentation as indices of classes, or, where it has layers, with a channel for each class but the first.

    Raises:
        UnsuitableImage: `annotation_classes_unknown`: a segment has the name of no class. At a read: `labels_unknown`, where a
            voxel has a label of no segment.
    """
    unknown = [repr(segment.name) for segment in segments if segment.name not in classes]
    if unknown:
        raise UnsuitableImage(
            "annotation_classes_unknown",
            f"reference has segments {join_first(unknown)}; allowed are {', '.join(map(repr, classes))}: rename them, add them "
            "to data.classes, or give each class its label as value there",
        )
    layers = [
        ClassValues(
            tuple(classes),
            tuple(
                (*([0] if index == 0 else []), *(each.label for each in segments if (each.name, each.layer) == (name, layer)))
                for index, name in enumerate(classes)
            ),
        )
        for layer in range(source.channels)
    ]
    if source.channels == 1:
        return as_indices(source, layers[0])

    def convert(pixels: Pixels) -> Pixels:
        parts = []
        for layer, values in zip(pixels, layers, strict=True):
            _check_known(layer[None], source, values)
            parts.append(values.to_channels(layer[None]))
        return np.asarray(np.maximum.reduce(parts))  # (K - 1, *S)

    return ConvertedSource(source, convert, np.dtype(np.uint8), len(classes) - 1)


def _colour_numbers(pixels: Pixels) -> Pixels:
    """Return the colours of pixels (3, *S), or of grey (1, *S), as 0xRRGGBB (1, *S)."""
    red, green, blue = (pixels[channel].astype(np.int32) for channel in ((0, 1, 2) if len(pixels) == 3 else (0, 0, 0)))
    return np.asarray((red << 16) | (green << 8) | blue)[None]


def _check_known(pixels: Pixels, source: ImageSource, values: ClassValues) -> None:
    """Refuse pixels with a value that no class has; the whole reference is then read, so that all values are counted.

    Raises:
        DataError: `labels_not_whole`, `labels_unknown`.
    """
    if values.is_known(pixels).all():
        return
    counts: Counter[int] = Counter()
    for block in source.blocks():
        counts.update(count_labels(block))
    known = {value for values_of_class in (*values.values, (values.ignored,)) for value in values_of_class}
    unknown = [
        f"{value_text(value, values.by_colour)} ({count} pixels)"
        for value, count in sorted(counts.items())
        if value not in known
    ]
    hint = "; so many come from smoothing or from JPEG, export labels without" if len(unknown) > MAX_UNKNOWN_LABELS else ""
    raise DataError("labels_unknown", f"reference holds {join_first(unknown)}; allowed are {values.text}{hint}")
