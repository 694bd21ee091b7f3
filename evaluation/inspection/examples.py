"""Example pictures for the page of `overtile inspect`: some cases with the outlines of their references."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.case_checks import Examination
from datasets.cases import Case, open_case_image
from datasets.problems import CaseReport
from datasets.references import open_reference
from evaluation.picture_regions import WINDOW_PX, describe_region, enlarge, region_with_most_foreground
from evaluation.rendering import CLASS_COLOURS, Picture, to_picture, to_png
from imaging.errors import DataError
from imaging.source import Region

MAX_EXAMPLES = 12


@dataclass(frozen=True)
class Example:
    """Picture of one plane of a case as PNG, with the outlines of its reference where it has one."""

    name: str
    where: str
    png: bytes


def draw_examples(examination: Examination, colours: Sequence[str]) -> tuple[Example, ...]:
    """Draw at most twelve cases: those with problems first, then others from the least to the most foreground.

    Args:
        examination: facts and problems of all cases; cases without facts can't be drawn.
        colours: #rrggbb of each label; empty takes colours that are distinct with any colour vision.
    """
    return tuple(draw_example(report.case, tuple(colours) or CLASS_COLOURS) for report in select_examples(examination))


def select_examples(examination: Examination) -> list[CaseReport]:
    """Return the cases to draw, in their order on the page."""
    names = {problem.case for problem in examination.problems}
    readable = [report for report in examination.reports if report.facts]
    with_problems = [report for report in readable if report.case.name in names][: MAX_EXAMPLES // 2]
    others = [report for report in readable if report not in with_problems]
    others.sort(key=lambda report: 1.0 if report.foreground_share is None else report.foreground_share)
    count = min(len(others), MAX_EXAMPLES - len(with_problems))
    return with_problems + [others[index] for index in np.linspace(0, len(others) - 1, count).round().astype(int).tolist()]


def draw_outlines(picture: Picture, labels: NDArray[Any], colours: Sequence[str]) -> Picture:
    """Draw a line of 2 px along the inner border of each label (H, W) but 0 into a copy of the picture (H, W, 3)."""
    border = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            indices = np.clip(np.arange(labels.shape[axis]) + step, 0, labels.shape[axis] - 1)
            border |= labels.take(indices, axis=axis) != labels
    palette = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in colours[1:]], np.uint8)
    result = picture.copy()
    here = border & (labels > 0)
    result[here] = palette[(labels[here].astype(np.int64) - 1) % len(palette)]
    return result


def draw_example(case: Case, colours: Sequence[str]) -> Example:
    """Draw the region of a case with the most foreground, or its middle where no reference fits."""
    with open_case_image(case) as image:
        region, labels = _region_to_show(case, image.shape)
        pixels = image.read(region)
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
    if len(region) == 3:  # one slice
        pixels, labels = pixels[:, 0], labels if labels is None else labels[0]  # (C, H, W), (H, W)
    picture = enlarge(to_picture(pixels), spacing_um[-2] / spacing_um[-1])
    if labels is not None:
        times = [enlarge // size for enlarge, size in zip(picture.shape, labels.shape, strict=False)]
        picture = draw_outlines(picture, labels.repeat(times[0], axis=0).repeat(times[1], axis=1), colours)
    has_outlines = labels is not None and bool(labels.any())
    where = describe_region(region, image.shape) + ("" if has_outlines else "; nothing outlined")
    return Example(case.name, where, to_png(picture))


def _region_to_show(case: Case, shape: tuple[int, ...]) -> tuple[Region, NDArray[Any] | None]:
    """Return the region with the most foreground and its labels, or the middle where no fitting reference can be read."""
    with suppress(DataError), open_reference(case) as reference:  # the error is among the problems
        if reference.shape == shape and not case.values:
            region = region_with_most_foreground(reference)
            return region, reference.read(region)[0]
    if len(shape) == 3:
        return (slice(shape[0] // 2, shape[0] // 2 + 1), slice(0, shape[1]), slice(0, shape[2])), None
    starts = [max(0, (size - WINDOW_PX) // 2) for size in shape]
    return tuple(slice(start, min(start + WINDOW_PX, size)) for start, size in zip(starts, shape, strict=True)), None
