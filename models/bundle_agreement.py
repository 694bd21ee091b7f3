"""Whether two bundles answer the same question: their masks then mean the same, and can be compared or averaged."""

import math

from models.bundle import Manifest

Axes = tuple[float, ...] | None


def differences(first: Manifest, second: Manifest) -> list[str]:
    """Every difference in dimensions, channels, classes and spacing, in words; none: they can be set beside one another."""
    aspects = [
        ("dimensions", first.dimensions, second.dimensions),
        ("channels", ", ".join(first.channels), ", ".join(second.channels)),
        ("classes", _class_names(first), _class_names(second)),
    ]
    found = [f"{what} {one} and {other}" for what, one, other in aspects if one != other]
    if not _same_spacing(first.spacing_um, second.spacing_um):
        found.append(f"spacing {_spacing(first.spacing_um)} and {_spacing(second.spacing_um)}")
    return found


def _class_names(manifest: Manifest) -> str:
    return ", ".join(section.name for section in manifest.classes)


def _spacing(spacing_um: Axes) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing_um) + " um" if spacing_um else "not given"


def _same_spacing(first: Axes, second: Axes) -> bool:
    if first is None or second is None:
        return first is second
    return len(first) == len(second) and all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(first, second, strict=True))
