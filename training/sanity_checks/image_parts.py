"""Crops of cases, with their references, that are small enough to be segmented within seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Config
from configs.sections import NormaliseSection
from datasets.cases import Case, prefix_errors
from evaluation.picture_regions import region_with_most_foreground
from imaging.source import Geometry, ImageSource, Region
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from training.data.open_cases import ImageStatistics, open_training_image
from training.objective.scoring import make_score

Floats = NDArray[np.float32]

MOST_PX = {2: (256, 256), 3: (24, 64, 64)}  # largest sides of a crop
NO_NORMALISATION = NormaliseSection(method="range", lower=-1, upper=1)  # leaves values unchanged


class ArrayImage(ImageSource):
    """Image source of normalised pixels (C, *S) in memory."""

    mask_format = "nifti"

    def __init__(self, pixels: Floats, spacing_um: tuple[float, ...] | None) -> None:
        super().__init__(Geometry(pixels.shape[1:], spacing_um), len(pixels), pixels.dtype)
        self.pixels = pixels

    def _read(self, region: Region, level: int) -> Floats:
        return self.pixels[(slice(None), *region)]


@dataclass(frozen=True)
class CaseCrop:
    """A crop of a case around most of its foreground, normalised by the whole image's statistics, and its reference.

    Args:
        name: name of the case.
        image: (C, *S).
        reference: (channels, *S), labels or values as the head takes them.
    """

    name: str
    image: ArrayImage
    reference: NDArray[Any]

    def logits(self, predictor: Predictor) -> Floats:
        """Return the logits (R, *S), computed by tiles; the predictor's config must be `without_normalisation`."""
        return np.concatenate([band.logits for band in bands(plan_image(self.image, predictor))], axis=1)

    def score(self, logits: Floats, config: Config) -> float:
        """Return the validation's score; NaN if the crop has none."""
        score = make_score(config)
        score.add(logits, self.reference)
        return score.value()


def without_normalisation(config: Config) -> Config:
    """Return the config for segmenting crops, which are normalised already."""
    return config.model_copy(update={"normalise": NO_NORMALISATION})


def case_crop(case: Case, config: Config, most_px: Sequence[int], statistics: ImageStatistics | None = None) -> CaseCrop:
    """Return a crop of a case at the trained spacing, with sides of at most `most_px`.

    Its centre is the median position of the foreground in the region or slice with most foreground.

    Raises:
        DataError: the case can't be used.
    """
    labelled = open_training_image(case, config, statistics)
    with labelled.image, labelled.reference, prefix_errors(case):
        window = region_with_most_foreground(labelled.labels)
        positions = np.nonzero(labelled.labels.read(window)[0] > 0)
        box = []
        for axis, size, most, where in zip(window, labelled.labels.shape, most_px, positions, strict=True):
            middle = axis.start + (int(np.median(where)) if where.size else (axis.stop - axis.start) // 2)
            start = min(max(0, middle - most // 2), max(0, size - most))
            box.append(slice(start, min(start + most, size)))
        region = tuple(box)
        pixels = labelled.statistics.normalise(labelled.image.read(region))
        return CaseCrop(case.name, ArrayImage(pixels, labelled.image.spacing_um), labelled.labels.read(region))


def case_crops(
    cases: Sequence[Case], config: Config, most_px: Sequence[int], statistics: Mapping[int, ImageStatistics] | None = None
) -> tuple[CaseCrop, ...]:
    """Return a crop of each case; `statistics` of images that were read before are by case number."""
    statistics = statistics or {}
    return tuple(case_crop(case, config, most_px, statistics.get(number)) for number, case in enumerate(cases))
