"""Manifest of a bundle: what is known of a trained network, and how the manifests of two bundles differ.

The masks of bundles can be compared or averaged if they have the same channels, classes and spacing.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from configs.sections import NAME_PATTERN, ClassSection
from models.calibration import Calibration

Axes = tuple[float, ...] | None


class Manifest(BaseModel):
    """Metadata of a trained network, which `models.bundle.load` checks.

    `class_prior` is each class's share of the training pixels, `training_images` the SHA-256 digests of the images used in
    training (validation cases included), `validation` the mean of each metric over the validation cases, and `files` the
    SHA-256 digests of the bundle's other files. `member_priors` has the class prior of each network of an ensemble, whose
    `class_prior` is their mean; it is empty for a single network. `calibration` is None if the probabilities aren't calibrated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1, 2, 3, 4]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]  # part of paths
    created: str
    method: Literal["unet", "sliding_window"]
    dimensions: Literal[2, 3]
    channels: tuple[str, ...]
    classes: tuple[ClassSection, ...]
    spacing_um: tuple[float, ...] | None
    margin_px: tuple[int, int]
    class_prior: tuple[float, ...]
    member_priors: tuple[tuple[float, ...], ...] = ()
    validation: dict[str, float]
    calibration: Calibration | None = None
    training_steps: int
    training_seconds: float
    training_images: tuple[str, ...]
    versions: dict[str, str]
    commit: str | None
    intended_use: str
    files: dict[str, str]


def differences(first: Manifest, second: Manifest) -> list[str]:
    """Return the differences in dimensions, channels, classes and spacing as texts."""
    aspects = [
        ("dimensions", first.dimensions, second.dimensions),
        ("channels", ", ".join(first.channels), ", ".join(second.channels)),
        ("classes", _class_names(first), _class_names(second)),
    ]
    texts = [f"{name} {one} and {other}" for name, one, other in aspects if one != other]
    if not _is_same_spacing(first.spacing_um, second.spacing_um):
        texts.append(f"spacing {_spacing_text(first.spacing_um)} and {_spacing_text(second.spacing_um)}")
    return texts


def _class_names(manifest: Manifest) -> str:
    return ", ".join(section.name for section in manifest.classes)


def _spacing_text(spacing_um: Axes) -> str:
    if not spacing_um:
        return "not given"
    factor, unit = (1e-3, "mm") if len(spacing_um) == 3 else (1, "um")
    return f"{' x '.join(f'{value * factor:.4g}' for value in spacing_um)} {unit}"


def _is_same_spacing(first: Axes, second: Axes) -> bool:
    if first is None or second is None:
        return first is second
    return len(first) == len(second) and all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(first, second, strict=True))
