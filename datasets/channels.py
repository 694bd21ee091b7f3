"""Several files of one geometry -> one image, whose channels are theirs in order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.source import ImageSource, MaskFormat, Region

AFFINE_TOLERANCE_MM = 1e-3
SPACING_TOLERANCE = 1e-3  # of the first file's


class StackedSource(ImageSource):
    """Sources of one geometry as one image; its pixels have the smallest type that holds all of theirs.

    Args:
        sources: open; closed with this one.
        what: they are together, for the error's message.

    Raises:
        UnsuitableImage: `channel_geometry_mismatch`: another shape, spacing or affine than the first one's.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the first source's

    def __init__(self, sources: Sequence[ImageSource], what: str = "image") -> None:
        first = sources[0]
        for number, source in enumerate(sources[1:], start=2):
            _check(first, source, f"file {number} of the case's {what}")
        self._sources = tuple(sources)
        self.mask_format = first.mask_format
        levels = first.levels if all(source.levels == first.levels for source in sources) else ()
        dtype = np.result_type(*(source.dtype for source in sources))
        super().__init__(first.geometry, sum(source.channels for source in sources), dtype, levels)
        self._collect_warnings()

    @property
    def held_bytes(self) -> int:
        """Those of all sources."""
        return sum(source.held_bytes for source in self._sources)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        pixels = np.concatenate([source.read(region, level) for source in self._sources])  # (C, *S)
        self._collect_warnings()
        return pixels.astype(self.dtype, copy=False)

    def _collect_warnings(self) -> None:
        """Take over the sources' remarks, some of which are known only once pixels were read."""
        self.file_warnings = tuple(dict.fromkeys(warning for source in self._sources for warning in source.file_warnings))

    def close(self) -> None:
        """Closes every source."""
        for source in self._sources:
            source.close()


def stack_channels(sources: Sequence[ImageSource], what: str = "image") -> ImageSource:
    """One source as it is, several as one.

    Raises:
        UnsuitableImage: `channel_geometry_mismatch`.
    """
    return sources[0] if len(sources) == 1 else StackedSource(sources, what)


def affine_distance_mm(first: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """By how much two affines differ in the number in which they differ most."""
    return float(np.abs(first - other).max())


def _check(first: ImageSource, other: ImageSource, what: str) -> None:
    differences = []
    if other.shape != first.shape:
        differences.append(f"shape {other.shape}, the first file's is {first.shape}")
    elif not _same_spacing(first.spacing_um, other.spacing_um):
        differences.append(f"spacing {other.spacing_um} um, the first file's is {first.spacing_um} um")
    affines = first.geometry.affine, other.geometry.affine
    if not differences and affines[0] is not None and affines[1] is not None:
        distance = affine_distance_mm(affines[0], affines[1])
        if distance > AFFINE_TOLERANCE_MM:
            differences.append(f"affine {distance:.3g} mm off the first file's, allowed are {AFFINE_TOLERANCE_MM:g} mm")
    if differences:
        raise UnsuitableImage(
            "channel_geometry_mismatch",
            f"{what} has {differences[0]}; resample all channels onto one grid",
        )


def _same_spacing(first: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if first is None or other is None:
        return first is other
    return bool(np.allclose(first, other, rtol=SPACING_TOLERANCE))
