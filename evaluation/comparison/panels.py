"""Cases and their masks -> rows of pictures: image, reference, both methods, and where these disagree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from datasets.cases import Case, about, open_case_image
from datasets.references import open_reference
from evaluation.comparison.paired_difference import Difference
from evaluation.comparison.result import CasePicture, PictureTile
from evaluation.rendering import disagreement, overlay, to_picture, to_png
from imaging.source import ImageSource, Region

MOST_PICTURES = 6
WINDOW_PX = 384  # of a slide, as many pixels as a picture can show one to one
SMALLEST_PX = 256  # smaller pictures are enlarged by whole numbers


@dataclass(frozen=True)
class _View:
    """One plane of a case: pixels (C, H, W), labels (H, W), and the height of a pixel divided by its width."""

    image: NDArray[Any]
    reference: NDArray[Any]
    masks: tuple[NDArray[Any], NDArray[Any]]
    aspect: float
    where: str


def case_pictures(
    cases: Sequence[Case],
    masks: tuple[Sequence[Path], Sequence[Path]],
    difference: Difference,
    classes: Sequence[ClassSection],
    labels: tuple[str, str],
) -> tuple[CasePicture, ...]:
    """Pictures of at most six cases: the two methods' best, worst and middling ones against each other.

    Raises:
        DataError: with the case's name.
    """
    colours = [section.colour for section in classes]
    pictures = []
    for index, why in chosen(difference.second_minus_first, labels):
        with about(cases[index]):
            view = _view(cases[index], (masks[0][index], masks[1][index]))
        pictures.append(CasePicture(cases[index].name, why, view.where, _tiles(view, colours, labels)))
    return tuple(pictures)


def chosen(differences: Sequence[float], labels: tuple[str, str]) -> list[tuple[int, str]]:
    """Index and reason of the cases to show, at most six: the two lowest, middle and highest differences.

    Where no case has a difference, the first six.
    """
    valued = [index for index, value in enumerate(differences) if not math.isnan(value)]
    if not valued:
        return [(index, "no Dice to rank by") for index in range(min(MOST_PICTURES, len(differences)))]
    ranked = sorted(valued, key=lambda index: differences[index])
    middle = max(0, (len(ranked) - 2) // 2)
    order = [0, 1, middle, middle + 1, len(ranked) - 2, len(ranked) - 1]
    places = sorted({place for place in order if 0 <= place < len(ranked)})
    return [(ranked[place], _why(place, len(ranked), differences[ranked[place]], labels)) for place in places]


def _why(place: int, count: int, difference: float, labels: tuple[str, str]) -> str:
    rank = f"{place + 1} of {count} by difference"
    if difference == 0:
        return f"{rank}; both have the same Dice"
    return f"{rank}; {labels[int(difference > 0)]} is better by {abs(difference):.3f}"


def _tiles(view: _View, colours: Sequence[str], labels: tuple[str, str]) -> tuple[PictureTile, ...]:
    picture = to_picture(view.image)
    shown = [
        ("image", f"the image, {view.where}", picture),
        ("reference", "the reference's classes over the image", overlay(picture, view.reference, colours)),
        *(
            (label, f"the mask of {label} over the image", overlay(picture, mask, colours))
            for label, mask in zip(labels, view.masks, strict=True)
        ),
        ("disagreement", "where either mask is wrong", disagreement(picture, view.reference, *view.masks)),
    ]
    return tuple(PictureTile(title, alt, to_png(enlarged(drawn, view.aspect))) for title, alt, drawn in shown)


def enlarged(picture: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """Pixels repeated until the picture is large enough, and of the true proportions (to whole numbers)."""
    times = max(1, math.ceil(SMALLEST_PX / max(picture.shape[:2])))
    tall, wide = max(1, round(times * max(1.0, aspect))), max(1, round(times * max(1.0, 1 / aspect)))
    return picture.repeat(tall, axis=0).repeat(wide, axis=1)


def _view(case: Case, masks: tuple[Path, Path]) -> _View:
    with open_case_image(case) as image, open_reference(case) as reference:
        region = telling_region(reference)
        pixels, labels = image.read(region), reference.read(region)[0]
        ignored = labels == (-1 if case.ignore_label is None else case.ignore_label)  # there a mask is neither right nor wrong
        first, second = (np.where(ignored, labels, np.load(path, mmap_mode="r")[region]) for path in masks)
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
        where = _where(region, image.shape)
    if len(region) == 3:  # one slice: its axis goes
        pixels, labels, first, second = pixels[:, 0], labels[0], first[0], second[0]
    return _View(pixels, labels, (first, second), spacing_um[-2] / spacing_um[-1], where)


def telling_region(reference: ImageSource) -> Region:
    """A volume's slice with the most foreground; of a large picture, the window with the most."""
    shape = reference.shape
    if len(shape) == 3:
        slices = np.concatenate([(block[0] > 0).sum(axis=(1, 2)) for block in reference.blocks()])  # (D,)
        best = int(slices.argmax()) if slices.any() else shape[0] // 2
        return (slice(best, best + 1), slice(0, shape[1]), slice(0, shape[2]))
    sums = np.zeros([math.ceil(size / WINDOW_PX) for size in shape], np.int64)
    row = 0
    for block in reference.blocks():
        foreground = np.add.reduceat(block[0] > 0, np.arange(0, shape[1], WINDOW_PX), axis=1, dtype=np.int64)
        np.add.at(sums, (np.arange(row, row + len(foreground)) // WINDOW_PX), foreground)
        row += len(foreground)
    place = np.unravel_index(int(sums.argmax()), sums.shape)
    starts = [min(int(index) * WINDOW_PX, max(0, size - WINDOW_PX)) for index, size in zip(place, shape, strict=True)]
    return tuple(slice(start, min(start + WINDOW_PX, size)) for start, size in zip(starts, shape, strict=True))


def _where(region: Region, shape: tuple[int, ...]) -> str:
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}, the one with the most foreground"
    rows, columns = region
    if (rows.stop - rows.start, columns.stop - columns.start) == shape:
        return f"the whole image, {shape[0]} x {shape[1]} pixels"
    return (
        f"rows {rows.start} to {rows.stop - 1} and columns {columns.start} to {columns.stop - 1} of {shape[0]} x {shape[1]}, "
        "the part with the most foreground"
    )
