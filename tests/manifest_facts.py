"""Facts of a bundle's manifest, for tests that need a bundle and don't depend on its facts; `class_prior` is left out."""

from typing import Any

FACTS: dict[str, Any] = {
    "created": "2026-01-01T00:00:00+00:00",
    "margin_px": (0, 0),
    "validation": {"dice": 0.5},
    "training_steps": 1,
    "training_seconds": 1.0,
    "training_images": (),
    "versions": {},
    "commit": None,
    "intended_use": "tests",
}
