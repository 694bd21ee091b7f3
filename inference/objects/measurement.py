"""Measurements of objects: their shapes, the image's channels and the probability of their class."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.source import ImageSource
from inference.objects.image_object import ImageObject, Readable
from inference.objects.intensities import Intensities
from inference.objects.runs import Canvas, Groups
from inference.objects.shapes import shapes_of


class Meter:
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

    def measure(self, groups: Groups, first_number: int, scores: NDArray[np.float32] | None) -> Iterator[ImageObject]:
        """Yield the objects, measured.

        Args:
            groups: runs of the objects.
            first_number: number of the first of them.
            scores: (n,) of detections; None: the objects have an extent.
        """
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
