"""Small data sets with masks, written as real files, for the tests of scoring."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

REFERENCES = {  # by case
    "a": np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 2], [0, 0, 0, 0, 2]], np.uint8),
    "b": np.array([[1, 1, 0, 0, 0], [1, 1, 0, 2, 2], [0, 0, 0, 2, 2]], np.uint8),
}


def write_image(path: Path, pixels: NDArray[Any], spacing_mm: Sequence[float] = (1, 1, 1)) -> Path:
    """Write pixels as PNG, TIFF or NIfTI, whose axes are turned so that they are read as they are here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        voxels = np.transpose(pixels)[::-1, ::-1]  # (right to left, anterior to posterior, superior)
        affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    elif path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def write_data(
    folder: Path,
    references: Mapping[str, NDArray[Any]] = REFERENCES,
    *,
    suffix: str = ".png",
    columns: Mapping[str, Mapping[str, str]] | None = None,
    spacing_mm: Sequence[float] = (1, 1, 1),
) -> Path:
    """Write a data set whose images are blank, with the given further columns by case, and return its folder."""
    rows = []
    for index, (name, reference) in enumerate(references.items()):
        image = write_image(folder / f"images/{index}{suffix}", np.full(reference.shape, 100, np.uint8), spacing_mm)
        labels = write_image(folder / f"references/{index}{suffix}", reference, spacing_mm)
        paths = {"image": image.relative_to(folder).as_posix(), "reference": labels.relative_to(folder).as_posix()}
        rows.append({"case": name, **paths, **(columns or {}).get(name, {})})
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, dict.fromkeys(key for row in rows for key in row))
        table.writeheader()
        table.writerows(rows)
    return folder


def write_masks(folder: Path, masks: Mapping[str, NDArray[Any]]) -> Path:
    """Write masks by file name, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        write_image(folder / name, mask)
    return folder
