"""Planes: volumes of one slice, such as 2D images in NIfTI, as images with S = (H, W)."""

from dataclasses import replace
from typing import Any

from nibabel import orientations
from numpy.typing import NDArray

from imaging.source import Geometry, ImageSource, MaskFormat, Region


def plane_axis(geometry: Geometry) -> int | None:
    """Return the axis of S along which a volume has one slice; None if there is none, or no telling which of several.

    Where several axes have length 1, it is the file's last one.
    """
    axes = [axis for axis, size in enumerate(geometry.shape) if size == 1]
    if len(geometry.shape) != 3 or not axes:
        return None
    if geometry.affine is not None:
        world = int(orientations.io_orientation(geometry.affine)[2, 0])  # file's last axis: 0 right, 1 anterior, 2 superior
        if 2 - world in axes:
            return 2 - world
    return axes[0] if len(axes) == 1 else None


class PlaneSource(ImageSource):
    """A volume of one slice, read as 2D: S = the two other axes, each growing towards superior, anterior or right.

    `geometry.volume` is the volume's own geometry, so that a mask in the volume's format gets the same header.

    Args:
        volume: closed with this one.
        axis: axis of S along which the volume has one slice.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the volume's

    def __init__(self, volume: ImageSource, axis: int) -> None:
        self._volume = volume
        self._axis = axis
        self.mask_format = volume.mask_format
        geometry = volume.geometry
        spacing_um = geometry.spacing_um and _without(geometry.spacing_um, axis)
        plane = replace(geometry, shape=_without(geometry.shape, axis), spacing_um=spacing_um, volume=geometry)
        super().__init__(plane, volume.channels, volume.dtype)
        self.file_warnings = volume.file_warnings

    @property
    def held_bytes(self) -> int:
        """Memory that the volume may hold, bytes."""
        return self._volume.held_bytes

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        pixels = self._volume.read((*region[: self._axis], slice(0, 1), *region[self._axis :]))
        self.file_warnings = self._volume.file_warnings
        return pixels.squeeze(1 + self._axis)  # (C, H, W)

    def close(self) -> None:
        """Close the volume."""
        self._volume.close()


def _without(values: tuple[Any, ...], axis: int) -> tuple[Any, ...]:
    return values[:axis] + values[axis + 1 :]
