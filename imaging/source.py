"""Images as the rest of Overtile sees them: channels first, S = (H, W) or (D, H, W), read region by region."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite, prod
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
        spacing_um: distance between pixel centres in S order; None: not known.
        affine: volumes only, (4, 4): index in the file's own array -> mm, right-anterior-superior (NIfTI's convention).
        affine_codes: volumes only: NIfTI's sform and qform codes.
        origin_px: slides only: first pixel of the scanned part in S order, from which viewers that crop to it (QuPath) count.
        origin_um: OME-Zarr only: position of the first pixel's centre in S order.
        files: DICOM only: the series' files in the order of the slices, to which a segmentation refers.
        file_axes: volumes only: 2 where the file declares two axes, as 2D NIfTI does.
        volume: planes of volumes only: the volume's geometry, see `imaging/plane.py`.
    """

    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = field(default=None, compare=False)
    affine_codes: tuple[int, int] = (0, 0)
    origin_px: tuple[int, ...] | None = None
    origin_um: tuple[float, ...] | None = None
    files: tuple[Path, ...] = ()
    file_axes: int = 3
    volume: "Geometry | None" = field(default=None, compare=False)


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a file where it does not say itself how it is to be read.

    Args:
        labels: the file is a reference: values are read as they are stored, such as a palette's indices.
        dimensions: of the image that is needed, 2 or 3: a volume of one slice is read as 2D, and the nameless axis of a TIFF
            stack as depth; None reads what the file declares.
        axes: letters for the axes of a TIFF, such as ZYX, in the file's order; None takes the file's.
    """

    labels: bool = False
    dimensions: int | None = None
    axes: str | None = None


@dataclass(frozen=True)
class Level:
    """Resolution of a slide's pyramid; level 0 is the finest."""

    shape: tuple[int, ...]
    spacing_um: tuple[float, ...] | None


class ImageSource(ABC):
    """Open image: a context manager that closes the file on exit."""

    mask_format: ClassVar[MaskFormat]  # default format of a mask of this image

    def __init__(self, geometry: Geometry, channels: int, dtype: np.dtype[Any], levels: tuple[Level, ...] = ()) -> None:
        self.geometry = geometry
        self.channels = channels
        self.dtype = dtype
        self.levels = levels or (Level(geometry.shape, geometry.spacing_um),)
        self.spacing_given = False  # True: the user gave the spacing
        self.file_warnings: tuple[str, ...] = ()
        self._lowest, self._highest = inf, -inf  # of all pixels read so far

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
        """Stable codes of the remarks about this image.

        The file's own, and `constant_image` while all pixels read so far have one value, as on a slide without tissue.
        """
        return (*self.file_warnings, "constant_image") if self._lowest == self._highest else self.file_warnings

    @property
    def held_bytes(self) -> int:
        """Upper limit of the memory that the open source keeps between reads."""
        return 0

    def give_spacing(self, spacing_um: tuple[float, ...]) -> None:
        """Replace the spacing at level 0 by one that the user gives.

        Args:
            spacing_um: in S order, or one number for every axis.

        Raises:
            UnsuitableImage: `spacing_invalid`: not one number above 0 for each axis, or the file has an affine.
        """
        if len(spacing_um) == 1:
            spacing_um *= len(self.shape)
        if len(spacing_um) != len(self.shape) or not all(isfinite(value) and value > 0 for value in spacing_um):
            raise UnsuitableImage(
                "spacing_invalid",
                f"the given spacing is {spacing_um}; give {len(self.shape)} numbers above 0, or one for all, in micrometres",
            )
        if self.geometry.affine is not None:
            raise UnsuitableImage(
                "spacing_invalid",
                "a spacing was given for a volume whose file has its own; leave it out, or correct the file",
            )
        self.spacing_given = True
        self.geometry = replace(self.geometry, spacing_um=spacing_um)
        steps = [[whole / size for whole, size in zip(self.shape, level.shape, strict=True)] for level in self.levels]
        self.levels = tuple(
            Level(level.shape, tuple(value * factor for value, factor in zip(spacing_um, step, strict=True)))
            for level, step in zip(self.levels, steps, strict=True)
        )

    def read(self, region: Region, level: int = 0) -> NDArray[Any]:
        """Return the pixels (C, *S) of a region, which is given in the coordinates of its level.

        Raises:
            ValueError: the level doesn't exist, or the region is empty, has a step or lies partly outside.
            BrokenImage: the file's pixels can't be decoded.
            UnsuitableImage: voxels or pixels are NaN or infinite.
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
        """Return the pixels of a region that `read` has checked."""

    def close(self) -> None:  # noqa: B027  (most sources hold no file open)
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class HeldSource(ImageSource):
    """Image that is decoded as a whole at the first read, and held in memory until it is closed."""

    def __init__(self, geometry: Geometry, channels: int, dtype: np.dtype[Any]) -> None:
        super().__init__(geometry, channels, dtype)
        self._pixels: NDArray[Any] | None = None  # (C, *S)

    @property
    def held_bytes(self) -> int:
        """Size of the decoded image, bytes."""
        return prod(self.shape) * self.channels * self.dtype.itemsize

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._pixels is None:
            self._pixels = self._decode()
        return self._pixels[(slice(None), *region)].copy()

    @abstractmethod
    def _decode(self) -> NDArray[Any]:
        """Return the whole image, (C, *S)."""

    def close(self) -> None:
        """Release the decoded image."""
        self._pixels = None


def check_range(stored: NDArray[Any]) -> None:
    """Refuse integers that float32, in which networks compute, would change: it holds all up to 2**24 and few beyond.

    Raises:
        UnsuitableImage: `value_range`.
    """
    real = stored.astype(np.float32)
    end = float(np.iinfo(stored.dtype).max)  # rounded up to the power of two
    exact = (real < end) & (np.where(real < end, real, 0).astype(stored.dtype) == stored)
    if not exact.all():
        raise UnsuitableImage(
            "value_range",
            f"{int((~exact).sum())} pixels hold integers too large for float32 to hold exactly; convert the image to a "
            "type of at most 32 bits",
        )


def over_white(
    colour: NDArray[Any], alpha: NDArray[Any], *, white: int | None = None, premultiplied: bool = False
) -> NDArray[Any]:
    """Return the colours blended with a white background, as viewers show transparent pixels.

    Args:
        colour: (C, H, W), uint8 or uint16.
        alpha: (H, W), the same type; white is opaque.
        white: largest value; None means that of the type.
        premultiplied: the colours were already multiplied by alpha.

    Returns:
        (C, H, W), the colours' own type.
    """
    white = int(np.iinfo(colour.dtype).max) if white is None else white
    if bool((alpha == white).all()):
        return colour
    background_share = white - alpha.astype(np.uint64)
    if premultiplied:
        return np.minimum(colour + background_share, white).astype(colour.dtype)
    return ((colour * alpha.astype(np.uint64) + white * background_share + white // 2) // white).astype(colour.dtype)


def spacing_text(spacing_um: Sequence[float] | None) -> str:
    """Return the spacing as messages write it, in the field's own unit: 0.5 x 0.5 um in 2D, 3 x 0.9 x 0.9 mm in 3D."""
    if spacing_um is None:
        return "not given"
    factor, unit = (1e-3, "mm") if len(spacing_um) == 3 else (1, "um")
    return f"{' x '.join(f'{value * factor:.4g}' for value in spacing_um)} {unit}"


def _lies_in(axis: slice, size: int) -> bool:
    if axis.start is None or axis.stop is None or axis.step not in (None, 1):
        return False
    return bool(0 <= axis.start < axis.stop <= size)
