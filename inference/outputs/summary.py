"""Summary of an image's mask: size, share and number of objects of each class, as `STEM_summary.json`."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from disk.publish import publish
from imaging.source import Geometry
from inference.plan import ImagePlan
from inference.regions.tissue import Tissue

SUMMARY = "_summary.json"  # end of the file's name

Counts = NDArray[np.int64]


class PixelCounts:
    """Number of pixels of each class, in the whole mask and in its tissue, counted band by band.

    Args:
        classes: K.
        shape: (*S) of the mask.
        tissue: tissue of the slide; None: it was not looked for.
    """

    def __init__(self, classes: int, shape: tuple[int, ...], tissue: Tissue | None = None) -> None:
        self.in_image: Counts = np.zeros(classes, np.int64)
        self.in_tissue: Counts | None = None if tissue is None else np.zeros(classes, np.int64)
        self._shape = shape
        self._tissue = tissue

    def add(self, start: int, rows: NDArray[np.uint8]) -> None:
        """Count the rows (rows, *rest) of the mask that begin at row `start`."""
        self.in_image += np.bincount(rows.reshape(-1), minlength=self.in_image.size)
        if self._tissue is not None and self.in_tissue is not None:
            is_tissue = self._tissue.of_rows(slice(start, start + len(rows)), self._shape)
            self.in_tissue += np.bincount(rows[is_tissue], minlength=self.in_tissue.size)


def summary_of(
    plan: ImagePlan, image: str | None, remarks: Sequence[str], pixels: PixelCounts, objects: Counts | None = None
) -> dict[str, Any]:
    """Return the content of `STEM_summary.json`. What needs a spacing is left out where the image has none.

    Args:
        plan: plan of the image.
        image: name of the image; None: not known.
        remarks: stable codes of the remarks about the image and the mask.
        pixels: counts of the whole mask.
        objects: number of objects (K,) of each class; None: objects were not looked for.
    """
    geometry, classes = plan.source.geometry, plan.predictor.config.data.classes
    tissue_pixels = None if pixels.in_tissue is None else int(pixels.in_tissue.sum())
    content: dict[str, Any] = {
        "image": image,
        "shape": list(geometry.shape),
        "spacing_um": None if geometry.spacing_um is None else list(geometry.spacing_um),
        "remarks": [code for code in remarks if code != "constant_image" or plan.first_row == 0],  # all pixels were read
        "pixels": prod(geometry.shape),
        **_size(prod(geometry.shape), geometry),
    }
    if tissue_pixels is not None:
        share = tissue_pixels / prod(geometry.shape)
        content["tissue"] = {"pixels": tissue_pixels, "share_of_image": share, **_size(tissue_pixels, geometry)}
    content["classes"] = []
    for label, section in enumerate(classes):
        part = {"name": section.name, "label": label, **_pixel_part(label, pixels, geometry)}
        if objects is not None and label > 0:
            part |= _object_part(int(objects[label]), geometry, tissue_pixels)
        content["classes"].append(part)
    return content


def write_summary(path: Path, content: dict[str, Any], temporary_folder: Path | None = None) -> None:
    """Write a summary; `temporary_folder` is that of `publish`."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    publish(path, lambda part: part.write_text(text, encoding="utf-8"), temporary_folder)


def _pixel_part(label: int, pixels: PixelCounts, geometry: Geometry) -> dict[str, Any]:
    """Return the pixels of a class, their size and their shares."""
    count = int(pixels.in_image[label])
    part: dict[str, Any] = {"pixels": count, **_size(count, geometry), "share_of_image": count / prod(geometry.shape)}
    if pixels.in_tissue is not None:
        tissue_pixels = int(pixels.in_tissue.sum())
        part["share_of_tissue"] = int(pixels.in_tissue[label]) / tissue_pixels if tissue_pixels else None
    return part


def _object_part(objects: int, geometry: Geometry, tissue_pixels: int | None) -> dict[str, Any]:
    """Return the number of a class's objects and, in 2D with a spacing, their density."""
    part: dict[str, Any] = {"objects": objects}
    area_mm2 = _size(prod(geometry.shape), geometry).get("area_mm2")
    if area_mm2:
        part["objects_per_mm2"] = objects / area_mm2
        if tissue_pixels:
            part["objects_per_mm2_of_tissue"] = objects / _size(tissue_pixels, geometry)["area_mm2"]
    return part


def _size(pixels: int, geometry: Geometry) -> dict[str, float]:
    """Return the area, or in 3D the volume, of a number of pixels; empty without a spacing."""
    if geometry.spacing_um is None:
        return {}
    size_um = pixels * prod(geometry.spacing_um)
    if len(geometry.spacing_um) == 2:
        return {"area_um2": size_um, "area_mm2": size_um / 1e6}
    return {"volume_mm3": size_um / 1e9, "volume_ml": size_um / 1e12}
