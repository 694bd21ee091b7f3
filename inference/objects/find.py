"""Find the objects of a finished mask, or the peaks of its probabilities: the order of the steps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.inference_section import InferenceSection
from imaging.source import ImageSource
from inference.objects.arrays import InMemory, OneChannel
from inference.objects.clean_up import OpenedMask, fill_holes
from inference.objects.image_object import ImageObject, Readable
from inference.objects.intensities import Intensities
from inference.objects.measurement import Meter
from inference.objects.peaks import PeakFinder
from inference.objects.pieces import find_pieces
from inference.objects.runs import Canvas, Groups, Runs, ranges
from inference.objects.split import split_pieces


def find_objects(
    mask: Readable,
    section: InferenceSection,
    *,
    image: ImageSource | None = None,
    probabilities: Readable | None = None,
    band_rows: int | None = None,
) -> Iterator[ImageObject]:
    """Yield the objects of a mask, measured, and numbered from 1; neither order nor numbers depend on the bands.

    The mask is opened with `opening_radius_px`. Then objects are, by `section.objects`:

    - "components": pixels of one label above 0 that are connected by their sides (faces in 3D).
    - "watershed": such pieces, divided at narrow places, see `split.split`.
    - "peaks": no areas of the mask but centres in the probabilities, see `PeakFinder`.

    Holes of at most `largest_hole_px` pixels are filled before a piece is divided, and objects with fewer than
    `smallest_object_px` pixels left out after it. Objects come in the order of their pieces' last rows, then of the pieces'
    first pixels, then of their own.

    Args:
        mask: labels (*S), 0 is background.
        section: how objects are found, see `object_settings`.
        image: image of the mask, whose channels are measured, and whose spacing the radius of peaks needs.
        probabilities: (K, *S), float from 0 to 1, or uint8 from 0 to 255; measured in each object.
        band_rows: number of rows that are searched at a time; None: as many as have some million pixels.

    Raises:
        ValueError: peaks without probabilities, or without an image whose spacing is known.
    """
    canvas = Canvas(mask.shape)
    meter = Meter(canvas, image, probabilities)
    number = 0
    found: Iterator[tuple[Groups, NDArray[np.float32] | None]]
    if section.objects == "peaks":
        found = _peaks(canvas, section, image, probabilities, band_rows)
    else:
        found = ((groups, None) for groups in find_groups(mask, section, band_rows))
    for groups, scores in found:
        if len(groups):
            yield from meter.measure(groups, number + 1, scores)
        number += len(groups)


def number_objects(
    mask: NDArray[Any], section: InferenceSection, numbers: NDArray[np.uint32] | None = None
) -> NDArray[np.uint32]:
    """Return the numbers (*S) of the objects of a mask (*S) in memory or in a mapped file; 0 is the background.

    Args:
        mask: labels (*S), 0 is background.
        section: how objects are found; peaks, which a mask has none of, are replaced by components.
        numbers: zeros (*S) in C order, which are filled and returned; None: a new array.
    """
    numbers = np.zeros(mask.shape, np.uint32) if numbers is None else numbers
    canvas, count = Canvas(mask.shape), 0
    for groups in find_groups(InMemory(mask), section):
        first = np.ravel_multi_index(tuple(canvas.positions(groups.runs.starts).T), mask.shape)
        lengths = groups.runs.lengths
        numbers.reshape(-1)[ranges(first, lengths)] = np.repeat(groups.of_runs + count + 1, lengths)
        count += len(groups)
    return numbers


def find_groups(mask: Readable, section: InferenceSection, band_rows: int | None = None) -> Iterator[Groups]:
    """Yield the runs of the mask's objects by components or by a watershed, see `find_objects`."""
    canvas = Canvas(mask.shape)
    if section.opening_radius_px:
        mask = OpenedMask(mask, section.opening_radius_px)
    labels = Intensities(OneChannel(mask), 1, canvas)
    for pieces in find_pieces(mask, canvas, band_rows):
        if not len(pieces):
            continue
        if section.largest_hole_px:
            pieces = fill_holes(pieces, canvas, section.largest_hole_px, labels)
        if section.objects == "watershed":
            pieces = split_pieces(pieces, canvas, section.object_sigma_px)
        yield pieces.take(pieces.areas_px >= section.smallest_object_px)


def _peaks(
    canvas: Canvas,
    section: InferenceSection,
    image: ImageSource | None,
    probabilities: Readable | None,
    band_rows: int | None,
) -> Iterator[tuple[Groups, NDArray[np.float32] | None]]:
    """Yield the peaks of the probabilities as objects of one pixel, with their scores."""
    if probabilities is None or image is None or image.spacing_um is None or section.peak_radius_um is None:
        raise ValueError(
            "peaks are found in probabilities, within a radius in micrometres; give both, and an image with a spacing"
        )
    finder = PeakFinder(canvas, image.spacing_um, section.peak_radius_um, section.peak_threshold)
    for peaks in finder.find(probabilities, band_rows):
        runs = Runs(peaks.numbers, peaks.numbers + 1, peaks.labels)
        yield Groups(runs, np.arange(len(peaks) + 1)), peaks.scores
