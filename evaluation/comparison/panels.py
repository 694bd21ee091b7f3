"""Pictures of compared cases: image, reference, the masks of the methods, and where they are wrong."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.sections import ClassSection
from datasets.cases import Case, open_case_image, prefix_errors
from datasets.references import open_reference
from evaluation.comparison.result import CasePicture, PictureTile
from evaluation.metrics.metric import Metric
from evaluation.picture_regions import describe_region, enlarge, region_with_most_foreground
from evaluation.rendering import overlay, overlay_disagreement, overlay_wrong, to_picture, to_png
from imaging.source import ImageSource

OpenMasks = Callable[[Case], AbstractContextManager[Sequence[ImageSource]]]

MOST_PICTURES = 6
WORST = 2  # of the pictures
MOST_PAIRS = 3  # with more pairs of methods, only the number of wrong ones is shown


@dataclass(frozen=True)
class _CasePlane:
    """Plane of a case to show.

    Args:
        image: pixels (C, H, W).
        reference: labels (H, W).
        masks: labels (H, W) of each method.
        aspect: height of a pixel divided by its width.
        where: place of the plane in the image, for the caption.
    """

    image: NDArray[Any]
    reference: NDArray[Any]
    masks: tuple[NDArray[Any], ...]
    aspect: float
    where: str


def draw_case_pictures(
    cases: Sequence[Case],
    open_masks: OpenMasks,
    scores: Sequence[Sequence[float]],
    metric: Metric,
    *,
    classes: Sequence[ClassSection],
    labels: Sequence[str],
) -> tuple[CasePicture, ...]:
    """Draw at most six cases: the two worst, the best, and those where the methods differ most.

    Args:
        cases: the cases.
        open_masks: opens the masks of a case, one source (1, *S) for each method.
        scores: value of the metric for each method and case; NaN where it isn't defined.
        metric: the metric that cases are chosen by.
        classes: classes with their colours.
        labels: display name of each method.

    Raises:
        DataError: an image, reference or mask can't be read, with the case's name.
    """
    colours = [section.colour for section in classes]
    pictures = []
    for index, why in select_cases(scores, metric, labels):
        with prefix_errors(cases[index]), open_masks(cases[index]) as masks:
            plane = _read_plane(cases[index], masks)
        pictures.append(CasePicture(cases[index].name, why, plane.where, _draw_tiles(plane, colours, labels)))
    return tuple(pictures)


def select_cases(scores: Sequence[Sequence[float]], metric: Metric, labels: Sequence[str]) -> list[tuple[int, str]]:
    """Return the index of each case to show and why, see `draw_case_pictures`.

    Where no case has a value by all methods, the first six cases.

    Args:
        scores: value of the metric for each method and case.
        metric: the metric.
        labels: display name of each method.
    """
    values = np.array(scores, np.float64)  # (methods, cases)
    goodness = values if metric.better == "higher" else -np.abs(values)
    with_values = np.flatnonzero(~np.isnan(values).any(axis=0)).tolist()
    if not with_values:
        return [(index, f"no {metric.title} to rank by") for index in range(min(MOST_PICTURES, values.shape[1]))]
    means = goodness.mean(axis=0)
    spreads = goodness.max(axis=0) - goodness.min(axis=0)
    by_mean = sorted(with_values, key=lambda index: means[index])
    by_spread = sorted(with_values, key=lambda index: -spreads[index])
    whys: dict[int, list[str]] = {}
    for index in by_mean[:WORST]:
        whys.setdefault(index, []).append(f"among the worst: mean {metric.title} of the methods {abs(means[index]):.3g}")
    whys.setdefault(by_mean[-1], []).append(f"the best: mean {metric.title} of the methods {abs(means[by_mean[-1]]):.3g}")
    for index in by_spread:
        if len(whys) == MOST_PICTURES and index not in whys:
            break
        best, worst = (labels[int(find(goodness[:, index]))] for find in (np.argmax, np.argmin))
        difference = f"{best} is better than {worst} by {spreads[index]:.3g}" if spreads[index] else "all methods are equal"
        whys.setdefault(index, []).append(difference)
    return [(index, "; ".join(reasons)) for index, reasons in whys.items()]


def _draw_tiles(plane: _CasePlane, colours: Sequence[str], labels: Sequence[str]) -> tuple[PictureTile, ...]:
    picture = to_picture(plane.image)
    tiles = [
        ("image", f"the image, {plane.where}", picture),
        ("reference", "the reference's classes over the image", overlay(picture, plane.reference, colours)),
        *(
            (label, f"the mask of {label} over the image", overlay(picture, mask, colours))
            for label, mask in zip(labels, plane.masks, strict=True)
        ),
    ]
    pairs = list(combinations(range(len(labels)), 2))
    for first, second in pairs if len(pairs) <= MOST_PAIRS else []:
        disagreement = overlay_disagreement(picture, plane.reference, plane.masks[first], plane.masks[second])
        names = f"{labels[first]} or {labels[second]}"
        title = "disagreement" if len(pairs) == 1 else f"{labels[first]} against {labels[second]}"
        tiles.append((title, f"where the mask of {names} is wrong", disagreement))
    if len(labels) > 2:
        wrong = sum((mask != plane.reference).astype(np.uint8) for mask in plane.masks)
        tiles.append(("methods that are wrong", "how many of the masks are wrong", overlay_wrong(picture, wrong, len(labels))))
    return tuple(PictureTile(title, alt, to_png(enlarge(content, plane.aspect))) for title, alt, content in tiles)


def _read_plane(case: Case, masks: Sequence[ImageSource]) -> _CasePlane:
    with open_case_image(case) as image, open_reference(case) as reference:
        region = region_with_most_foreground(reference)
        pixels, labels = image.read(region), reference.read(region)[0]
        ignored = labels == (-1 if case.ignore_label is None else case.ignore_label)  # shown as if the masks were right
        planes = [np.where(ignored, labels, mask.read(region)[0]) for mask in masks]
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
        where = describe_region(region, image.shape)
    if len(region) == 3:  # one slice
        pixels, labels, planes = pixels[:, 0], labels[0], [plane[0] for plane in planes]  # (C, H, W), (H, W) each
    return _CasePlane(pixels, labels, tuple(planes), spacing_um[-2] / spacing_um[-1], where)
