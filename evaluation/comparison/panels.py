"""Pictures of compared cases: image, reference, the masks of both methods, and where they are wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.pair_result import CasePicture, PictureTile
from evaluation.comparison.paired_difference import PairedDifference
from evaluation.rendering import overlay, overlay_disagreement, to_picture, to_png
from imaging.source import ImageSource, Region

MOST_PICTURES = 6
WINDOW_PX = 384  # part of a slide that a picture shows one to one
SMALLEST_PX = 256  # smaller pictures are enlarged by whole numbers


@dataclass(frozen=True)
class _CasePlane:
    """Plane of a case to show.

    Args:
        image: pixels (C, H, W).
        reference: labels (H, W).
        masks: labels (H, W) of both methods.
        aspect: height of a pixel divided by its width.
        where: place of the plane in the image, for the caption.
    """

    image: NDArray[Any]
    reference: NDArray[Any]
    masks: tuple[NDArray[Any], NDArray[Any]]
    aspect: float
    where: str


def draw_case_pictures(
    cases: Sequence[Case],
    masks: tuple[Sequence[Path], Sequence[Path]],
    difference: PairedDifference,
    classes: Sequence[ClassSection],
    labels: tuple[str, str],
) -> tuple[CasePicture, ...]:
    """Draw at most six cases: those where the methods differ most, in either direction, and those in the middle.

    Raises:
        DataError: an image or reference can't be read, with the case's name.
    """
    colours = [section.colour for section in classes]
    pictures = []
    for index, why in select_cases(difference.second_minus_first, labels):
        with prefix_errors(cases[index]):
            plane = _read_plane(cases[index], (masks[0][index], masks[1][index]))
        pictures.append(CasePicture(cases[index].name, why, plane.where, _draw_tiles(plane, colours, labels)))
    return tuple(pictures)


def select_cases(differences: Sequence[float], labels: tuple[str, str]) -> list[tuple[int, str]]:
    """Return the index of each case to show and why: the two lowest, middle and highest differences.

    Where no case has a difference, the first six cases.
    """
    with_difference = [index for index, value in enumerate(differences) if not math.isnan(value)]
    ranked = sorted(with_difference, key=lambda index: differences[index])
    if not ranked:
        return [(index, "no Dice to rank by") for index in range(min(MOST_PICTURES, len(differences)))]
    middle = max(0, (len(ranked) - 2) // 2)
    ranks_to_show = {0, 1, middle, middle + 1, len(ranked) - 2, len(ranked) - 1}
    selection = []
    for rank in sorted(ranks_to_show & set(range(len(ranked)))):
        difference = differences[ranked[rank]]
        result = (
            f"{labels[int(difference > 0)]} is better by {abs(difference):.3f}" if difference else "both have the same Dice"
        )
        selection.append((ranked[rank], f"{rank + 1} of {len(ranked)} by difference; {result}"))
    return selection


def _draw_tiles(plane: _CasePlane, colours: Sequence[str], labels: tuple[str, str]) -> tuple[PictureTile, ...]:
    picture = to_picture(plane.image)
    tiles = [
        ("image", f"the image, {plane.where}", picture),
        ("reference", "the reference's classes over the image", overlay(picture, plane.reference, colours)),
        *(
            (label, f"the mask of {label} over the image", overlay(picture, mask, colours))
            for label, mask in zip(labels, plane.masks, strict=True)
        ),
        ("disagreement", "where either mask is wrong", overlay_disagreement(picture, plane.reference, *plane.masks)),
    ]
    return tuple(PictureTile(title, alt, to_png(enlarge(content, plane.aspect))) for title, alt, content in tiles)


def enlarge(picture: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Repeat the pixels of a small picture, and in true proportions to whole numbers."""
    times = max(1, math.ceil(SMALLEST_PX / max(picture.shape[:2])))
    down, across = max(1, round(times * max(1.0, aspect))), max(1, round(times * max(1.0, 1 / aspect)))
    return picture.repeat(down, axis=0).repeat(across, axis=1)


def _read_plane(case: Case, masks: tuple[Path, Path]) -> _CasePlane:
    with open_case_image(case) as image, open_reference(case) as reference:
        region = region_with_most_foreground(reference)
        pixels, labels = image.read(region), reference.read(region)[0]
        ignored = labels == (-1 if case.ignore_label is None else case.ignore_label)  # shown as if the masks were right
        first, second = (np.where(ignored, labels, np.load(path, mmap_mode="r")[region]) for path in masks)
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
        where = describe_region(region, image.shape)
    if len(region) == 3:  # one slice
        pixels, labels, first, second = pixels[:, 0], labels[0], first[0], second[0]  # (C, H, W), (H, W) each
    return _CasePlane(pixels, labels, (first, second), spacing_um[-2] / spacing_um[-1], where)


def region_with_most_foreground(reference: ImageSource) -> Region:
    """Return the slice of a volume, or the window of a large 2D image, that has the most foreground."""
    shape = reference.shape
    if len(shape) == 3:
        slices = np.concatenate([(block[0] > 0).sum(axis=(1, 2)) for block in reference.blocks()])  # (D,)
        best = int(slices.argmax()) if slices.any() else shape[0] // 2
        return (slice(best, best + 1), slice(0, shape[1]), slice(0, shape[2]))
    window_sums = np.zeros([math.ceil(size / WINDOW_PX) for size in shape], np.int64)
    row = 0
    for block in reference.blocks():
        foreground = np.add.reduceat(block[0] > 0, np.arange(0, shape[1], WINDOW_PX), axis=1, dtype=np.int64)
        np.add.at(window_sums, (np.arange(row, row + len(foreground)) // WINDOW_PX), foreground)
        row += len(foreground)
    best_window = np.unravel_index(int(window_sums.argmax()), window_sums.shape)
    starts = [min(int(index) * WINDOW_PX, max(0, size - WINDOW_PX)) for index, size in zip(best_window, shape, strict=True)]
    return tuple(slice(start, min(start + WINDOW_PX, size)) for start, size in zip(starts, shape, strict=True))


def describe_region(region: Region, shape: tuple[int, ...]) -> str:
    """Describe where a slice of a volume or a part of a 2D image lies, for a caption."""
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}"
    rows, columns = region
    if (rows.stop - rows.start, columns.stop - columns.start) == shape:
        return f"the whole image, {shape[0]} x {shape[1]} pixels"
    return f"rows {rows.start} to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1} of {shape[0]} x {shape[1]}"
