"""Conversions of a reference while it is read: objects to one class, and a check that values lie between 0 and 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError
from imaging.source import ImageSource, MaskFormat, Region

Pixels = NDArray[Any]


class ConvertedSource(ImageSource):
    """Source whose pixels are converted by a function.

    Args:
        source: open source, which is closed with this one.
        convert: function of pixels (C, *S) that returns the same shape.
        dtype: type of the converted pixels.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the source's

    def __init__(self, source: ImageSource, convert: Callable[[Pixels], Pixels], dtype: np.dtype[Any]) -> None:
        self._source = source
        self._convert = convert
        self.mask_format = source.mask_format
        super().__init__(source.geometry, source.channels, dtype, source.levels)
        self.file_warnings = source.file_warnings

    @property
    def held_bytes(self) -> int:
        """Memory that the source holds."""
        return self._source.held_bytes

    def _read(self, region: Region, level: int) -> Pixels:
        return self._convert(self._source.read(region, level))

    def close(self) -> None:
        """Close the source."""
        self._source.close()


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
