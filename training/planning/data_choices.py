"""Choose what a plan takes from the images themselves: spacing, intensity normalisation and channels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import ConfigError
from datasets.declared.declaration import Declaration
from datasets.fingerprint import CaseFacts
from imaging.errors import DataError
from imaging.source import spacing_text

KEPT_BY_OPENING = 0.99  # least share of the foreground
COARSER = 3  # an axis this many times as coarse as the others, with as many times fewer pixels, is anisotropic
_DECLARED_RANGES = {"rgb_to_0_1": (0, 255), "nonorm": (-1, 1)}  # nnU-Net's names; -1 .. 1 leaves values as they are


@dataclass(frozen=True)
class Choice:
    """A value of the config and the reason for it, which is empty where the user chose the value."""

    value: Any
    reason: str = ""


Choices = dict[str, Choice]


@dataclass(frozen=True)
class DatasetSummary:
    """Properties that the cases of a data set share, and typical sizes at the target spacing.

    Args:
        cases: number of cases.
        dimensions: of the images, 2 or 3.
        channels: number of channels of the images.
        spacing_um: target spacing; None where any case has no spacing.
        shape: median shape of the images.
        largest: largest size along each axis.
        pixels: total number of pixels.
        object_px: median side of an object along each axis; None without any foreground.
        small_object_px: size that a hundredth of the labels above 0 don't exceed, which are the objects where references
            number them.
        small_hole_px: size that a hundredth of the holes don't exceed; None without holes.
        opening_radius_px: largest radius of a disc or ball by which an opening keeps 99 percent of the foreground.
    """

    cases: int
    dimensions: int
    channels: int
    spacing_um: tuple[float, ...] | None
    shape: tuple[int, ...]
    largest: tuple[int, ...]
    pixels: int
    object_px: tuple[float, ...] | None
    small_object_px: float
    small_hole_px: float | None
    opening_radius_px: int


def summarise_cases(facts: Sequence[CaseFacts]) -> DatasetSummary:
    """Return the summary of a data set.

    Raises:
        DataError: no case has foreground, or the cases differ in dimensions or channels.
    """
    if not any(case.foreground for case in facts):
        raise DataError("no_foreground", "no case has a reference with a label above 0; a plan needs some")
    _check_same("dimensions", {len(case.shape) for case in facts})
    _check_same("channels", {len(case.image) for case in facts})
    spacing = target_spacing(facts)
    scales = [np.ones(len(case.shape)) if spacing is None else np.array(case.spacing_um) / spacing for case in facts]
    shapes = np.array([np.array(case.shape) * scale for case, scale in zip(facts, scales, strict=True)]).round().clip(1)
    objects = [np.array(case.object_px) * scale for case, scale in zip(facts, scales, strict=True) if case.object_px]
    sizes = [
        count * scale.prod()
        for case, scale in zip(facts, scales, strict=True)
        for label, count in case.label_counts.items()
        if label > 0
    ]
    holes = [case.hole_px * scale.prod() for case, scale in zip(facts, scales, strict=True) if case.hole_px is not None]
    kept = [case.opening_shares for case in facts if case.opening_shares]
    radius = int((np.mean(kept, axis=0) >= KEPT_BY_OPENING).sum()) if kept else 0
    return DatasetSummary(
        cases=len(facts),
        dimensions=len(facts[0].shape),
        channels=len(facts[0].image),
        spacing_um=spacing,
        shape=tuple(int(size) for size in np.median(shapes, axis=0)),
        largest=tuple(int(size) for size in shapes.max(axis=0)),
        pixels=int(shapes.prod(axis=1).sum()),
        object_px=tuple(np.median(objects, axis=0).tolist()) if objects else None,
        small_object_px=float(np.percentile(sizes, 1)) if sizes else 0.0,
        small_hole_px=float(min(holes)) if holes else None,
        opening_radius_px=int(radius * np.mean(scales)),
    )


def _check_same(name: str, counts: set[int]) -> None:
    if len(counts) > 1:
        raise DataError(
            "cases_differ", f"images have {' and '.join(map(str, sorted(counts)))} {name}; give each kind a folder of its own"
        )


def target_spacing(facts: Sequence[CaseFacts]) -> tuple[float, ...] | None:
    """Return the median spacing of each axis; None where any case has none.

    An axis that is far coarser than the others takes the 10th percentile, so that fewer slices are interpolated.

    Source: Isensee et al. 2021 (nnU-Net), its default preprocessing.
    """
    case_spacings = [case.spacing_um for case in facts if case.spacing_um is not None]
    if len(case_spacings) < len(facts):
        return None
    spacings, shapes = np.array(case_spacings), np.array([case.shape for case in facts])
    target = np.median(spacings, axis=0)
    shape = np.median(shapes * spacings / target, axis=0)
    coarsest = int(target.argmax())
    finer, longer = np.delete(target, coarsest), np.delete(shape, coarsest)
    if target[coarsest] > COARSER * finer.max() and COARSER * shape[coarsest] < longer.min():
        target[coarsest] = max(np.percentile(spacings[:, coarsest], 10), finer.max())
    return tuple(float(f"{value:.6g}") for value in target)


def choose_spacing(facts: Sequence[CaseFacts], summary: DatasetSummary) -> Choice:
    """Choose `data.spacing_um`, the summary's spacing."""
    if summary.spacing_um is None:
        without = sum(case.spacing_um is None for case in facts)
        return Choice(None, f"{without} of {len(facts)} cases have no spacing, so images are not resampled")
    in_mm = f"{spacing_text(summary.spacing_um)}, " if summary.dimensions == 3 else ""
    medians = np.median([case.spacing_um for case in facts if case.spacing_um], axis=0)
    reason = f"{in_mm}median of {len(facts)} cases"
    if not np.allclose(medians, summary.spacing_um, rtol=1e-5):
        return Choice(list(summary.spacing_um), f"{reason}; of the coarsest axis the 10th percentile")
    return Choice(list(summary.spacing_um), f"{reason} on each axis")


