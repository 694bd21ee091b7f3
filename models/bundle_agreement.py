"""Comparison of bundles: their masks can be compared or averaged if they have the same channels, classes and spacing."""

import math

from models.bundle import Manifest

Axes = tuple[float, ...] | None


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
