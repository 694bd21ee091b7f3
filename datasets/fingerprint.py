"""What a data set's cases hold, read once each: sizes, spacings, intensities, class shares, objects; what plans and checks go by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Intensities:
    """One channel's values over some pixels; `low` and `high` are the percentiles 0.5 and 99.5."""

    minimum: float
    maximum: float
    mean: float
    deviation: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    Args:
        name: the case's.
        shape: in S order.
        spacing_um: in S order; None where neither the file nor the user says.
        dtype: of the pixels as stored.
        image: over all pixels, a channel each.
        foreground: over the pixels whose label isn't 0, a channel each; empty where there are none.
        label_counts: pixels of each label.
        object_px: the median side, in pixels of S order, of the foreground's connected parts; None where there are none.
        sha256: of each image file, in order.
    """

    name: str
    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None
    dtype: str
    image: tuple[Intensities, ...]
    foreground: tuple[Intensities, ...]
    label_counts: dict[int, int]
    object_px: tuple[float, ...] | None
    sha256: tuple[str, ...]
