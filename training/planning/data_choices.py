"""What a plan takes from the images themselves: the spacing they are brought to, their intensities, channels and classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import ConfigError
from datasets.fingerprint import CaseFacts
from imaging.errors import DataError

COARSER = 3  # an axis that is this many times as coarse as the others, and has as many times fewer pixels, is anisotropic
MOST_CLASSES_GUESSED = 20  # a label above it counts objects rather than classes
COLOURS = ("#ffffff", "#7b2cbf", "#2a9d8f", "#e76f51", "#e9c46a", "#264653", "#d62828", "#4895ef", "#80b918", "#ff70a6")


@dataclass(frozen=True)
class Choice:
    """A value of the config, and why it is that; no reason where the user said so."""

    value: Any
    reason: str = ""


Choices = dict[str, Choice]


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set's cases have in common.

    Args:
        cases: how many there are.
        dimensions: of the images.
        channels: of the images.
        spacing_um: that they are brought to; None where any of them has none.
        shape: the median, at that spacing.
        largest: the longest of each axis, at that spacing.
        pixels: of all of them, at that spacing.
        object_px: the median side of an object at that spacing, an axis each; None without any foreground.
    """

    cases: int
    dimensions: int
    channels: int
    spacing_um: tuple[float, ...] | None
    shape: tuple[int, ...]
    largest: tuple[int, ...]
    pixels: int
    object_px: tuple[float, ...] | None


def summarise_cases(facts: Sequence[CaseFacts]) -> DatasetSummary:
    """The overview of a data set.

    Raises:
        DataError: no cases with foreground, or cases that don't go together.
    """
    _check_alike(facts)
    spacing = target_spacing(facts)
    scales = [_scale(case, spacing) for case in facts]
    shapes = np.array([np.array(case.shape) * scale for case, scale in zip(facts, scales, strict=True)]).round().clip(1)
    objects = [np.array(case.object_px) * scale for case, scale in zip(facts, scales, strict=True) if case.object_px]
    return DatasetSummary(
        cases=len(facts),
        dimensions=len(facts[0].shape),
        channels=len(facts[0].image),
        spacing_um=spacing,
        shape=tuple(int(size) for size in np.median(shapes, axis=0)),
        largest=tuple(int(size) for size in shapes.max(axis=0)),
        pixels=int(shapes.prod(axis=1).sum()),
        object_px=tuple(np.median(objects, axis=0).tolist()) if objects else None,
    )


def target_spacing(facts: Sequence[CaseFacts]) -> tuple[float, ...] | None:
    """The median of each axis; of one that is far coarser than the others the 10th percentile, so that less is made up.

    Source: Isensee et al. 2021 (nnU-Net), its default preprocessing.
    """
    known = [case.spacing_um for case in facts if case.spacing_um is not None]
    if len(known) < len(facts):
        return None
    spacings, shapes = np.array(known), np.array([case.shape for case in facts])
    target = np.median(spacings, axis=0)
    shape = np.median(shapes * spacings / target, axis=0)
    coarsest = int(target.argmax())
    finer, longer = np.delete(target, coarsest), np.delete(shape, coarsest)
    if target[coarsest] > COARSER * finer.max() and COARSER * shape[coarsest] < longer.min():
        target[coarsest] = max(np.percentile(spacings[:, coarsest], 10), finer.max())
    return tuple(float(f"{value:.6g}") for value in target)


def choose_data(
    facts: Sequence[CaseFacts], overview: DatasetSummary, channels: Sequence[str], classes: Sequence[str]
) -> Choices:
    """The keys of `data` and `normalise`; empty `channels` or `classes` are found out.

    Raises:
        ConfigError: not as many names as the images have channels, or fewer than the references have classes.
    """
    names = _channels(overview, channels)
    return {
        "data.dimensions": Choice(overview.dimensions),
        "data.channels": names,
        **_classes(facts, classes),
        "data.spacing_um": _spacing(facts, overview),
        **_normalise(facts, overview, names.value),
    }


def _check_alike(facts: Sequence[CaseFacts]) -> None:
    if not any(case.foreground for case in facts):
        raise DataError("no_foreground", "no case has a reference with a label above 0; a plan needs some")
    for what, values in (
        ("dimensions", {len(case.shape) for case in facts}),
        ("channels", {len(case.image) for case in facts}),
    ):
        if len(values) > 1:
            raise DataError(
                "cases_differ", f"images have {' and '.join(map(str, sorted(values)))} {what}; keep those of one kind together"
            )


def _scale(case: CaseFacts, spacing_um: tuple[float, ...] | None) -> Any:
    if spacing_um is None or case.spacing_um is None:
        return np.ones(len(case.shape))
    return np.array(case.spacing_um) / np.array(spacing_um)


