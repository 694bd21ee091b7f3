"""A complete mask -> one file, a function a format."""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor
from tifffile import TiffWriter

from imaging.source import Geometry
from imaging.volumes import to_file

Labels = NDArray[np.uint8]

_TILE = 512
_SMALLEST_LEVEL = 1024  # the pyramid ends when its longer side isn't larger
_BIG_TIFF_BYTES = 2**31
_NIFTI1_LONGEST_AXIS = 32767
_ALIGNED_CODE = 2  # NIfTI's "aligned to something else": an affine without a code would be ignored


def write_png(path: Path, labels: Labels, geometry: Geometry, colours: Sequence[str]) -> None:
    """A palette PNG of 8 bits: values are the labels (H, W), colours are what people see."""
    palette = [value for colour in colours for value in ImageColor.getcolor(colour, "RGB")]  # type: ignore[union-attr]
    image = Image.fromarray(labels)
    image.putpalette(palette + [0] * (768 - len(palette)))  # whole, or Pillow packs labels into fewer bits
    image.save(path, format="png")


def write_tiff(path: Path, labels: Labels, geometry: Geometry, colours: Sequence[str]) -> None:
    """A tiled grey TIFF of the labels (H, W) with a pyramid of nearest pixels; OpenSlide and tifffile see its levels."""
    step = 1
    with TiffWriter(path, bigtiff=labels.size > _BIG_TIFF_BYTES) as tiff:
        while step == 1 or max(labels.shape) > _SMALLEST_LEVEL * step // 2:
            level = labels[::step, ::step]
            tiff.write(
                _tiles(level),
                shape=level.shape,
                dtype=np.uint8,
                tile=(_TILE, _TILE),
                photometric="minisblack",
                compression="zlib",
                subfiletype=0 if step == 1 else 1,
                metadata=None,
                software=False,
                **_resolution(geometry, step),
            )
            step *= 2


def write_nifti(path: Path, labels: Labels, geometry: Geometry, colours: Sequence[str]) -> None:
    """The labels (D, H, W) turned back as the file was, under a fresh header: nothing of the image's but where it lies."""
    affine = _affine(geometry)
    array = to_file(labels, affine)  # (x, y, z)
    kind = nib.Nifti1Image if max(array.shape) <= _NIFTI1_LONGEST_AXIS else nib.Nifti2Image
    image = kind(array, None)
    header = image.header
    header.set_xyzt_units("mm")
    header.set_qform(affine, geometry.affine_codes[1])
    header.set_sform(affine, geometry.affine_codes[0])
    if not any(geometry.affine_codes) and not np.allclose(header.get_base_affine(), affine):
        header.set_sform(affine, _ALIGNED_CODE)
    with path.open("wb") as file:
        if path.suffix != ".gz":
            image.to_stream(file)
            return
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:  # no name and no time inside: equal masks, equal files
            image.to_stream(packed)


def _tiles(level: Labels) -> Iterator[Labels]:
    for top in range(0, level.shape[0], _TILE):
        for left in range(0, level.shape[1], _TILE):
            part = level[top : top + _TILE, left : left + _TILE]
            tile = np.zeros((_TILE, _TILE), np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _resolution(geometry: Geometry, step: int) -> dict[str, Any]:
    """TIFF's (x, y) in pixels per centimetre."""
    if geometry.spacing_um is None:
        return {}
    y, x = (1e4 / (spacing * step) for spacing in geometry.spacing_um)
    return {"resolution": (x, y), "resolutionunit": "CENTIMETER"}


def _affine(geometry: Geometry) -> NDArray[np.float64]:
    """The geometry's own; without one, axes along the patient's with the spacing."""
    if geometry.affine is not None:
        return geometry.affine
    spacing_um = geometry.spacing_um or (1000.0, 1000.0, 1000.0)
    return np.diag([*(value / 1000 for value in reversed(spacing_um)), 1.0])
