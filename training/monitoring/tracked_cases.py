"""The same validation cases through a whole run: a plane of each, and the mask that validation makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.cases import Case
from evaluation.comparison.panels import enlarge, region_with_most_foreground
from evaluation.inspection.examples import draw_outlines
from evaluation.rendering import FILL, PALE, Picture, to_picture
from evaluation.report.number_text import size
from imaging.source import Region
from inference.tiling.stitch import Band
from models.heads import Head
from training.data.open_cases import open_labelled

MOST_CASES = 4
MOST_TILE_PX = 160  # a side of a picture in TensorBoard, whose files grow with each validation

GREY = 127

Rgba = NDArray[np.uint8]  # (H, W, 4)


@dataclass
class WatchedCase:
    """A plane of one case, on the image's own grid.

    Args:
        name: the case's.
        where: the plane lies, in words.
        region: of the image, one slice of a volume.
        aspect: height of a pixel divided by its width.
        picture: (H, W, 3).
        reference: (H, W) labels or values.
        answer: (H, W), what the network said there at the last validation; labels or values.
    """

    name: str
    where: str
    region: Region
    aspect: float
    picture: Picture
    reference: NDArray[Any]
    answer: NDArray[Any]

    def take(self, band: Band, head: Head) -> None:
        """Keeps what of a finished band lies in the plane."""
        rows, *rest = self.region
        start, stop = max(rows.start, band.start), min(rows.stop, band.start + band.logits.shape[1])
        if start >= stop:
            return
        inside = (slice(None), slice(start - band.start, stop - band.start), *rest)
        logits = band.logits[inside]
        answered = head.values(logits) if head.gives_values else head.mask(logits)  # (rows, *rest)
        if len(self.region) == 3:
            self.answer[:] = answered[0]
        else:
            self.answer[start - rows.start : stop - rows.start] = answered


def watched_cases(cases: Sequence[Case], config: Config, head: Head) -> list[WatchedCase]:
    """The first cases, each with its plane that has the most foreground; at most four.

    Raises:
        DataError: a case can't be read.
    """
    return [_watched(case, config, head) for case in cases[:MOST_CASES]]


def _watched(case: Case, config: Config, head: Head) -> WatchedCase:
    labelled = open_labelled(case, config)
    with labelled.image as image, labelled.reference as reference:
        region = region_with_most_foreground(reference)
        pixels, labels = image.read(region), reference.read(region)
        spacing_um = image.spacing_um or (1.0,) * len(image.shape)
        where = _where(region, image.shape)
    if len(region) == 3:  # one slice: its axis goes
        pixels, labels = pixels[:, 0], labels[:, 0]
    flat = labels[0].astype(np.float32) if head.gives_values else _flat(labels)
    aspect = spacing_um[-2] / spacing_um[-1]
    return WatchedCase(case.name, where, region, aspect, to_picture(pixels), flat, np.zeros_like(flat))


def _where(region: Region, shape: tuple[int, ...]) -> str:
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}"
    if all(axis.stop - axis.start == length for axis, length in zip(region, shape, strict=True)):
        return f"the whole image, {size(shape)} pixels"
    rows, columns = region
    return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1} of {size(shape)} pixels"


def _flat(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W) of a reference (channels, H, W): its labels, or of classes that overlap the last one there is."""
    if len(labels) == 1:
        return np.asarray(labels[0], np.uint8)
    numbers = np.arange(1, len(labels) + 1).reshape(-1, 1, 1)
    flat: NDArray[np.uint8] = (numbers * (labels > 0)).max(axis=0).astype(np.uint8)
    return flat


def pale(case: WatchedCase) -> Picture:
    """What masks are laid over: the picture in pale grey."""
    grey = case.picture @ np.array([0.299, 0.587, 0.114])
    paled = np.rint(grey + (255 - grey) * PALE).astype(np.uint8)
    return enlarge(np.repeat(paled[..., None], 3, axis=-1), case.aspect)


def film(case: WatchedCase, labels: NDArray[Any], colours: Sequence[str]) -> Rgba:
    """Labels (H, W) in their classes' colours, to be laid over the picture: clear at 0, opaque along borders.

    A film takes a small part of the room that a whole picture takes. Values become grey, over the range of the
    reference's. Labels of no class, which the loss leaves out, are black.
    """
    if np.issubdtype(labels.dtype, np.floating):
        return _greys(case, labels)
    large = np.minimum(enlarge(labels, case.aspect), len(colours))
    palette = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in (*colours, "#000000")])
    border = draw_outlines(np.zeros((*large.shape, 3), np.uint8), large, ("#000000", *["#ffffff"] * len(colours)))[..., 0]
    alpha = np.maximum(border, (large > 0) * round(255 * FILL))
    return np.dstack([palette[large], alpha]).astype(np.uint8)


def _greys(case: WatchedCase, values: NDArray[Any]) -> Rgba:
    low, high = float(case.reference.min()), float(case.reference.max())
    shares = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    grey = enlarge(np.rint(255 * shares).astype(np.uint8), case.aspect)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])


def sheet(cases: Sequence[WatchedCase], colours: Sequence[str]) -> Picture:
    """A row a case, image | reference | answer, each a square of a few hundred pixels: for TensorBoard."""
    rows = []
    for case in cases:
        films = [film(case, labels, colours) for labels in (case.reference, case.answer)]
        tiles = [enlarge(case.picture, case.aspect), *(_laid(each, pale(case)) for each in films)]
        rows.append(np.concatenate([_square(tile) for tile in tiles], axis=1))
    return np.concatenate(rows)


def _laid(above: Rgba, below: Picture) -> Picture:
    share = above[..., 3:] / 255
    laid: Picture = np.rint(share * above[..., :3] + (1 - share) * below).astype(np.uint8)
    return laid


def _square(picture: Picture) -> Picture:
    """Thinned out until it fits, on a grey square."""
    step = -(-max(picture.shape[:2]) // MOST_TILE_PX)
    thin = picture[::step, ::step]
    square = np.full((MOST_TILE_PX, MOST_TILE_PX, 3), GREY, np.uint8)
    square[: thin.shape[0], : thin.shape[1]] = thin
    return square