def _spacing(facts: Sequence[CaseFacts], overview: DatasetSummary) -> Choice:
    if overview.spacing_um is None:
        without = sum(case.spacing_um is None for case in facts)
        return Choice(None, f"{without} of {len(facts)} cases have no spacing, so images are taken as they are")
    medians = np.median([case.spacing_um for case in facts if case.spacing_um], axis=0)
    if not np.allclose(medians, overview.spacing_um, rtol=1e-5):
        return Choice(list(overview.spacing_um), f"the medians of {len(facts)} cases, of the coarse axis the 10th percentile")
    return Choice(list(overview.spacing_um), f"the median of {len(facts)} cases on each axis")


def _channels(overview: DatasetSummary, names: Sequence[str]) -> Choice:
    if names and len(names) != overview.channels:
        raise ConfigError(f"--channels: {len(names)} names for {overview.channels} channels; give one for each")
    if names:
        return Choice(list(names))
    if (overview.dimensions, overview.channels) == (2, 3):
        return Choice(["red", "green", "blue"], "pictures of three channels")
    return Choice([f"channel_{number}" for number in range(1, overview.channels + 1)], "not named; --channels names them")


def _classes(facts: Sequence[CaseFacts], names: Sequence[str]) -> Choices:
    labels = sorted({label for case in facts for label in case.label_counts if label > 0})
    if _are_instances(labels, names):
        found = f"the only label is {labels[0]}" if len(labels) == 1 else f"labels up to {labels[-1]} are numbers of objects"
        return {
            "data.classes": Choice(_coloured(names or ("background", "object"))),
            "data.instances": Choice(True, f"{found}: any value above 0 is the second class"),
        }
    if names and len(names) <= labels[-1]:
        raise ConfigError(
            f"--classes: {len(names)} names, and labels up to {labels[-1]} were found; give {labels[-1] + 1}, background first"
        )
    guessed = ("background", *(f"class_{label}" for label in range(1, labels[-1] + 1)))
    reason = "" if names else f"labels found: {', '.join(map(str, labels))}; --classes names them"
    return {"data.classes": Choice(_coloured(names or guessed), reason), "data.instances": Choice(False)}


def _are_instances(labels: Sequence[int], names: Sequence[str]) -> bool:
    """Whether labels number objects, or are all one, such as 255, rather than counting classes from 1."""
    if names:
        return len(names) == 2 and labels[-1] > 1
    return labels[-1] > MOST_CLASSES_GUESSED or (len(labels) == 1 and labels[0] > 1)


def _coloured(names: Sequence[str]) -> list[dict[str, str]]:
    colours = [COLOURS[0], *(COLOURS[1:] * math.ceil(len(names) / len(COLOURS[1:])))]
    return [{"name": name, "colour": colour} for name, colour in zip(names, colours, strict=False)]


def _normalise(facts: Sequence[CaseFacts], overview: DatasetSummary, channels: Sequence[str]) -> Choices:
    """Hounsfield units mean the same everywhere, and so do the colours of a picture; other values go by their own image."""
    if all(name.upper() == "CT" for name in channels):
        return _ct(facts)
    if (overview.dimensions, overview.channels) == (2, 3) and all(case.dtype == "uint8" for case in facts):
        values: Mapping[str, Any] = {"method": "range", "lower": 0, "upper": 255}
        reason = "pictures of 8 bits a colour"
    else:
        values, reason = {"method": "zscore"}, "intensities of different images can't be compared"
    return {f"normalise.{key}": Choice(value, reason if key == "method" else "") for key, value in values.items()}


def _ct(facts: Sequence[CaseFacts]) -> Choices:
    """Limits, mean and deviation of the foreground over all cases; each counts by its pixels."""
    seen = [values for case in facts for values in case.foreground]
    weights = [_foreground_pixels(case) for case in facts for _ in case.foreground]
    means, deviations = np.array([(values.mean, values.deviation) for values in seen]).T
    lower, upper = np.median([(values.low, values.high) for values in seen], axis=0)
    mean = np.average(means, weights=weights)
    deviation = math.sqrt(np.average(deviations**2 + (means - mean) ** 2, weights=weights))
    limits = "the foreground's percentiles 0.5 and 99.5, median over the cases"
    return {
        "normalise.method": Choice("ct", "the channel is named CT"),
        "normalise.lower": Choice(_rounded(lower), limits),
        "normalise.upper": Choice(_rounded(upper), limits),
        "normalise.mean": Choice(_rounded(min(max(mean, lower), upper)), "of the foreground of all cases"),
        "normalise.deviation": Choice(_rounded(max(deviation, 1e-3)), "of the foreground of all cases"),
    }


def _foreground_pixels(case: CaseFacts) -> int:
    return sum(count for label, count in case.label_counts.items() if label > 0)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
