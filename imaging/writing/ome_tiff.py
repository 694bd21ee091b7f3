"""Tiled, pyramidal OME-TIFF of a mask or probabilities, 2D or 3D, tile by tile."""

import struct
from collections.abc import Iterator, Sequence
from itertools import product
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFormat, TiffWriter

from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.writing.row_buffer import RowBuffer

_TILE = 512
_BIG_TIFF_BYTES = 2**31
_BUFFER_BYTES = 16 * 2**20
_NO_UUID = "urn:uuid:00000000-0000-0000-0000-000000000000"  # the default depends on time and machine


def write_ome_tiff(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write (H, W), (D, H, W), (K, H, W) or (K, D, H, W) with levels of nearest pixels; D isn't reduced.

    The levels are the first page's SubIFDs, as OME-TIFF requires for Bio-Formats (and QuPath) and tifffile. In a file with one
    page, they also follow it in the chain of pages, where OpenSlide looks for them.

    Source: OME-TIFF specification 6.3, "Sub-resolutions".
    """
    steps = rows.pyramid_steps
    resolution: dict[str, Any] = {}
    with TiffWriter(path, bigtiff=rows.size_bytes > _BIG_TIFF_BYTES, ome=True) as tiff:
        for step in steps:
            if geometry.spacing_um is not None:  # (x, y) in pixels per centimetre, for OpenSlide
                y, x = (1e4 / (spacing * step) for spacing in geometry.spacing_um[-2:])
                resolution = {"resolution": (x, y), "resolutionunit": "CENTIMETER"}
            tiff.write(
                _tiles(rows, step),
                shape=(*rows.shape[:-2], *(-(-size // step) for size in rows.shape[-2:])),
                dtype=rows.dtype,
                tile=(_TILE, _TILE),
                photometric="minisblack",
                compression="zlib",
                subfiletype=0 if step == 1 else 1,
                subifds=len(steps) - 1 if step == 1 else None,
                metadata=_ome(rows, geometry, classes) if step == 1 else None,
                software=False,
                buffersize=_BUFFER_BYTES,
                **resolution,
            )
    if len(rows.shape) == 2:
        _chain_levels(path)


def _tiles(pixels: RowBuffer, step: int) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a level, page by page; those at the border are padded with zeros."""
    for plane in product(*(range(size) for size in pixels.shape[:-2])):
        page = tuple(slice(index, index + 1) for index in plane)
        for top in range(0, pixels.shape[-2], _TILE * step):
            band = pixels.read((*page, slice(top, top + _TILE * step, step), slice(None, None, step)))
            band = band.reshape(-1, band.shape[-1])  # (rows, W)
            for left in range(0, band.shape[1], _TILE):
                part = band[:, left : left + _TILE]
                tile = np.zeros((_TILE, _TILE), pixels.dtype)
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile


def _ome(pixels: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> dict[str, Any]:
    """Return the metadata from which tifffile makes OME-XML."""
    space = "ZYX"[-len(geometry.shape) :]
    has_classes = len(pixels.shape) > len(space)
    metadata: dict[str, Any] = {"UUID": _NO_UUID, "axes": "C" + space if has_classes else space}
    if has_classes:
        metadata["Channel"] = {"Name": [section.name for section in classes]}
    for axis, value in zip(space, geometry.spacing_um or (), strict=False):
        metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _chain_levels(path: Path) -> None:
    """Append a copy of each level's directory, without its tiles, and chain the directories."""
    with TiffFile(path) as tiff:
        page, layout = tiff.pages.first, tiff.tiff
        levels = [level.offset for level in page.pages or ()]
    with path.open("r+b") as file:
        link = page.offset + len(_directory(file, page.offset, layout))  # the first directory's link to the next one
        for level in levels:
            directory = _directory(file, level, layout)
            end = file.seek(0, SEEK_END)
            place = end + end % 2  # TIFF requires an even offset
            file.write(bytes(place - end) + directory + bytes(layout.offsetsize))
            file.seek(link)
            file.write(struct.pack(layout.offsetformat, place))
            link = place + len(directory)


def _directory(file: BinaryIO, place: int, layout: TiffFormat) -> bytes:
    """Return a page's tags as they are stored in the file."""
    file.seek(place)
    count = file.read(layout.tagnosize)
    return count + file.read(struct.unpack(layout.tagnoformat, count)[0] * layout.tagsize)
