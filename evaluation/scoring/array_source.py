"""Source of pixels that are in memory or in a memory-mapped file, for masks that were not read from an image."""

from typing import Any, ClassVar

from numpy.typing import NDArray

from imaging.source import Geometry, ImageSource, MaskFormat, Region


class ArraySource(ImageSource):
    """Image whose pixels are an array (C, *S).

    Args:
        pixels: array in memory or memory map.
        spacing_um: distance between pixels in S order; None where it is unknown.
    """

    mask_format: ClassVar[MaskFormat] = "tiff"

    def __init__(self, pixels: NDArray[Any], spacing_um: tuple[float, ...] | None = None) -> None:
        super().__init__(Geometry(pixels.shape[1:], spacing_um), len(pixels), pixels.dtype)
        self._pixels = pixels

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        return self._pixels[(slice(None), *region)]