def choose_channels(summary: DatasetSummary, names: Sequence[str], declaration: Declaration | None) -> Choice:
    """Choose `data.channels`: the user's names, those that the data set declares, or placeholders.

    Raises:
        ConfigError: the images have another number of channels than the user names.
        DataError: `declaration_differs`: they have another number than is declared.
    """
    if names and len(names) != summary.channels:
        raise ConfigError(f"--channels: {len(names)} names for {summary.channels} channels; give one for each")
    if names:
        return Choice(list(names))
    if declaration and declaration.channels:
        declared = declaration.channels
        if len(declared) != summary.channels:
            raise DataError(
                "declaration_differs",
                f"{declaration.origin} declares {len(declared)} channels ({', '.join(declared)}), the images have "
                f"{summary.channels}; correct one of them, or name the channels with --channels",
            )
        return Choice(list(declared), f"declared by {declaration.origin}")
    if (summary.dimensions, summary.channels) == (2, 3):
        return Choice(["red", "green", "blue"], "2D images with three channels")
    numbers = range(1, summary.channels + 1)
    return Choice([f"channel_{number}" for number in numbers], "placeholder names; set them with --channels")


def choose_normalisation(
    facts: Sequence[CaseFacts], summary: DatasetSummary, channels: Sequence[str], declared: Sequence[str] = ()
) -> Choices:
    """Choose `normalise`: `ct` or `range` if values mean the same in every image, otherwise `zscore`.

    Declared names of channels choose it as in nnU-Net: CT, rgb_to_0_1, noNorm, and z-score for all others.
    """
    if all(name.upper() == "CT" for name in channels):
        return _ct_normalisation(facts)
    declared_names = {name.casefold() for name in declared}
    if len(declared_names) == 1 and declared_names <= set(_DECLARED_RANGES):
        (name,) = declared_names
        lower, upper = _DECLARED_RANGES[name]
        return {
            "normalise.method": Choice("range", f"the channels are declared as {declared[0]}"),
            "normalise.lower": Choice(lower),
            "normalise.upper": Choice(upper),
        }
    if declared:
        return {"normalise.method": Choice("zscore", f"declared channels: {', '.join(declared)}")}
    if (summary.dimensions, summary.channels) == (2, 3) and all(case.dtype == "uint8" for case in facts):
        return {
            "normalise.method": Choice("range", "8-bit colour images"),
            "normalise.lower": Choice(0),
            "normalise.upper": Choice(255),
        }
    return {"normalise.method": Choice("zscore", "intensities of different images are not comparable")}


def _ct_normalisation(facts: Sequence[CaseFacts]) -> Choices:
    """Choose limits, mean and standard deviation of the foreground over all cases, weighted by their foreground pixels."""
    foreground = [values for case in facts for values in case.foreground]
    pixels = [sum(count for label, count in case.label_counts.items() if label > 0) for case in facts for _ in case.foreground]
    means, deviations = np.array([(values.mean, values.deviation) for values in foreground]).T
    lower, upper = np.median([(values.low, values.high) for values in foreground], axis=0)
    mean = np.average(means, weights=pixels)
    deviation = math.sqrt(np.average(deviations**2 + (means - mean) ** 2, weights=pixels))
    return {
        "normalise.method": Choice("ct", "the channel is named CT"),
        "normalise.lower": Choice(_rounded(lower), "0.5th percentile of the foreground, median over the cases"),
        "normalise.upper": Choice(_rounded(upper), "99.5th percentile of the foreground, median over the cases"),
        "normalise.mean": Choice(_rounded(min(max(mean, lower), upper)), "of the foreground of all cases"),
        "normalise.deviation": Choice(_rounded(max(deviation, 1e-3)), "of the foreground of all cases"),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
