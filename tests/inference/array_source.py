"""Images in memory, for the tests of inference."""

from typing import Any

from numpy.typing import NDArray

from imaging.source import Geometry, ImageSource, Region


class ArraySource(ImageSource):
    """Image with its pixels (C, *S) in memory."""

    mask_format = "png"

    def __init__(self, pixels: NDArray[Any], spacing_um: tuple[float, ...] | None = None) -> None:
        super().__init__(Geometry(pixels.shape[1:], spacing_um), len(pixels), pixels.dtype)
        self.pixels = pixels

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self.pixels[(slice(None), *region)]
