"""Conversions of a reference while it is read: objects to one class, and a check that values lie between 0 and 1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError
from imaging.source import ImageSource, MaskFormat, Region

ROUNDING = 0.02  # labels this close to a whole number are that number: 8 bits with a scale factor lose as much

Pixels = NDArray[Any]


class ConvertedSource(ImageSource):
    """Source whose pixels are converted by a function.

    Args:
        source: open source, which is closed with this one.
        convert: function of pixels (C, *S) that returns pixels of the same S.
        dtype: type of the converted pixels.
        channels: number of channels of the converted pixels; None means the source's.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the source's

    def __init__(
        self, source: ImageSource, convert: Callable[[Pixels], Pixels], dtype: np.dtype[Any], channels: int | None = None
    ) -> None:
        self._source = source
        self._convert = convert
        self.mask_format = source.mask_format
        super().__init__(source.geometry, channels or source.channels, dtype, source.levels)
        self.file_warnings = source.file_warnings

    @property
    def held_bytes(self) -> int:
        """Memory that the source holds."""
        return self._source.held_bytes

    def _read(self, region: Region, level: int) -> Pixels:
        pixels = self._convert(self._source.read(region, level))
        self.file_warnings = tuple(dict.fromkeys((*self.file_warnings, *self._source.file_warnings)))
        return pixels

    def close(self) -> None:
        """Close the source."""
        self._source.close()


class WholeNumberSource(ConvertedSource):
    """Labels that are stored as real numbers, rounded where they are within `ROUNDING` of a whole number.

    Others stay as they are, so that what counts labels can name all of them. Once a label was rounded, `file_warnings` holds
    `labels_rounded`.
    """

    def __init__(self, source: ImageSource) -> None:
        super().__init__(source, self._rounded, source.dtype)

    def _rounded(self, labels: Pixels) -> Pixels:
        whole = np.rint(labels)
        is_close = np.abs(labels - whole) <= ROUNDING
        if (is_close & (labels != whole)).any():
            self.file_warnings = tuple(dict.fromkeys((*self.file_warnings, "labels_rounded")))
        return np.where(is_close, whole, labels).astype(self.dtype)


def as_foreground(objects: ImageSource, ignore_label: int | None = None) -> ImageSource:
    """Return the source with 1 for any value above 0, except for `ignore_label`."""
    dtype = np.min_scalar_type(ignore_label or 0)

    def to_foreground(numbers: Pixels) -> Pixels:
        foreground = (numbers > 0).astype(dtype)
        if ignore_label is not None:
            foreground[numbers == ignore_label] = ignore_label
        return foreground

    return ConvertedSource(objects, to_foreground, dtype)


def as_unit(values: ImageSource, ignore_label: int | None = None) -> ImageSource:
    """Return the source with the same values; reading one outside 0 to 1, except `ignore_label`, is an error.

    The error is a DataError, `values_outside_unit`.
    """

    def check(pixels: Pixels) -> Pixels:
        outside = (pixels < 0) | (pixels > 1)
        if ignore_label is not None:
            outside &= pixels != ignore_label
        if outside.any():
            raise DataError(
                "values_outside_unit",
                f"reference holds {pixels[outside][0]:g}, head.kind unit_regression takes 0 to 1; divide by the largest value, "
                "or set head.kind to regression",
            )
        return pixels

    return ConvertedSource(values, check, values.dtype)


@contextmanager
def close_on_error(source: ImageSource) -> Iterator[None]:
    """Close a source where the block raises a DataError."""
    try:
        yield
    except DataError:
        source.close()
        raise
