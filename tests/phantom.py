"""Synthetic slides and volumes with known masks, for tests and demonstrations."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from tifffile import TiffWriter

from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.writing.band_writer import open_writer

Labels = NDArray[np.uint8]

CLASSES = (
    ClassSection(name="background", colour="#000000"),
    ClassSection(name="first", colour="#e6194b"),
    ClassSection(name="second", colour="#3cb44b"),
    ClassSection(name="third", colour="#4363d8"),
    ClassSection(name="fourth", colour="#f58231"),
)

_STROMA = (232.0, 180.0, 205.0)  # eosin's pink
_NUCLEUS = (110.0, 70.0, 150.0)  # haematoxylin's purple
_SPLITS = ("train", "val", "test")


def draw_slide(
    shape: tuple[int, int], seed: int, *, radius_px: float = 9.0, share: float = 0.2
) -> tuple[NDArray[np.uint8], Labels]:
    """Return an image that resembles haematoxylin and eosin, and its mask.

    Args:
        shape: (H, W).
        seed: equal seeds draw equal pictures.
        radius_px: mean radius of the purple blobs.
        share: of the area, about, that blobs cover.

    Returns:
        The image (3, H, W) and its mask (H, W): 0 background, 1 blob.
    """
    random = np.random.default_rng(seed)
    mask = _blobs(shape, random, radius_px, share)
    texture = gaussian_filter(random.normal(size=shape), 4.0) * 60.0  # (H, W)
    edge = gaussian_filter(mask.astype(np.float64), 0.8)
    background, nucleus = (np.reshape(colour, (3, 1, 1)) for colour in (_STROMA, _NUCLEUS))
    image = background + (nucleus - background) * edge + texture + random.normal(scale=6.0, size=(3, *shape))
    return image.clip(0, 255).astype(np.uint8), mask


def draw_volume(
    shape: tuple[int, int, int], seed: int, classes: int = 3, *, dtype: type[np.generic] = np.float32
) -> tuple[NDArray[Any], Labels]:
    """Return a volume of ellipsoids, one or two per class, with noise and a smooth bias field, and its mask.

    Args:
        shape: (D, H, W).
        seed: equal seeds draw equal volumes.
        classes: labels with the background, at least 2.
        dtype: of the image, float32 or int16.

    Returns:
        The image (1, D, H, W) and its mask (D, H, W) with labels 0 to `classes` - 1.
    """
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for label in range(1, classes):
        for _ in range(2):
            mask[_ellipsoid(shape, random)] = label
        mask[tuple(size * label // classes for size in shape)] = label  # none is covered wholly by the next
    levels = np.linspace(200.0, 1000.0, classes)
    bias = 1.0 + 0.2 * np.sin(_grid(shape).sum(axis=0) * 1.5 + random.uniform(0, 6))
    image = levels[mask] * bias + random.normal(scale=25.0, size=shape)
    return image[None].astype(dtype), mask


def write_slide_dataset(
    folder: Path, *, cases: int = 4, shape: tuple[int, int] = (128, 128), seed: int = 0, splits: Sequence[str] = ()
) -> Path:
    """Write cases.csv, images/ and references/ (PNG), and return the path of cases.csv."""
    names = _folders(folder, cases, ".png")
    for index, (image_path, reference_path) in enumerate(names):
        image, mask = draw_slide(shape, seed + index)
        Image.fromarray(np.moveaxis(image, 0, -1).copy()).save(folder / image_path)
        _write_mask(folder / reference_path, mask, Geometry(shape))
    return _write_cases(folder, names, splits)


def write_volume_dataset(
    folder: Path,
    *,
    cases: int = 4,
    shape: tuple[int, int, int] = (24, 32, 32),
    seed: int = 0,
    classes: int = 3,
    spacing_um: tuple[float, float, float] = (1000.0, 1000.0, 1000.0),
    splits: Sequence[str] = (),
) -> Path:
    """Write cases.csv, images/ and references/ (.nii.gz, float32 and uint8), and return the path of cases.csv."""
    names = _folders(folder, cases, ".nii.gz")
    for index, (image_path, reference_path) in enumerate(names):
        image, mask = draw_volume(shape, seed + index, classes)
        write_volume(folder / image_path, image[0], spacing_um)
        _write_mask(folder / reference_path, mask, Geometry(shape, spacing_um))
    return _write_cases(folder, names, splits)


def write_volume(path: Path, voxels: NDArray[Any], spacing_um: tuple[float, ...]) -> None:
    """Write (D, H, W) voxels as NIfTI, with axes along those of the patient."""
    affine = np.diag([*(value / 1000 for value in reversed(spacing_um)), 1.0])
    nib.Nifti1Image(voxels.transpose(), affine).to_filename(path)


def write_pyramid_slide(path: Path, image: NDArray[np.uint8], spacing_um: float = 0.25, *, levels: int = 3) -> None:
    """Write (3, H, W) as a tiled pyramid that OpenSlide reads as Aperio's; each level halves the one before."""
    pixels = np.moveaxis(image, 0, -1)  # (H, W, 3)
    height, width = image.shape[1:]
    text = f"Aperio Image Library v12\n{width}x{height} (256x256)|AppMag = 40|MPP = {spacing_um}"
    common: dict[str, Any] = {
        "photometric": "rgb",
        "compression": "zlib",
        "metadata": None,
        "software": False,
        "description": text,
    }
    with TiffWriter(path) as tiff:
        for level in range(levels):
            step = 2**level
            halved = pixels[: height // step * step : step, : width // step * step : step]
            tiff.write(np.ascontiguousarray(halved), tile=(256, 256), **common)
            if level == 0:  # Aperio's second page is a thumbnail without tiles
                tiff.write(np.ascontiguousarray(pixels[::8, ::8]), **common)


def _blobs(shape: tuple[int, int], random: np.random.Generator, radius_px: float, share: float) -> Labels:
    mask = np.zeros(shape, np.uint8)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for _ in range(max(1, round(share * shape[0] * shape[1] / (np.pi * radius_px**2)))):
        row, column = random.uniform(0, shape[0]), random.uniform(0, shape[1])
        tall, wide = radius_px * random.uniform(0.7, 1.3, 2)
        mask[((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2 <= 1] = 1
    return mask


def _grid(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return coordinates (axes, *shape), each from -1 to 1."""
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))


def _ellipsoid(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.bool_]:
    grid = _grid(shape)
    edge = (len(shape),) + (1,) * len(shape)
    centre, radius = random.uniform(-0.6, 0.6, edge), random.uniform(0.25, 0.5, edge)
    inside: NDArray[np.bool_] = (((grid - centre) / radius) ** 2).sum(axis=0) <= 1
    return inside


def _folders(folder: Path, cases: int, suffix: str) -> list[tuple[str, str]]:
    for name in ("images", "references"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return [(f"images/case{index:03d}{suffix}", f"references/case{index:03d}{suffix}") for index in range(cases)]


def _write_mask(path: Path, mask: Labels, geometry: Geometry) -> None:
    with open_writer(path, geometry, format="png" if mask.ndim == 2 else "nifti", classes=CLASSES) as writer:
        writer.write(0, mask)


def _write_cases(folder: Path, names: list[tuple[str, str]], splits: Sequence[str]) -> Path:
    """Return the split of each case; without `splits` the last is test, the one before val, and all others train."""
    given = list(splits) or [_SPLITS[min(index, max(0, index - len(names) + 3))] for index in range(len(names))]
    path = folder / "cases.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("case", "image", "reference", "split"))
        for (image, reference), split in zip(names, given, strict=True):
            table.writerow((Path(image).name.split(".")[0], image, reference, split))
    return path
