"""Channels of an image that lie in several files of one geometry."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage
from imaging.guards import LOCAL, Guards
from imaging.open import open_image
from imaging.source import ImageSource, MaskFormat, Region, spacing_text

SEPARATOR = ";"  # between the files of one image's channels
AFFINE_TOLERANCE_MM = 1e-3
SPACING_TOLERANCE = 1e-3  # of the first file's


@dataclass(frozen=True)
class ImageInput:
    """Image among the inputs.

    Args:
        paths: its file or folder; several files are its channels in order.
        stem: name of its outputs, without a suffix.
        spacing_um: distance between pixels where a table gives it, in S order or one for all axes; None: not given.
        axes: letters of a TIFF's axes where a table gives them; None: not given.
        has_name: the files have the names that people gave them, unlike those of an upload.
    """

    paths: tuple[Path, ...]
    stem: str
    spacing_um: tuple[float, ...] | None = None
    axes: str | None = None
    has_name: bool = True

    @property
    def name(self) -> str | None:
        """Names of the files; None if people didn't give them."""
        return SEPARATOR.join(path.name for path in self.paths) if self.has_name else None

    def __str__(self) -> str:
        return SEPARATOR.join(map(str, self.paths))


class StackedSource(ImageSource):
    """Image of several sources with the same geometry, whose channels are theirs in order.

    Pixels have the smallest type that holds those of all sources.

    Args:
        sources: open sources, which are closed with this one.
        what: "image" or "reference", for the message of an error.

    Raises:
        UnsuitableImage: `channel_geometry_mismatch`: a shape, spacing or affine differs from that of the first source.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the first source's

    def __init__(self, sources: Sequence[ImageSource], what: str = "image") -> None:
        first = sources[0]
        for number, source in enumerate(sources[1:], start=2):
            check_same_geometry(first, source, f"file {number} of the case's {what}")
        self._sources = tuple(sources)
        self.mask_format = first.mask_format
        levels = first.levels if all(source.levels == first.levels for source in sources) else ()
        dtype = np.result_type(*(source.dtype for source in sources))
        super().__init__(first.geometry, sum(source.channels for source in sources), dtype, levels)
        self._collect_warnings()

    @property
    def held_bytes(self) -> int:
        """Memory that all sources hold."""
        return sum(source.held_bytes for source in self._sources)

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        pixels = np.concatenate([source.read(region, level) for source in self._sources])  # (C, *S)
        self._collect_warnings()
        return pixels.astype(self.dtype, copy=False)

    def _collect_warnings(self) -> None:
        """Take over the sources' remarks, some of which are known only once pixels were read."""
        of_sources = [warning for source in self._sources for warning in source.file_warnings]
        self.file_warnings = tuple(dict.fromkeys((*self.file_warnings, *of_sources)))

    def close(self) -> None:
        """Close every source."""
        for source in self._sources:
            source.close()


def stack_channels(sources: Sequence[ImageSource], what: str = "image") -> ImageSource:
    """Return one source as it is, and several as one image with all channels.

    Raises:
        UnsuitableImage: `channel_geometry_mismatch`.
    """
    return sources[0] if len(sources) == 1 else StackedSource(sources, what)


def affine_distance_mm(first: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest difference between the entries of two affines."""
    return float(np.abs(first - other).max())


def check_same_geometry(first: ImageSource, other: ImageSource, name: str) -> None:
    """Refuse a file, called `name` in the message, whose geometry differs from that of the first.

    Raises:
        UnsuitableImage: `channel_geometry_mismatch`: the shape, spacing or affine differs.
    """
    difference = None
    affines = first.geometry.affine, other.geometry.affine
    if other.shape != first.shape:
        difference = f"shape {other.shape}, the first file's is {first.shape}"
    elif not _is_same_spacing(first.spacing_um, other.spacing_um):
        difference = f"spacing {spacing_text(other.spacing_um)}, the first file's is {spacing_text(first.spacing_um)}"
    elif affines[0] is not None and affines[1] is not None:
        distance = affine_distance_mm(affines[0], affines[1])
        if distance > AFFINE_TOLERANCE_MM:
            difference = f"affine {distance:.3g} mm off the first file's, allowed are {AFFINE_TOLERANCE_MM:g} mm"
    if difference:
        raise UnsuitableImage("channel_geometry_mismatch", f"{name} has {difference}; resample all channels onto one grid")


def _is_same_spacing(first: tuple[float, ...] | None, other: tuple[float, ...] | None) -> bool:
    if first is None or other is None:
        return first is other
    return bool(np.allclose(first, other, rtol=SPACING_TOLERANCE))


def open_input(
    image: ImageInput,
    *,
    guards: Guards = LOCAL,
    spacing_um: tuple[float, ...] | None = None,
    dimensions: int | None = None,
    axes: str | None = None,
) -> ImageSource:
    """Open an image; the channels of several files are stacked in order. The arguments are those of `open_image`.

    Raises:
        DataError: a file can't be read, or `channel_geometry_mismatch`.
    """
    with ExitStack() as sources:
        source = stack_channels(
            [
                sources.enter_context(open_image(path, guards=guards, spacing_um=spacing_um, dimensions=dimensions, axes=axes))
                for path in image.paths
            ]
        )
        sources.pop_all()
    return source
