"""Page of a job that compares two models: class shares, objects, and the part of the image where the masks differ most."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from evaluation.picture_regions import describe_region, enlarge, region_with_most_foreground
from evaluation.rendering import NEITHER, overlay, to_picture, to_png
from evaluation.report.mask_comparison_page import ClassRow, MaskComparisonResult, Picture, render_mask_comparison
from imaging.open import open_image
from imaging.source import ImageSource
from inference.outputs.summary import SUMMARY
from service.engine.mask_comparison import MaskComparison


@dataclass(frozen=True)
class ComparedMasks:
    """Files of two masks of one image.

    Args:
        models: names of the models.
        classes: classes of the masks.
        masks: file of each mask.
        disagreement: file with 1 where they differ.
    """

    models: tuple[str, str]
    classes: Sequence[ClassSection]
    masks: tuple[Path, Path]
    disagreement: Path


def render_report(compared: ComparedMasks, comparison: MaskComparison, image: ImageSource) -> str:
    """Return the page of a comparison without a reference as HTML.

    Args:
        compared: files of the masks.
        comparison: counts of both masks.
        image: the open image.
    """
    with open_image(compared.disagreement, labels=True) as differences:
        region = region_with_most_foreground(differences)
        planes = [image.read(region), differences.read(region)[0]]
    for path in compared.masks:
        with open_image(path, labels=True) as mask:
            planes.append(mask.read(region)[0])
    if len(region) == 3:  # one slice
        planes = [planes[0][:, 0], *(plane[0] for plane in planes[1:])]  # (C, H, W), (H, W) each
    spacing_um = image.spacing_um or (1.0,) * len(image.shape)
    result = MaskComparisonResult(
        models=compared.models,
        shape=image.shape,
        spacing_um=image.spacing_um,
        agreement=comparison.agreement,
        classes=tuple(_class_rows(compared, comparison)),
        where=describe_region(region, image.shape),
        pictures=tuple(_draw(compared, planes, spacing_um[-2] / spacing_um[-1])),
    )
    return render_mask_comparison(result)


def _class_rows(compared: ComparedMasks, comparison: MaskComparison) -> list[ClassRow]:
    objects = [_objects_of(path) for path in compared.masks]
    rows = []
    for section in compared.classes:
        counts = [each.get(section.name) for each in objects]
        rows.append(
            ClassRow(
                name=section.name,
                colour=section.colour,
                shares=(comparison.shares[0][section.name], comparison.shares[1][section.name]),
                dice=comparison.dice.get(section.name),
                objects=None if counts[0] is None or counts[1] is None else (counts[0], counts[1]),
            )
        )
    return rows


def _objects_of(mask: Path) -> dict[str, int]:
    """Return the number of objects by class from the summary beside a mask; empty where objects were not looked for."""
    (summary,) = mask.parent.glob(f"*{SUMMARY}")
    classes = json.loads(summary.read_text(encoding="utf-8"))["classes"]
    return {each["name"]: each["objects"] for each in classes if "objects" in each}


def _draw(compared: ComparedMasks, planes: Sequence[NDArray[Any]], aspect: float) -> list[Picture]:
    """Draw the image (C, H, W), both masks over it, and where they differ, (H, W) each."""
    image, differences, *masks = planes
    picture = to_picture(image)
    colours = [section.colour for section in compared.classes]
    tiles = [("image", "the image", picture)]
    for model, mask in zip(compared.models, masks, strict=True):
        tiles.append((model, f"the mask of {model} over the image", overlay(picture, mask, colours)))
    tiles.append(("difference", "where the masks differ", overlay(picture, np.minimum(differences, 1), ["#ffffff", NEITHER])))
    return [Picture(title, alt, to_png(enlarge(content, aspect))) for title, alt, content in tiles]
