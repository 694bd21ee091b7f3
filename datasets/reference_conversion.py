"""References seen otherwise: numbered objects as one class, values that must lie between 0 and 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import DataError
from imaging.source import ImageSource, MaskFormat, Region

Pixels = NDArray[Any]


class ConvertedSource(ImageSource):
    """A source whose pixels go through a function.

    Args:
        source: closed with this one.
        view: pixels (C, *S) -> the same shape.
        dtype: of what it gives.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the source's

    def __init__(self, source: ImageSource, view: Callable[[Pixels], Pixels], dtype: np.dtype[Any]) -> None:
        self._source = source
        self._view = view
        self.mask_format = source.mask_format
        super().__init__(source.geometry, source.channels, dtype, source.levels)
        self.file_warnings = source.file_warnings

    @property
    def held_bytes(self) -> int:
        """The source's."""
        return self._source.held_bytes

    def _read(self, region: Region, level: int) -> Pixels:
        return self._view(self._source.read(region, level))

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


def as_foreground(objects: ImageSource, ignore_label: int | None = None) -> ImageSource:
    """Any value above 0 as 1; `ignore_label` stays as it is."""
    dtype = np.min_scalar_type(ignore_label or 0)

    def view(numbers: Pixels) -> Pixels:
        foreground = (numbers > 0).astype(dtype)
        if ignore_label is not None:
            foreground[numbers == ignore_label] = ignore_label
        return foreground

    return ConvertedSource(objects, view, dtype)


def as_unit(values: ImageSource, ignore_label: int | None = None) -> ImageSource:
    """The same values; reading one below 0 or above 1 that isn't `ignore_label` raises a DataError, `values_outside_unit`."""

    def view(pixels: Pixels) -> Pixels:
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

    return ConvertedSource(values, view, values.dtype)
