"""OME-Zarr images and labels, 0.4 and 0.5, (C, *S), read region by region, with their pyramid's levels."""

from functools import lru_cache
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imaging.errors import ImageTooLarge, UnsuitableImage
from imaging.guards import MAX_SLIDE_PIXELS
from imaging.ome_zarr.arrays import array_layout
from imaging.ome_zarr.chunks import ZarrArray
from imaging.ome_zarr.metadata import metadata_bytes, metadata_invalid
from imaging.ome_zarr.multiscale import multiscale, no_image
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region

_CACHE_BYTES = 64 * 2**20
_MAX_CHANNELS = 256
_INSIDE = "tczyx"
_GROUP_FILES = {2: ".zattrs", 3: "zarr.json"}
_ARRAY_FILES = {2: ".zarray", 3: "zarr.json"}


class OmeZarrSource(ImageSource):
    """An image of the OME-Zarr standard: a folder with a pyramid of chunked arrays, or the folder of one of its labels.

    A read decodes the chunks that its region overlaps; recent ones are cached. A chunk without a file has the array's fill
    value, as Zarr requires: a copy that lost chunks can't be distinguished from an image without them. A z axis of length 1
    is left out, so that S = (H, W). The spacing is known only where every axis of S has a scale and a unit of length.

    Args:
        path: the folder.
        max_pixels: upper limit of pixels at level 0; None means 10**11.
        read_labels: the folder is a reference, for which more types of integers are allowed.

    Raises:
        BrokenImage: `zarr_metadata_missing`, `zarr_metadata_too_large`, `zarr_metadata_invalid`; at a read
            `chunk_unreadable`, after which other regions can still be read.
        ImageTooLarge: `image_too_large`, by the metadata.
        UnsupportedFormat: `zarr_version_not_supported`, `zarr_codec_not_supported`, `zarr_chunks_too_large`,
            `zarr_path_outside`.
        UnsuitableImage: `zarr_no_image`, `dimension_not_supported`, `pixel_format_not_supported`; at a read
            `non_finite_pixels`.
    """

    mask_format: ClassVar[MaskFormat] = "ome-zarr"

    def __init__(self, path: Path, max_pixels: int | None = None, *, read_labels: bool = False) -> None:
        root = path.resolve()
        zarr_format = 3 if (root / _GROUP_FILES[3]).exists() else 2
        if not (root / _GROUP_FILES[zarr_format]).exists():
            raise no_image()
        described = multiscale(metadata_bytes(root, root / _GROUP_FILES[zarr_format]), zarr_format=zarr_format)
        self._arrays = []
        for dataset in described.datasets:
            folder = (root / dataset.path).resolve()
            content = metadata_bytes(root, folder / _ARRAY_FILES[zarr_format])
            layout = array_layout(content, zarr_format=zarr_format, labels=read_labels)
            self._arrays.append(ZarrArray(folder, root, layout))
        self._axes = described.axes
        shapes = [self._inside_shape(array) for array in self._arrays]
        _check_shapes(shapes, self._arrays, MAX_SLIDE_PIXELS if max_pixels is None else max_pixels)
        self._is_flat = shapes[0][2] == 1
        space = "yx" if self._is_flat else "zyx"
        levels = tuple(
            Level(shape[-len(space) :], described.spacing_um(dataset, space))
            for shape, dataset in zip(shapes, described.datasets, strict=True)
        )
        chunk_bytes = max(array.layout.codec.size_bytes for array in self._arrays)
        chunks_held = max(1, min(_CACHE_BYTES // chunk_bytes, sum(array.chunks for array in self._arrays)))
        self._held_bytes = chunks_held * chunk_bytes
        self._chunk = lru_cache(chunks_held)(lambda level, number: self._arrays[level].chunk(number))
        origin_um = described.origin_um(space) if levels[0].spacing_um else None
        geometry = Geometry(levels[0].shape, levels[0].spacing_um, origin_um=origin_um)
        dtype = self._arrays[0].layout.codec.dtype.newbyteorder("=")
        super().__init__(geometry, shapes[0][1], dtype, levels)

    @property
    def held_bytes(self) -> int:
        """Upper limit of the chunks in the cache."""
        return self._held_bytes

    def _inside_shape(self, array: ZarrArray) -> tuple[int, ...]:
        """Return the array's sizes as (T, C, D, H, W), 1 for each missing axis."""
        if len(array.layout.shape) != len(self._axes):
            raise metadata_invalid()
        sizes = dict(zip(self._axes, array.layout.shape, strict=True))
        return tuple(sizes.get(axis, 1) for axis in _INSIDE)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        space = (slice(0, 1), *region) if self._is_flat else region
        slices = dict(zip(_INSIDE, (slice(0, 1), slice(0, self.channels), *space), strict=True))
        array, stored_region = self._arrays[level], [slices[axis] for axis in self._axes]  # in the file's order of axes
        pixels = np.full([axis.stop - axis.start for axis in stored_region], array.layout.fill, self.dtype)
        for number in array.chunks_in(tuple(stored_region)):
            chunk = self._chunk(level, number)
            if chunk is None:
                continue
            inner, outer = [], []  # the overlap of chunk and region, in the chunk and in `pixels`
            for index, size, axis in zip(number, chunk.shape, stored_region, strict=True):
                start = index * size
                first, last = max(start, axis.start), min(start + size, axis.stop)
                inner.append(slice(first - start, last - start))
                outer.append(slice(first - axis.start, last - axis.start))
            pixels[tuple(outer)] = chunk[tuple(inner)]
        order = [self._axes.index(axis) for axis in _INSIDE if axis in self._axes]
        shape = [axis.stop - axis.start for axis in region]
        pixels = np.ascontiguousarray(pixels.transpose(order)).reshape(self.channels, *shape)  # (C, *S)
        if self.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise UnsuitableImage(
                "non_finite_pixels", "the OME-Zarr holds pixels that are NaN or infinite; replace them with numbers"
            )
        return pixels

    def close(self) -> None:
        """Release the chunks in the cache."""
        self._chunk.cache_clear()


def is_zarr(folder: Path) -> bool:
    """Return True if a folder is a Zarr group or array of format 2 or 3."""
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))


def _check_shapes(shapes: list[tuple[int, ...]], arrays: list[ZarrArray], limit: int) -> None:
    times, channels, *space = shapes[0]
    if times > 1 or channels > _MAX_CHANNELS:
        raise UnsuitableImage(
            "dimension_not_supported",
            f"the OME-Zarr has {times} times and {channels} channels, 1 and at most {_MAX_CHANNELS} are allowed; "
            "save one time of a series at a time",
        )
    if prod(space) > limit:
        raise ImageTooLarge(
            "image_too_large",
            f"the OME-Zarr has {prod(space)} pixels, at most {limit} are allowed; cut out the part that matters",
            limit,
        )
    kinds = {array.layout.codec.dtype.newbyteorder("=") for array in arrays}
    if len(kinds) > 1 or any(shape[:2] != (times, channels) for shape in shapes):
        raise metadata_invalid()
    if any(after > before for pair in pairwise(shapes) for before, after in zip(*pair, strict=True)):
        raise metadata_invalid()
