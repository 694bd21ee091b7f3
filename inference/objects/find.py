"""Find the objects of a finished mask, or the peaks of its probabilities, and measure them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.inference_section import InferenceSection
from imaging.source import ImageSource
from inference.objects.arrays import InMemory, OneChannel
from inference.objects.clean_up import OpenedMask, fill_holes
from inference.objects.image_object import ImageObject, Readable
from inference.objects.intensities import Intensities
from inference.objects.peaks import PeakFinder
from inference.objects.pieces import find_pieces
from inference.objects.runs import Canvas, Groups, Runs, ranges
from inference.objects.shapes import shapes_of
from inference.objects.split import split_pieces

Scores = NDArray[np.float32]


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
    meter = _Meter(canvas, image, probabilities)
    number = 0
    found: Iterator[tuple[Groups, Scores | None]]
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
) -> Iterator[tuple[Groups, Scores | None]]:
    """Yield the peaks of the probabilities as objects of one pixel, with their scores."""
    if probabilities is None or image is None or image.spacing_um is None or section.peak_radius_um is None:
        raise ValueError(
            "peaks are found in probabilities, within a radius in micrometres; give both, and an image with a spacing"
        )
    finder = PeakFinder(canvas, image.spacing_um, section.peak_radius_um, section.peak_threshold)
    for peaks in finder.find(probabilities, band_rows):
        runs = Runs(peaks.numbers, peaks.numbers + 1, peaks.labels)
        yield Groups(runs, np.arange(len(peaks) + 1)), peaks.scores


class _Meter:
    """Meter of objects.

    Args:
        canvas: canvas of S.
        image: its channels are measured; None: they are not.
        probabilities: (K, *S), float from 0 to 1 or uint8 from 0 to 255; None: they are not measured.
    """

    def __init__(self, canvas: Canvas, image: ImageSource | None, probabilities: Readable | None) -> None:
        self._canvas = canvas
        self._channels = None if image is None else Intensities(image, image.channels, canvas)
        self._probabilities = None
        if probabilities is not None:
            self._probabilities = Intensities(probabilities, probabilities.shape[0], canvas)
            pixel = probabilities.read((slice(0, 1),) * len(canvas.shape))
            self._certain = 255 if pixel.dtype == np.uint8 else 1  # value of the probability 1

    def measure(self, groups: Groups, first_number: int, scores: Scores | None) -> Iterator[ImageObject]:
        """Yield the objects, measured."""
        shapes = shapes_of(groups, self._canvas)
        nothing = np.zeros((len(groups), 0))
        means, deviations = self._channels.means_and_deviations(groups) if self._channels else (nothing, nothing)
        heads = self._canvas.positions(groups.runs.starts)
        runs = np.column_stack([heads, heads[:, -1] + groups.runs.lengths]).astype(np.int32)
        columns = zip(
            groups.labels.tolist(),
            [runs[start:stop] for start, stop in pairwise(groups.bounds.tolist())],
            shapes.boxes,
            shapes.areas_px.tolist(),
            map(tuple, shapes.centroids_px.tolist()),
            shapes.diameters_px.tolist(),
            _or_none(shapes.eccentricities, len(groups)),
            _or_none(shapes.solidities, len(groups)),
            map(tuple, means.tolist()),
            map(tuple, deviations.tolist()),
            _or_none(self._mean_probabilities(groups), len(groups)),
            _or_none(scores, len(groups)),
            strict=True,
        )
        for number, values in enumerate(columns, first_number):
            yield ImageObject(number, *values)

    def _mean_probabilities(self, groups: Groups) -> NDArray[np.float64] | None:
        """Return the mean probability (n,) of each object's own class."""
        if self._probabilities is None:
            return None
        means = np.empty(len(groups))
        for label in np.unique(groups.labels):
            of_class = groups.labels == label
            means[of_class] = self._probabilities.means_and_deviations(groups.take(of_class), [int(label)])[0][:, 0]
        return means / self._certain


def _or_none(values: NDArray[Any] | None, count: int) -> list[Any]:
    """Return the values (n,) as numbers, or as many None."""
    return [None] * count if values is None else values.tolist()
