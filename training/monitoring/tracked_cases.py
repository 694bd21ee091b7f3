"""Tracked cases: a plane of each of the first validation cases, and the mask that each validation predicts for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from datasets.cases import Case
from evaluation.inspection.examples import draw_outlines
from evaluation.number_text import size
from evaluation.picture_regions import enlarge, region_with_most_foreground
from evaluation.rendering import FILL, PALE, Picture, to_picture
from imaging.source import Region
from inference.tiling.stitch import Band
from models.head import Head
from training.data.open_cases import open_labelled_image
from training.monitoring.tensor_pictures import Rgba

MOST_CASES = 4
SQUARE_PX = 160  # a side of a picture in TensorBoard, whose files grow with each validation
GREY = 127  # around a picture in its square


@dataclass
class TrackedCase:
    """A plane of a validation case on the image's own grid, with the latest prediction.

    Args:
        name: the case's.
        location: of the plane in the image, as text.
        region: of the image; one slice of a volume.
        aspect: height of a pixel divided by its width.
        picture: (H, W, 3).
        reference: labels or values (H, W).
        prediction: labels or values (H, W) of the last validation.
    """

    name: str
    location: str
    region: Region
    aspect: float
    picture: Picture
    reference: NDArray[Any]
    prediction: NDArray[Any]

    def add(self, band: Band, head: Head) -> None:
        """Store the prediction of those rows of a band that lie in the plane."""
        rows, *rest = self.region
        start, stop = max(rows.start, band.start), min(rows.stop, band.start + band.logits.shape[1])
        if start >= stop:
            return
        inside = (slice(None), slice(start - band.start, stop - band.start), *rest)
        logits = band.logits[inside]
        prediction = head.values(logits) if head.gives_values else head.mask(logits)  # (rows, *rest)
        if len(self.region) == 3:
            self.prediction[:] = prediction[0]
        else:
            self.prediction[start - rows.start : stop - rows.start] = prediction


def track_cases(cases: Sequence[Case], config: Config, head: Head) -> list[TrackedCase]:
    """Read the plane with the most foreground of the first cases, at most MOST_CASES.

    Raises:
        DataError: a case can't be read.
    """
    tracked = []
    for case in cases[:MOST_CASES]:
        labelled = open_labelled_image(case, config)
        with labelled.image as image, labelled.reference as reference:
            region = region_with_most_foreground(reference)
            pixels, labels = image.read(region), reference.read(region)
            spacing_um = image.spacing_um or (1.0,) * len(image.shape)
            location = _location(region, image.shape)
        if len(region) == 3:
            pixels, labels = pixels[:, 0], labels[:, 0]  # (channels, H, W)
        if head.gives_values or len(labels) == 1:
            plane = labels[0].astype(np.float32 if head.gives_values else np.uint8)  # (H, W)
        else:  # where classes overlap, the last one counts
            numbers = np.arange(1, len(labels) + 1).reshape(-1, 1, 1)
            plane = (numbers * (labels > 0)).max(axis=0).astype(np.uint8)  # (H, W)
        aspect, empty = spacing_um[-2] / spacing_um[-1], np.zeros_like(plane)
        tracked.append(TrackedCase(case.name, location, region, aspect, to_picture(pixels), plane, empty))
    return tracked


def _location(region: Region, shape: tuple[int, ...]) -> str:
    if len(region) == 3:
        return f"slice {region[0].start + 1} of {shape[0]}"
    if all(axis.stop - axis.start == length for axis, length in zip(region, shape, strict=True)):
        return f"the whole image, {size(shape)} pixels"
    rows, columns = region
    return f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1} of {size(shape)} pixels"


def pale_picture(case: TrackedCase) -> Picture:
    """Return a case's picture in pale grey, the background of its masks."""
    grey = case.picture @ np.array([0.299, 0.587, 0.114])
    light_grey = np.rint(grey + (255 - grey) * PALE).astype(np.uint8)
    return enlarge(np.repeat(light_grey[..., None], 3, axis=-1), case.aspect)


def mask_overlay(case: TrackedCase, labels: NDArray[Any], colours: Sequence[str]) -> Rgba:
    """Draw labels (H, W) in their classes' colours as an overlay: transparent at label 0, opaque along borders.

    An overlay takes a small part of the bytes of a whole picture. Values become grey, over the range of the reference.
    Labels without a class, which the loss ignores, are black.
    """
    if np.issubdtype(labels.dtype, np.floating):
        low, high = float(case.reference.min()), float(case.reference.max())
        fractions = np.clip((labels - low) / max(high - low, 1e-12), 0, 1)
        grey = enlarge(np.rint(255 * fractions).astype(np.uint8), case.aspect)
        return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    large = np.minimum(enlarge(labels, case.aspect), len(colours))
    palette = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in (*colours, "#000000")])
    border = draw_outlines(np.zeros((*large.shape, 3), np.uint8), large, ("#000000", *["#ffffff"] * len(colours)))[..., 0]
    alpha = np.maximum(border, (large > 0) * round(255 * FILL))
    return np.dstack([palette[large], alpha]).astype(np.uint8)


def comparison_sheet(cases: Sequence[TrackedCase], colours: Sequence[str]) -> Picture:
    """Draw a row for each case, image | reference | prediction, in squares of SQUARE_PX: for TensorBoard."""
    rows = []
    for case in cases:
        pictures = [enlarge(case.picture, case.aspect)]
        for labels in (case.reference, case.prediction):
            overlay = mask_overlay(case, labels, colours)
            alpha = overlay[..., 3:] / 255
            blend = alpha * overlay[..., :3] + (1 - alpha) * pale_picture(case)
            pictures.append(np.rint(blend).astype(np.uint8))
        row = np.full((SQUARE_PX, len(pictures) * SQUARE_PX, 3), GREY, np.uint8)
        for number, picture in enumerate(pictures):
            step = -(-max(picture.shape[:2]) // SQUARE_PX)
            small = picture[::step, ::step]  # fits into a square
            left = number * SQUARE_PX
            row[: small.shape[0], left : left + small.shape[1]] = small
        rows.append(row)
    return np.concatenate(rows)
