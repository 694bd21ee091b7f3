"""Parts of whole images that are small enough to be segmented within seconds, with their references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from configs.sections import NormaliseSection
from datasets.cases import Case, prefix_errors
from evaluation.comparison.panels import region_with_most_foreground
from imaging.source import Geometry, ImageSource, Region
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from training.data.open_cases import Statistics, TrainingImage, open_case
from training.objective.scoring import make_score

Floats = NDArray[np.float32]

MOST_PX = {2: (256, 256), 3: (24, 64, 64)}  # a side of what is segmented
AS_IT_IS = NormaliseSection(method="range", lower=-1, upper=1)  # for pixels that are normalised already


class ArrayImage(ImageSource):
    """Normalised pixels (C, *S) in memory."""

    mask_format = "nifti"

    def __init__(self, pixels: Floats, spacing_um: tuple[float, ...] | None) -> None:
        super().__init__(Geometry(pixels.shape[1:], spacing_um), len(pixels), pixels.dtype)
        self.pixels = pixels

    def _read(self, region: Region, level: int) -> Floats:
        return self.pixels[(slice(None), *region)]


@dataclass(frozen=True)
class CaseCrop:
    """The part of a case that holds the most foreground: normalised by the whole image's statistics, and its reference.

    Args:
        name: the case's.
        image: (C, *S).
        reference: (channels, *S), labels or values as the head takes them.
    """

    name: str
    image: ArrayImage
    reference: NDArray[Any]

    def logits(self, predictor: Predictor) -> Floats:
        """(R, *S), tile by tile as in serving; the predictor has the config that `as_seen` gives."""
        return np.concatenate([band.logits for band in bands(plan_image(self.image, predictor))], axis=1)

    def score(self, logits: Floats, config: Config) -> float:
        """The validation's score; NaN where the view says nothing."""
        score = make_score(config)
        score.add(logits, self.reference)
        return score.value()


def as_seen(config: Config) -> Config:
    """The config by which views are segmented: they are normalised already."""
    return config.model_copy(update={"normalise": AS_IT_IS})


def case_crop(case: Case, config: Config, most_px: Sequence[int], statistics: Statistics | None = None) -> CaseCrop:
    """The view of a case at the trained spacing, at most so many pixels a side.

    Raises:
        DataError: the case can't be used.
    """
    labelled = open_case(case, config, statistics)
    with labelled.image, labelled.reference, prefix_errors(case):
        region = _around_foreground(labelled, most_px)
        pixels = labelled.statistics.normalise(labelled.image.read(region))
        return CaseCrop(case.name, ArrayImage(pixels, labelled.image.spacing_um), labelled.labels.read(region))


def case_crops(
    cases: Sequence[Case], config: Config, most_px: Sequence[int], statistics: Mapping[int, Statistics] | None = None
) -> tuple[CaseCrop, ...]:
    """A view a case; the statistics are by the case's number."""
    known = statistics or {}
    return tuple(case_crop(case, config, most_px, known.get(number)) for number, case in enumerate(cases))


def _around_foreground(labelled: TrainingImage, most_px: Sequence[int]) -> Region:
    """A box around the middle of the foreground in the window or slice that holds the most of it."""
    window = region_with_most_foreground(labelled.labels)
    places = np.nonzero(labelled.labels.read(window)[0] > 0)
    box = []
    for axis, size, most, where in zip(window, labelled.labels.shape, most_px, places, strict=True):
        middle = axis.start + (int(np.median(where)) if where.size else (axis.stop - axis.start) // 2)
        start = min(max(0, middle - most // 2), max(0, size - most))
        box.append(slice(start, min(start + most, size)))
    return tuple(box)
