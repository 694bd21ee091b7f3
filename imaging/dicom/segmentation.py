"""DICOM segmentations as labels (1, D, H, W) on the grid of their frames, for references and for masks that are read back."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import SegmentationStorage

from imaging.dicom.geometry import geometry_of, group, planes_of, stacked
from imaging.dicom.header import Header, dicom_errors, whole
from imaging.dicom.pixels import check_size, pixels_of, stored_images
from imaging.errors import DataError, UnsuitableImage
from imaging.guards import LOCAL, Guards
from imaging.nifti.volume import to_file
from imaging.source import ImageSource, MaskFormat, Region

_MOST_LABELS = 255


class DicomLabelSource(ImageSource):
    """A binary segmentation, its segments' numbers as labels, or a label map; uint8, 0 where no segment is.

    The grid reaches from the first frame to the last: slices between them that hold nothing may be left out of the file,
    slices beyond them aren't known. S = (superior, anterior, right); `geometry.affine` belongs to (column, row, slice).

    Args:
        headers: of one file.
        guards: how far the file is trusted; at most 2**29 voxels where it doesn't say.

    Raises:
        BrokenImage: `dicom_broken`, `dicom_truncated`, `dicom_wrong_length`.
        ImageTooLarge: `volume_too_large`.
        UnsuitableImage: `dicom_several_volumes`, `dicom_seg_fractional`, `dicom_seg_segments`, and as DICOM volumes; at the
            first read `dicom_seg_overlap`.
    """

    mask_format: ClassVar[MaskFormat] = "dicom-seg"

    def __init__(self, headers: Sequence[Header], guards: Guards = LOCAL) -> None:
        if len(headers) > 1:
            raise UnsuitableImage("dicom_several_volumes", "several DICOM segmentations were given; give one of them")
        (self._header,) = headers
        self._labels: NDArray[np.uint8] | None = None
        self._is_binary = _is_binary(self._header)
        self._pixels = pixels_of(self._header, bits=(1,) if self._is_binary else (8, 16))
        check_size(self._pixels, self._pixels.frames, guards)
        self._stack = stacked(planes_of(self._header), sparse=True)
        check_size(self._pixels, self._stack.depth, guards)
        self._segments = _segments(self._header, self._pixels.frames) if self._is_binary else ()
        super().__init__(geometry_of(self._stack, self._pixels, ()), 1, np.dtype(np.uint8))

    @property
    def held_bytes(self) -> int:
        """The labels, once one was read."""
        return int(np.prod(self.shape))

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._labels is None:
            self._labels = self._loaded()
        return self._labels[region][None].copy()

    def _loaded(self) -> NDArray[np.uint8]:
        labels = np.zeros(self.shape, np.uint8)  # (D, H, W)
        as_in_file = to_file(labels, self._stack.affine)  # a view (column, row, slice)
        for frame, (index, image) in enumerate(zip(self._stack.slices, stored_images(self._header, self._pixels), strict=True)):
            label = self._segments[frame] if self._is_binary else None
            _put(as_in_file[:, :, index], image.T, label)
        return labels

    def close(self) -> None:
        """Lets go of the labels."""
        self._labels = None


def _put(plane: NDArray[np.uint8], image: NDArray[Any], label: int | None) -> None:
    """Add one frame to a plane: a binary segment, or labels as they are where `label` is None."""
    if image.max() > _MOST_LABELS:
        raise _too_many()
    values = image if label is None else image * label
    if ((plane != 0) & (values != 0) & (plane != values)).any():
        raise UnsuitableImage(
            "dicom_seg_overlap",
            "the DICOM segmentation's segments overlap, a reference holds one label a voxel; export them without overlaps",
        )
    np.maximum(plane, values.astype(np.uint8), out=plane)


def _is_binary(header: Header) -> bool:
    """Else it is a label map.

    Raises:
        UnsuitableImage: `dicom_seg_fractional`.
    """
    if header.kind != SegmentationStorage:
        return False
    with dicom_errors():
        segmentation_type = str(header.dataset["SegmentationType"].value)
    if segmentation_type != "BINARY":
        raise UnsuitableImage(
            "dicom_seg_fractional",
            "the DICOM segmentation holds shares or probabilities; export it as a binary one or as a label map",
        )
    return True


def _segments(header: Header, frames: int) -> tuple[int, ...]:
    with dicom_errors():
        items = (group(header.dataset, frame, "SegmentIdentificationSequence") for frame in range(frames))
        segments = tuple(whole(item, "ReferencedSegmentNumber", 1, 2**16 - 1) for item in items)
    if max(segments) > _MOST_LABELS:
        raise _too_many()
    return segments


def _too_many() -> DataError:
    return UnsuitableImage(
        "dicom_seg_segments",
        f"the DICOM segmentation has segments of higher numbers than {_MOST_LABELS}; number them from 1 without gaps",
    )
