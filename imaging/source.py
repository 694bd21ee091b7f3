"""An image as the rest of Overtile sees it: channels first, S = (H, W) or (D, H, W), read region by region."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from imaging.errors import UnsuitableImage

Region = tuple[slice, ...]
MaskFormat = Literal["png", "tiff", "nifti", "ome-zarr", "dicom-seg", "geojson"]


@dataclass(frozen=True)
class Geometry:
    """Geometry of an image; a mask with an equal geometry lies on it.

    Args:
        shape: size in S order, as read.
        spacing_um: distance between pixel centres in S order; None where the file doesn't say.
        affine: volumes only, (4, 4): index in the file's own array -> mm, right-anterior-superior (NIfTI's convention).
        affine_codes: volumes only: NIfTI's sform and qform codes.
        origin_px: slides only: where viewers that crop a slide to its scanned part (QuPath) count from, pixels in S order.
        origin_um: where the format says so (OME-Zarr): the place of the first pixel's centre in S order.
        files: DICOM only: the series' files in the order of the slices; what is derived from the image refers to them.
    """

    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = field(default=None, compare=False)
    affine_codes: tuple[int, int] = (0, 0)
    origin_px: tuple[int, ...] | None = None
    origin_um: tuple[float, ...] | None = None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Level:
    """Resolution of a slide's pyramid; level 0 is the finest."""

    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None


class ImageSource(ABC):
    """An open image. A context manager: leaving it closes the file."""

    mask_format: ClassVar[MaskFormat]  # the natural format of a mask that lies on this image

    def __init__(self, geometry: Geometry, channels: int, dtype: np.dtype[Any], levels: tuple[Level, ...] = ()) -> None:
        self.geometry = geometry
        self.channels = channels
        self.dtype = dtype
        self.levels = levels or (Level(geometry.shape, geometry.spacing_um),)
        self.spacing_given = False  # by the user, and not by the file
        self.file_warnings: tuple[str, ...] = ()
        self._lowest, self._highest = inf, -inf  # of all that was read

    @property
    def shape(self) -> tuple[int, ...]:
        """Size at level 0 in S order."""
        return self.geometry.shape

    @property
    def spacing_um(self) -> tuple[float, ...] | None:
        """Distance between pixel centres at level 0 in S order, micrometres; None where the file doesn't say."""
        return self.geometry.spacing_um

    @property
    def warnings(self) -> tuple[str, ...]:
        """Stable codes of what is read all the same, by rules that are written down.

        The file's own, and `constant_image` as long as all that was read has one value: a slide without tissue, say.
        """
        return (*self.file_warnings, "constant_image") if self._lowest == self._highest else self.file_warnings

    @property
    def held_bytes(self) -> int:
        """Most memory that the open source may hold on to between reads; who opens many adds these up."""
        return 0

    def give_spacing(self, spacing_um: tuple[float, ...]) -> None:
        """Set the spacing at level 0 that the user gives, in place of the file's.

        Args:
            spacing_um: in S order, or one number for every axis.

        Raises:
            UnsuitableImage: `spacing_invalid`: not one number above 0 an axis, or the file says where it lies in the patient.
        """
        if len(spacing_um) == 1:
            spacing_um *= len(self.shape)
        if len(spacing_um) != len(self.shape) or not all(isfinite(value) and value > 0 for value in spacing_um):
            raise UnsuitableImage(
                "spacing_invalid",
                f"the spacing given is {spacing_um}; give {len(self.shape)} numbers above 0, or one for all, in micrometres",
            )
        if self.geometry.affine is not None:
            raise UnsuitableImage(
                "spacing_invalid",
                "a spacing was given for a volume whose file has its own; leave it out, or mend the file",
            )
        self.spacing_given = True
        self.geometry = replace(self.geometry, spacing_um=spacing_um)
        steps = [[whole / size for whole, size in zip(self.shape, level.shape, strict=True)] for level in self.levels]
        self.levels = tuple(
            Level(level.shape, tuple(value * factor for value, factor in zip(spacing_um, step, strict=True)))
            for level, step in zip(self.levels, steps, strict=True)
        )

    def read(self, region: Region, level: int = 0) -> NDArray[Any]:
        """Pixels of a region given in that level's own coordinates, (C, *S).

        Raises:
            ValueError: there is no such level, or the region doesn't lie inside it, or has a step.
            BrokenImage: the file's pixels can't be decoded.
            UnsuitableImage: voxels or pixels that aren't finite numbers.
        """
        if not 0 <= level < len(self.levels):
            raise ValueError(f"level {level} doesn't exist; this image has levels 0 to {len(self.levels) - 1}")
        shape = self.levels[level].shape
        if len(region) != len(shape) or not all(_lies_in(axis, size) for axis, size in zip(region, shape, strict=True)):
            raise ValueError(f"region {region} doesn't lie in the level's shape {shape}")
        pixels = self._read(region, level)
        self._lowest, self._highest = min(self._lowest, pixels.min()), max(self._highest, pixels.max())
        return pixels

    def blocks(self, size_bytes: int = 32 * 2**20) -> Iterator[NDArray[Any]]:
        """Yield the whole of level 0 in slabs along the first axis, each (C, *S) of about `size_bytes` or one row."""
        row_bytes = self.channels * self.dtype.itemsize * int(np.prod(self.shape[1:]))
        rows = max(1, size_bytes // row_bytes)
        for start in range(0, self.shape[0], rows):
            rest = (slice(0, size) for size in self.shape[1:])
            yield self.read((slice(start, min(start + rows, self.shape[0])), *rest))

    @abstractmethod
    def _read(self, region: Region, level: int) -> NDArray[Any]:
        """`read` after its checks."""

    def close(self) -> None:  # noqa: B027  (most sources hold no file open)
        """Lets go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def spacing_text(spacing_um: Sequence[float]) -> str:
    """Return the spacing as messages write it: 0.5 x 0.5."""
    return " x ".join(f"{value:.4g}" for value in spacing_um)


def _lies_in(axis: slice, size: int) -> bool:
    if axis.start is None or axis.stop is None or axis.step not in (None, 1):
        return False
    return bool(0 <= axis.start < axis.stop <= size)
