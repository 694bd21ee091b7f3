"""OME-Zarr folder of a mask or probabilities, 2D or 3D, chunk by chunk."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import zarr
from PIL import ImageColor

from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.writing.row_buffer import RowBuffer

_VERSION = "0.4"  # in Zarr 2, which every viewer reads; only some read 0.5 in Zarr 3
_PLANE_CHUNK = (1024, 1024)
_STACK_CHUNK = (64, 256, 256)
_CHUNKS_AT_ONCE = 8
_COMPRESSION = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0}  # zlib takes ten times as long


def write_ome_zarr(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write (*S) as labels with their colours, (K, *S) as channels, with levels of nearest pixels.

    A level's first pixel is that of level 0, so that all levels have the geometry's origin. D isn't reduced. Chunks of zeros
    have no file.

    Source: OME-NGFF 0.4, "multiscales", "image-label" and "omero" metadata.
    """
    steps = [(1,) * (len(rows.shape) - 2) + (step, step) for step in rows.pyramid_steps]
    group = zarr.open_group(path, mode="w-", zarr_format=2)
    space = _STACK_CHUNK if len(geometry.shape) == 3 else _PLANE_CHUNK
    chunk = (1,) * (len(rows.shape) - len(space)) + space
    for level, step in enumerate(steps):
        _write_level(group, f"{level}", rows, step, chunk)
    group.attrs.update({"multiscales": [_multiscale(rows, geometry, steps)], **_class_metadata(rows, geometry, classes)})


def _write_level(group: zarr.Group, name: str, pixels: RowBuffer, step: tuple[int, ...], chunk: tuple[int, ...]) -> None:
    shape = tuple(-(-size // each) for size, each in zip(pixels.shape, step, strict=True))
    array = group.create_array(
        name,
        shape=shape,
        dtype=pixels.dtype,
        chunks=chunk,
        compressors=_COMPRESSION,
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    block = (*chunk[:-1], chunk[-1] * _CHUNKS_AT_ONCE)
    for corner in product(*(range(0, size, part) for size, part in zip(shape, block, strict=True))):
        place = tuple(slice(start, min(start + part, size)) for start, part, size in zip(corner, block, shape, strict=True))
        region = (slice(axis.start * each, axis.stop * each, each) for axis, each in zip(place, step, strict=True))
        array[place] = pixels.read(tuple(region))


def _multiscale(pixels: RowBuffer, geometry: Geometry, steps: list[tuple[int, ...]]) -> dict[str, Any]:
    channels = len(pixels.shape) - len(geometry.shape)
    unit = {} if geometry.spacing_um is None else {"unit": "micrometer"}
    axes = [{"name": name, "type": "space", **unit} for name in "zyx"[-len(geometry.shape) :]]
    spacing_um = geometry.spacing_um or (1.0,) * len(geometry.shape)
    datasets = []
    for level, step in enumerate(steps):
        scale = [1.0] * channels + [um * each for um, each in zip(spacing_um, step[channels:], strict=True)]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if geometry.origin_um is not None:
            transformations.append({"type": "translation", "translation": [0.0] * channels + list(geometry.origin_um)})
        datasets.append({"path": f"{level}", "coordinateTransformations": transformations})
    axes = [{"name": "c", "type": "channel"}] * channels + axes
    name = "probabilities" if channels else "labels"
    return {"version": _VERSION, "name": name, "type": "nearest", "axes": axes, "datasets": datasets}


def _class_metadata(pixels: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> dict[str, Any]:
    """Return the metadata of the labels, the channels or the numbers of objects; the background is transparent."""
    if len(pixels.shape) > len(geometry.shape):
        top = 255 if pixels.dtype.kind == "u" else 1
        display = {"window": {"min": 0, "max": top, "start": 0, "end": top}, "active": True}
        channels = [{"label": section.name, "color": section.colour[1:], **display} for section in classes]
        return {"omero": {"version": _VERSION, "channels": channels}}
    if not classes:  # numbers of objects
        return {"image-label": {"version": _VERSION}}
    colours = [(*ImageColor.getrgb(section.colour), 255 if label else 0) for label, section in enumerate(classes)]
    return {
        "image-label": {
            "version": _VERSION,
            "colors": [{"label-value": label, "rgba": list(rgba)} for label, rgba in enumerate(colours)],
            "properties": [{"label-value": label, "class": section.name} for label, section in enumerate(classes)],
        }
    }
