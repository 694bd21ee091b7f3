"""Pixel spacing of a TIFF, from OME-XML, ImageJ's metadata or the resolution tags."""

import re
from math import isfinite

from tifffile import TiffFile, TiffPage

Spacing = tuple[float, ...]

_UM_PER_UNIT = {
    "nm": 0.001, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4,
    "inch": 25400.0, "m": 1e6,
}  # fmt: skip
_UM_PER_TAG_UNIT = {2: 25400.0, 3: 1e4}  # inch, centimetre
_PRINT_DPI = {
    72,
    96,
    100,
    120,
    150,
    180,
    200,
    240,
    300,
    350,
    360,
    400,
    600,
    1200,
}  # defaults without meaning
_COARSEST_TAG_UM = 100.0
_OME_HEAD = 2**16  # characters: the first element contains the sizes; no XML is parsed


def spacing_um(tiff: TiffFile, axes: str) -> Spacing | None:
    """Return level 0's spacing along the axes in micrometres; None where the file gives not all of them, or invalid ones.

    Args:
        tiff: the open file.
        axes: "YX", or "ZYX" for a Z stack.
    """
    page = tiff.pages.first
    if tiff.is_ome:
        text = (tiff.ome_metadata or "")[:_OME_HEAD]
        sizes = []
        for axis in axes:
            size = re.search(rf'\sPhysicalSize{axis}="([0-9.eE+-]+)"', text)
            unit = re.search(rf'\sPhysicalSize{axis}Unit="([^"]*)"', text)
            scale = _UM_PER_UNIT.get(unit.group(1)) if unit else 1.0  # OME's default is the micrometre
            if size and scale:
                sizes.append(float(size.group(1)) * scale)
        spacing = tuple(sizes) if len(sizes) == len(axes) else None
    else:
        spacing = _imagej(tiff, page, axes) if tiff.is_imagej else _tags(page, axes)
    return spacing if spacing and all(isfinite(value) and value > 0 for value in spacing) else None


def _imagej(tiff: TiffFile, page: TiffPage, axes: str) -> Spacing | None:
    metadata = tiff.imagej_metadata or {}
    scale = _UM_PER_UNIT.get(str(metadata.get("unit", "")).lower())
    x, y = page.resolution
    if not scale or x <= 0 or y <= 0:
        return None
    depth = (float(metadata.get("spacing", 0)) * scale,) if axes == "ZYX" else ()  # missing where it was not set
    return (*depth, scale / y, scale / x)


def _tags(page: TiffPage, axes: str) -> Spacing | None:
    scale = _UM_PER_TAG_UNIT.get(int(page.resolutionunit))
    x, y = page.resolution
    if axes != "YX" or scale is None or x <= 0 or y <= 0 or (scale == _UM_PER_TAG_UNIT[2] and x in _PRINT_DPI):
        return None
    return (scale / y, scale / x) if max(scale / y, scale / x) <= _COARSEST_TAG_UM else None
