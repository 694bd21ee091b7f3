"""One resolution of a TIFF, read region by region as it is stored."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage, TiffPageSeries

JPEG_COMPRESSIONS = (6, 7, 34892, 33007)

_CACHE_BYTES = 128 * 2**20


class WholeLevel:
    """A level without tiles."""

    def __init__(self, series: TiffPageSeries) -> None:
        self._series = series
        self._pixels: NDArray[Any] | None = None

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """(C, H, W) in the file's byte order; may be a view of what is held."""
        if self._pixels is None:
            pixels = self._series.asarray(out="memmap") if is_mapped(self._series) else self._series.asarray()
            self._pixels = _channels_first(pixels, self._series.axes)
        return self._pixels[:, rows, columns]


class TiledLevel:
    """A level in tiles; the last ones are held, because the tiles of inference overlap."""

    def __init__(self, series: TiffPageSeries) -> None:
        self._pages = [page for page in series.pages if page is not None]
        self._file = series.keyframe.parent.filehandle
        self._keyframe = series.keyframe
        self._dtype = np.dtype(series.dtype)
        tile_bytes = tile_pixels(self._keyframe) * self._keyframe.samplesperpixel * self._dtype.itemsize
        self._tile = lru_cache(max(4, _CACHE_BYTES // tile_bytes))(self._decoded)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """(C, H, W) in the file's byte order; may be a view of what is held."""
        return np.concatenate([self._read_page(number, rows, columns) for number in range(len(self._pages))])

    def _read_page(self, number: int, rows: slice, columns: slice) -> NDArray[Any]:
        page = self._keyframe
        planes, _, _, _, samples = page.shaped
        shape = (planes, rows.stop - rows.start, columns.stop - columns.start, samples)
        out = np.full(shape, page.nodata, self._dtype)
        for index in _tiles_in(page, rows, columns):
            tile, (plane, _, top, left, _) = self._tile(number, index)
            if tile is not None:
                _paste(tile[0], (top - rows.start, left - columns.start), out[plane])
        return np.moveaxis(out, -1, 1).reshape(-1, *shape[1:3])  # (C, H, W)

    def _decoded(self, number: int, index: int) -> tuple[NDArray[Any] | None, tuple[int, int, int, int, int]]:
        """One tile (1, H, W, samples), None where the file leaves it out, and its place in `page.shaped`."""
        page, keyframe = self._pages[number], self._keyframe
        jpeg = {}
        if keyframe.compression in JPEG_COMPRESSIONS:
            jpeg = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
        segments = self._file.read_segments((page.dataoffsets[index],), (page.databytecounts[index],), (index,))
        data, _ = next(iter(segments))
        tile, place, _ = keyframe.decode(data, index, _fullsize=True, **jpeg)
        return tile, place


def is_mapped(series: TiffPageSeries) -> bool:
    """Whether all of it lies in one piece, uncompressed."""
    return series.dataoffset is not None and series.keyframe.fillorder == 1 and series.keyframe.predictor == 1


def tile_pixels(page: TiffPage) -> int:
    """How many pixels a tile has."""
    return int(page.tilelength * page.tilewidth)


def plane_of(series: TiffPageSeries) -> tuple[int, int]:
    """The size (H, W)."""
    return int(series.shape[series.axes.index("Y")]), int(series.shape[series.axes.index("X")])


def _channels_first(pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """A view (C, H, W)."""
    if len(axes) == 2:
        pixels, axes = pixels[None], "C" + axes
    channel = next(axis for axis in axes if axis not in "YX")
    return pixels.transpose([axes.index(axis) for axis in (channel, "Y", "X")])


def _tiles_in(page: TiffPage, rows: slice, columns: slice) -> list[int]:
    """The numbers of the tiles that a region touches, in every plane."""
    down, across = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
    return [
        (plane * down + row) * across + column
        for plane in range(page.shaped[0])
        for row in range(rows.start // page.tilelength, -(-rows.stop // page.tilelength))
        for column in range(columns.start // page.tilewidth, -(-columns.stop // page.tilewidth))
    ]


def _paste(tile: NDArray[Any], place: tuple[int, int], out: NDArray[Any]) -> None:
    """Lays (H, W, samples) on `out` at a place that may begin before it or reach beyond it."""
    (top, left), (height, width) = place, out.shape[:2]
    inside = tile[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    out[max(0, top) : max(0, top) + inside.shape[0], max(0, left) : max(0, left) + inside.shape[1]] = inside
