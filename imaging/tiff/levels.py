"""Readers of a TIFF's levels, region by region, as the pixels are stored."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage, TiffPageSeries

from imaging.source import Region
from imaging.tiff.compressed_sizes import JPEG, check_stream
from imaging.tiff.series import CHANNEL_AXES, axes_of, shape_of

_Key = tuple[int, int, int]


class SegmentCache:
    """Cache of recently decoded tiles and strips of all levels, since the tiles of inference overlap.

    Threads may share it; two that need the same segment at once both decode it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._segments: OrderedDict[_Key, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: _Key, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return the cached segment, else what `decode` returns; one segment is cached even if it is larger than the limit."""
        with self._lock:
            if key in self._segments:
                self._segments.move_to_end(key)
                return self._segments[key]
        segment = decode()
        with self._lock:
            if key not in self._segments:
                while self._segments and self._held_bytes + segment.nbytes > self._limit_bytes:
                    self._held_bytes -= self._segments.popitem(last=False)[1].nbytes
                self._segments[key] = segment
                self._held_bytes += segment.nbytes
        return segment


class MappedLevel:
    """Contiguous, uncompressed level, mapped into memory: the system reads the pages that are used."""

    def __init__(self, series: TiffPageSeries) -> None:
        pairs = axes_of(series)
        axes = "".join(axis for axis, _ in pairs)
        channel = next((axis for axis in axes if axis in CHANNEL_AXES), "")
        tiff = series.keyframe.parent
        dtype = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
        sizes = tuple(size for _, size in pairs)
        pixels = np.memmap(tiff.filehandle.path, dtype, "r", series.dataoffset or 0, sizes)
        order = channel + "".join(axis for axis in "ZYX" if axis in axes)
        ordered = pixels.transpose([axes.index(axis) for axis in order])
        self._pixels: NDArray[Any] = ordered if channel else ordered[None]  # (C, *S)

    def read(self, region: Region) -> NDArray[Any]:
        """Return a view (C, *S) in the file's byte order."""
        return self._pixels[(slice(None), *region)]


class SegmentedLevel:
    """Level in tiles or strips, decoded one by one; missing ones have the value `background`."""

    def __init__(self, series: TiffPageSeries, number: int, cache: SegmentCache, background: float) -> None:
        self._background = background
        self._number = number
        self._cache = cache
        self._pages = [page for page in series.pages if page is not None]
        self._keyframe = series.keyframe
        self._dtype = np.dtype(series.dtype).newbyteorder("=")
        pages = len(series.pages)
        lead = [(axis, size) for axis, size in axes_of(series) if axis not in "YXS"]
        if prod(size for _, size in lead) != pages:  # the channels lie within the pages
            lead = [(axis, size) for axis, size in lead if axis not in CHANNEL_AXES]
        numbers = np.arange(pages).reshape([size for _, size in lead])
        if len(shape_of(series)) == 3:
            numbers = np.moveaxis(numbers, [axis for axis, _ in lead].index("Z"), 0)
            self._slices = numbers.reshape(len(numbers), -1)  # (D, pages of a slice) in the order of the channels
        else:
            self._slices = numbers.reshape(1, -1)  # (1, pages)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the pixels (C, *S) of a region."""
        *depth, rows, columns = region
        slices = self._slices[depth[0]] if depth else self._slices
        planes = [np.concatenate([self._read_page(int(page), rows, columns) for page in pages]) for pages in slices]
        return np.stack(planes, axis=1) if depth else planes[0]  # (C, D, H, W) or (C, H, W)

    def _read_page(self, number: int, rows: slice, columns: slice) -> NDArray[Any]:
        page = self._keyframe
        planes, _, _, _, samples = page.shaped
        shape = (planes, rows.stop - rows.start, columns.stop - columns.start, samples)
        out = np.full(shape, self._background, self._dtype)
        for plane, top, left, index in _segments_in(page, rows, columns):
            if self._pages[number].databytecounts[index]:  # otherwise it is missing
                segment = self._cache.get((self._number, number, index), partial(self._decode, number, index))
                down, right = top - rows.start, left - columns.start  # in `out`; the segment may reach beyond its borders
                inside = segment[max(0, -down) : max(0, shape[1] - down), max(0, -right) : max(0, shape[2] - right)]
                height, width = inside.shape[:2]
                out[plane, max(0, down) : max(0, down) + height, max(0, right) : max(0, right) + width] = inside
        return np.moveaxis(out, -1, 1).reshape(-1, *shape[1:3])  # (C, H, W)

    def _decode(self, number: int, index: int) -> NDArray[Any]:
        """Return one tile or strip, (H, W, samples)."""
        page, keyframe = self._pages[number], self._keyframe
        file = keyframe.parent.filehandle
        with file.lock:
            file.seek(page.dataoffsets[index])
            data = file.read(page.databytecounts[index])
        check_stream(data, int(keyframe.compression), segment_shape(keyframe), keyframe.samplesperpixel)
        tables = {"jpegtables": page.jpegtables} if keyframe.compression == JPEG else {}
        segment, _, _ = keyframe.decode(data, index, _fullsize=True, **tables)
        decoded: NDArray[Any] = np.asarray(segment)[0]  # (H, W, samples)
        return decoded


def is_mapped(series: TiffPageSeries) -> bool:
    """Return True if the series is contiguous and uncompressed."""
    page = series.keyframe
    plain = page.fillorder == 1 and page.predictor == 1 and page.bitspersample >= 8
    return series.dataoffset is not None and plain


def segment_shape(page: TiffPage) -> tuple[int, int]:
    """Return the size (H, W) of a tile or a whole strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def segment_bytes(page: TiffPage) -> int:
    """Return the size of a decoded tile or whole strip, bytes."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return prod(segment_shape(page)) * int(samples) * np.dtype(page.dtype).itemsize


def _segments_in(page: TiffPage, rows: slice, columns: slice) -> Iterator[tuple[int, int, int, int]]:
    """Yield plane, top, left and number of each tile or strip that overlaps a region."""
    height, width = segment_shape(page)
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    for plane in range(page.shaped[0]):
        for row in range(rows.start // height, -(-rows.stop // height)):
            for column in range(columns.start // width, -(-columns.stop // width)):
                yield plane, row * height, column * width, (plane * down + row) * across + column
