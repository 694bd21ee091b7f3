"""Cases -> pictures of some of them with their references' outlines, for the page of `overtile inspect`."""

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
from evaluation.comparison.panels import WINDOW_PX, enlarged, telling_region
from evaluation.rendering import Picture, to_picture, to_png
from imaging.errors import DataError
from imaging.source import Region

MOST_EXAMPLES = 12
COLOURS = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#d55e00", "#cc79a7", "#0072b2")  # Okabe and Ito 2008


@dataclass(frozen=True)
class Example:
    """A case's plane as PNG, with its reference's outlines if it has one."""

    name: str
    where: str
    png: bytes


def examples(examination: Examination, colours: Sequence[str]) -> tuple[Example, ...]:
    """At most twelve: those with problems first, then others from the least to the most foreground.

    Args:
        examination: of all cases; those without facts can't be drawn.
        colours: #rrggbb by label; empty takes colours that anybody tells apart.
    """
    return tuple(_example(report.case, tuple(colours) or COLOURS) for report in chosen(examination))


def chosen(examination: Examination) -> list[CaseReport]:
    """Those to draw, in the order to draw them."""
    named = {problem.case for problem in examination.problems}
    readable = [report for report in examination.reports if report.facts]
    troubled = [report for report in readable if report.case.name in named][: MOST_EXAMPLES // 2]
    rest = sorted((report for report in readable if report not in troubled), key=_foreground)
    count = min(len(rest), MOST_EXAMPLES - len(troubled))
    return troubled + [rest[place] for place in np.linspace(0, len(rest) - 1, count).round().astype(int).tolist()]


def outlined(picture: Picture, labels: NDArray[Any], colours: Sequence[str]) -> Picture:
    """The picture (H, W, 3) with a line of 2 px along the inner border of each label (H, W) but 0."""
    border = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            border |= _shifted(labels, step, axis) != labels
    palette = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in colours[1:]], np.uint8)
    result = picture.copy()
    here = border & (labels > 0)
    result[here] = palette[(labels[here].astype(np.int64) - 1) % len(palette)]
    return result


def _shifted(labels: NDArray[Any], step: int, axis: int) -> NDArray[Any]:
    """Moved along an axis, its border continued."""
    places = np.clip(np.arange(labels.shape[axis]) + step, 0, labels.shape[axis] - 1)
    return labels.take(places, axis=axis)


def _foreground(report: CaseReport) -> float:
    counts = report.label_counts or {}
    return 1 - counts.get(0, 0) / max(1, sum(counts.values()))


def _example(case: Case, colours: Sequence[str]) -> Example:
    with open_case_image(case) as image:
        region, labels = _labels(case, image.shape)
        pixels = image.read(region)
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
    if len(region) == 3:  # one slice: its axis goes
        pixels, labels = pixels[:, 0], labels if labels is None else labels[0]  # (C, H, W), (H, W)
    picture = enlarged(to_picture(pixels), spacing_um[-2] / spacing_um[-1])
    if labels is not None:
        times = [new // old for new, old in zip(picture.shape, labels.shape, strict=False)]
        picture = outlined(picture, labels.repeat(times[0], axis=0).repeat(times[1], axis=1), colours)
    return Example(case.name, _where(region, image.shape, labels is not None and bool(labels.any())), to_png(picture))


def _labels(case: Case, shape: tuple[int, ...]) -> tuple[Region, NDArray[Any] | None]:
    """What to show, and its labels; the middle where no reference of that shape can be read."""
    with suppress(DataError), open_reference(case) as reference:  # told among the problems
        if reference.shape == shape and not case.values:
            region = telling_region(reference)
            return region, reference.read(region)[0]
    return _middle(shape), None


def _middle(shape: tuple[int, ...]) -> Region:
    if len(shape) == 3:
        return slice(shape[0] // 2, shape[0] // 2 + 1), slice(0, shape[1]), slice(0, shape[2])
    starts = [max(0, (size - WINDOW_PX) // 2) for size in shape]
    return tuple(slice(start, min(start + WINDOW_PX, size)) for start, size in zip(starts, shape, strict=True))


def _where(region: Region, shape: tuple[int, ...], referenced: bool) -> str:
    place = "most foreground" if referenced else "middle, nothing outlined"
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}: {place}"
    whole = all(axis.stop - axis.start == size for axis, size in zip(region, shape, strict=True))
    if whole:
        return "the whole image" if referenced else "the whole image, nothing outlined"
    return f"from row {region[0].start}, column {region[1].start}: {place}"
