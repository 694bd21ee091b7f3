"""Data sets as people declare them: nnU-Net, Decathlon, BIDS, QuPath, Slicer, colours, and 0 and 255."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 24
CASES = 5


def picture(number: int, channels: int = 3) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(number).integers(0, 255, (SIZE, SIZE, channels), np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def labels(*values: int) -> NDArray[np.uint8]:
    """Return columns of equal width with these values, (SIZE, SIZE)."""
    return np.repeat(np.array(values, np.uint8), SIZE // len(values))[None].repeat(SIZE, axis=0)


def nnunet(folder: Path, description: dict[str, Any], *values: int, cases: int = CASES, ending: str = ".png") -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for number in range(cases):
        Image.fromarray(picture(number, 1)).save(folder / f"imagesTr/c{number}_0000{ending}")
        Image.fromarray(labels(*values)).save(folder / f"labelsTr/c{number}{ending}")
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T2"}, "file_ending": ending, **description}))
    return folder


def pairs(folder: Path, *references: NDArray[np.uint8]) -> Path:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, reference in enumerate(references):
        Image.fromarray(picture(number)).save(folder / f"images/{number}.png")
        Image.fromarray(reference).save(folder / f"labels/{number}.png")
    return folder


def decathlon(folder: Path) -> Path:
    """Write volumes of CT with the labels 0 and 2."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
        for number in range(CASES):
            voxels = np.random.default_rng(number).integers(0, 100, (8, 16, 16)).astype(np.int16)
            if name == "labelsTr":
                voxels = np.where(np.arange(16) % 2, 2, 0)[None, None].repeat(8, 0).repeat(16, 1).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / name / f"v{number}.nii.gz")
    rows = [{"image": f"./imagesTr/v{number}.nii.gz", "label": f"./labelsTr/v{number}.nii.gz"} for number in range(CASES)]
    labels_of = {"0": "background", "2": "liver"}
    description = {"modality": {"0": "CT"}, "labels": labels_of, "numTraining": CASES, "training": rows}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def bids(folder: Path, suffixes: tuple[str, ...] = ("FLAIR", "T1w"), table: str = "index\tname\tcolor\n") -> Path:
    for subject in ("sub-01", "sub-02"):
        (folder / subject / "anat").mkdir(parents=True)
        for suffix in suffixes:
            seed = len(suffix) + 10 * int(subject[-1])
            voxels = np.random.default_rng(seed).integers(0, 99, (8, 8, 8)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / subject / f"anat/{subject}_{suffix}.nii.gz")
        masks = folder / "derivatives/hand" / subject / "anat"
        masks.mkdir(parents=True)
        voxels = np.zeros((8, 8, 8), np.int16)
        voxels[:2], voxels[2:4] = 17, 53
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), masks / f"{subject}_dseg.nii.gz")
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (folder / "derivatives/hand/desc-aseg_dseg.tsv").write_text(table)
    return folder


def coloured(*colours: tuple[int, int, int], palette: bool = False) -> Any:
    pixels = np.array(colours, np.uint8)[labels(*range(len(colours)))]
    if not palette:
        return pixels
    image = Image.fromarray(labels(*range(len(colours))))
    image.putpalette(np.array(colours, np.uint8).tobytes())
    return image


def outlines(path: Path, *names: str | None) -> None:
    square = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x + 10 * number, y] for x, y in square]]},
            "properties": {"classification": {"name": name}} if name else {},
        }
        for number, name in enumerate(names)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def slides(folder: Path, *names: str | None) -> Path:
    for number in range(5):
        Image.fromarray(picture(number)).save(folder / f"{number}.png")
        outlines(folder / f"{number}.geojson", *names)
    return folder


def slicer(folder: Path, layers: int = 1) -> Path:
    """Write volumes with segments in one layer, whose labels differ from case to case, or in two layers that overlap."""
    rows = ["case,image,reference"]
    for number in range(CASES):
        voxels = np.random.default_rng(number).integers(0, 99, (16, 16, 8)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{number}.nii.gz")
        grid = np.zeros((16, 16, 8, layers), np.uint8)  # (x, y, z, layer)
        segments = (
            {"liver": (1, 0), "tumour": (1, 1)} if layers == 2 else {"liver": (1 + 3 * (number % 2), 0), "tumour": (2, 0)}
        )
        grid[:4, ..., 0] = segments["liver"][0]
        label, layer = segments["tumour"]
        grid[2 if layers == 2 else 4 : 8, ..., layer] = label
        write_seg_nrrd(folder / f"{number}.seg.nrrd", grid, segments)
        rows.append(f"{number},{number}.nii.gz,{number}.seg.nrrd")
    (folder / "cases.csv").write_text("\n".join(rows))
    return folder


def write_seg_nrrd(path: Path, grid: NDArray[np.uint8], segments: Mapping[str, tuple[int, int]]) -> None:
    """Write a segmentation as 3D Slicer does.

    Args:
        path: the file.
        grid: labels (x, y, z, layers).
        segments: label and layer of each segment by its name.
    """
    layers, vectors = grid.shape[3], "(-1,0,0) (0,-1,0) (0,0,1)"
    sizes = " ".join(map(str, grid.shape[:3]))
    lines = ["NRRD0004", "# Complete NRRD file format specification at:", "# http://teem.sourceforge.net/nrrd/format.html"]
    lines += ["type: unsigned char", f"dimension: {3 if layers == 1 else 4}", "space: left-posterior-superior"]
    lines += [f"sizes: {sizes}" if layers == 1 else f"sizes: {layers} {sizes}"]
    lines += [f"space directions: {'' if layers == 1 else 'none '}{vectors}"]
    lines += [f"kinds: {'' if layers == 1 else 'list '}domain domain domain", "encoding: gzip", "space origin: (0,0,0)"]
    for number, (name, (label, layer)) in enumerate(segments.items()):
        lines += [f"Segment{number}_Color:=0.5 0.25 1", f"Segment{number}_ID:=Segment_{number + 1}"]
        lines += [f"Segment{number}_LabelValue:={label}", f"Segment{number}_Layer:={layer}", f"Segment{number}_Name:={name}"]
    voxels = (grid[..., 0] if layers == 1 else np.moveaxis(grid, 3, 0)).tobytes(order="F")
    path.write_bytes("\n".join([*lines, "", ""]).encode() + gzip.compress(voxels))
