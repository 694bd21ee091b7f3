"""Calibration of a trained network on validation cases, so that its probabilities say how often it is right."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from configs.schema import Config
from datasets.cases import Case, prefix_errors
from evaluation.calibration.pixel_sample import Floats, PixelSample
from evaluation.calibration.temperature import fit_temperature, reliability
from evaluation.metrics.calibration import NEAR_PX, near_foreground
from imaging.source import ImageSource
from inference.plan import plan_image
from inference.predictors.predictor import Predictor
from inference.segment import bands
from inference.tiling.test_time_augmentation import symmetries
from models.calibration import Calibration
from models.head import Head
from models.heads import make_head
from training.data.open_cases import open_labelled_image

MOST_PASSES = 32  # over a case; with symmetries a case takes several
MOST_PIXELS = 200_000  # of all cases together
FOREGROUND_PIXELS = 5000  # of a case, for its mean confidence
LEAST_PIXELS = 100  # fewer say nothing
LEAST_CASES = 4  # for a threshold
LOW_SHARE = 0.05  # of images like the validation cases are less confident than the threshold

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class CaseSample:
    """Sample of a case's pixels.

    Args:
        logits: of pixels in and around the reference's foreground, (R, N).
        labels: of the same pixels, (channels, N), as `fit_temperature` takes them.
        foreground: logits of pixels that the network calls foreground, (R, M).
    """

    logits: Floats
    labels: Labels
    foreground: Floats


def has_calibration(config: Config) -> bool:
    """Return whether a training with this config calibrates its network."""
    return config.trainer.calibrate and make_head(config).has_temperature


def calibration_validations(config: Config, cases: int) -> float:
    """Return how many validations of that number of cases take as long as the calibration; 0 without calibration."""
    return _passes(config) * len(_chosen_cases(config, cases)) / cases if has_calibration(config) else 0.0


def _chosen_cases(config: Config, cases: int) -> range:
    """Return the numbers of the cases that are segmented, evenly spaced."""
    most = max(LEAST_CASES, MOST_PASSES // _passes(config))
    return range(0, cases, math.ceil(cases / most))


def _passes(config: Config) -> int:
    """Return the number of passes over a case."""
    return len(symmetries(config.inference.average, config.data.dimensions))


def calibrate(config: Config, predictor: Predictor, cases: Sequence[Case]) -> Calibration | None:
    """Fit the temperature of the network's probabilities on validation cases, on some of them if they are many.

    Ignored pixels, and pixels far from the reference's foreground, are left out: easy background would hide all errors. It is
    deterministic, so that a resumed run repeats it with the same result.

    Args:
        config: the run's.
        predictor: of the final network, with the tiles and symmetries of inference, and not calibrated.
        cases: validation cases.

    Returns:
        None if `trainer.calibrate` is false, if a temperature would change the head's masks, or if there are too few pixels.
    """
    if not has_calibration(config):
        return None
    chosen = _chosen_cases(config, len(cases))
    samples = [sample_case(cases[number], predictor, MOST_PIXELS // len(chosen)) for number in chosen]
    samples = [sample for sample in samples if sample.labels.size]
    pixels = sum(sample.labels.shape[1] for sample in samples)
    if pixels < LEAST_PIXELS:
        return None
    logits = np.concatenate([sample.logits for sample in samples], axis=1)
    labels = np.concatenate([sample.labels for sample in samples], axis=1)
    raw = predictor.head.uncalibrated
    fitted = type(raw)(raw.classes, fit_temperature(raw, logits, labels))
    return Calibration(
        temperature=fitted.temperature,
        low_confidence=low_confidence(fitted, [sample.foreground for sample in samples]),
        cases=len(samples),
        pixels=pixels,
        before=reliability(raw, logits, labels),
        after=reliability(fitted, logits, labels),
    )


def sample_case(case: Case, predictor: Predictor, most_pixels: int) -> CaseSample:
    """Segment a case, and return a sample of its pixels that is the same whatever the tiles and bands."""
    seed, outputs = zlib.crc32(case.name.encode()), predictor.head.outputs
    near, foreground = PixelSample(most_pixels, seed), PixelSample(FOREGROUND_PIXELS, seed)
    ignored = predictor.config.data.ignore_index
    labelled = open_labelled_image(case, predictor.config)
    with labelled.image as image, labelled.reference as reference, prefix_errors(case):
        for band in bands(plan_image(image, predictor)):
            rows = slice(band.start, band.start + band.logits.shape[1])
            labels, is_scored = _scored_rows(reference, rows, ignored, image.spacing_um)
            near.add(band.start, np.concatenate([band.logits, labels]), is_scored)
            foreground.add(band.start, band.logits, predictor.head.mask(band.logits) > 0)
    return CaseSample(near.values[:outputs], near.values[outputs:].astype(np.int64), foreground.values)


def _scored_rows(
    reference: ImageSource, rows: slice, ignored: int | None, spacing_um: tuple[float, ...] | None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the labels (channels, rows, *rest) of rows, and which of their pixels are near foreground and not ignored."""
    start, stop = max(0, rows.start - NEAR_PX), min(reference.shape[0], rows.stop + NEAR_PX)
    block = reference.read((slice(start, stop), *(slice(0, side) for side in reference.shape[1:])))
    is_ignored = np.zeros(block.shape, np.bool_) if ignored is None else block == ignored
    near = near_foreground(np.any((block > 0) & ~is_ignored, axis=0), spacing_um)
    inner = slice(rows.start - start, rows.stop - start)
    return block[:, inner], near[inner] & ~is_ignored[:, inner].any(axis=0)


def low_confidence(head: Head, foregrounds: Sequence[Floats]) -> float | None:
    """Return the mean confidence that LOW_SHARE of images like these cases don't reach.

    It is the lower end of a prediction interval for one more case, from the cases' mean, deviation and number (Student's t).

    Args:
        head: calibrated head.
        foregrounds: logits (R, M) of foreground pixels of each case; cases without foreground don't count.

    Returns:
        None if fewer than LEAST_CASES have foreground.
    """
    means = [float(head.probabilities(logits).max(axis=0).mean()) for logits in foregrounds if logits.size]
    if len(means) < LEAST_CASES:
        return None
    reach = float(t.ppf(1 - LOW_SHARE, len(means) - 1)) * math.sqrt(1 + 1 / len(means))
    return max(0.0, fmean(means) - reach * stdev(means))
