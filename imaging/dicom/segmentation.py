"""DICOM segmentations as labels (1, D, H, W) on the grid of their frames, used as references and masks."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import SegmentationStorage

from imaging.dicom.geometry import functional_group, geometry_of, planes_of, stacked
from imaging.dicom.header import DicomHeader, dicom_errors, whole_number
from imaging.dicom.pixels import check_size, pixels_of, stored_images
from imaging.errors import DataError, UnsuitableImage
from imaging.guards import LOCAL, Guards
from imaging.source import HeldSource, MaskFormat
from imaging.voxels import to_file

_MOST_LABELS = 255


class DicomLabelSource(HeldSource):
    """A label map, or a binary segmentation whose segments' numbers become the labels; uint8, 0 outside of segments.

    The grid reaches from the first frame to the last. Empty slices between them may be missing from the file, slices beyond
    them are not part of the grid. S = (superior, anterior, right); `geometry.affine` maps (column, row, slice).

    Args:
        headers: the header of one file.
        guards: how far the file is trusted; at most 2**29 voxels where `max_pixels` is None.

    Raises:
        BrokenImage: `dicom_broken`, `dicom_truncated`, `dicom_wrong_length`.
        ImageTooLarge: `volume_too_large`.
        UnsuitableImage: `dicom_several_volumes`, `dicom_seg_fractional`, `dicom_seg_segments`, and as DICOM volumes; at the
            first read `dicom_seg_overlap`.
    """

    mask_format: ClassVar[MaskFormat] = "dicom-seg"

    def __init__(self, headers: Sequence[DicomHeader], guards: Guards = LOCAL) -> None:
        if len(headers) > 1:
            raise UnsuitableImage("dicom_several_volumes", "there are several DICOM segmentations; give one of them")
        (self._header,) = headers
        self._is_binary = _is_binary(self._header)
        self._storage = pixels_of(self._header, bits=(1,) if self._is_binary else (8, 16))
        check_size(self._storage, self._storage.frames, guards)
        self._stack = stacked(planes_of(self._header), sparse=True)
        check_size(self._storage, self._stack.depth, guards)
        self._segments = _segments(self._header, self._storage.frames) if self._is_binary else ()
        super().__init__(geometry_of(self._stack, self._storage, ()), 1, np.dtype(np.uint8))

    def _decode(self) -> NDArray[np.uint8]:
        labels = np.zeros(self.shape, np.uint8)  # (D, H, W)
        as_in_file = to_file(labels, self._stack.affine)  # a view (column, row, slice)
        images = stored_images(self._header, self._storage)
        for frame, (index, image) in enumerate(zip(self._stack.slices, images, strict=True)):
            if image.max() > _MOST_LABELS:
                raise _too_many_segments()
            values = image.T * self._segments[frame] if self._is_binary else image.T
            plane = as_in_file[:, :, index]
            if ((plane != 0) & (values != 0) & (plane != values)).any():
                raise UnsuitableImage(
                    "dicom_seg_overlap",
                    "the DICOM segmentation's segments overlap, but a reference has one label for each voxel; export them "
                    "without overlaps",
                )
            np.maximum(plane, values.astype(np.uint8), out=plane)
        return labels[None]


def _is_binary(header: DicomHeader) -> bool:
    """Return True for a binary segmentation, False for a label map.

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
            "the DICOM segmentation holds fractions or probabilities; export it as a binary one or as a label map",
        )
    return True


def _segments(header: DicomHeader, frames: int) -> tuple[int, ...]:
    with dicom_errors():
        items = (functional_group(header.dataset, frame, "SegmentIdentificationSequence") for frame in range(frames))
        segments = tuple(whole_number(item, "ReferencedSegmentNumber", 1, 2**16 - 1) for item in items)
    if max(segments) > _MOST_LABELS:
        raise _too_many_segments()
    return segments


def _too_many_segments() -> DataError:
    return UnsuitableImage(
        "dicom_seg_segments",
        f"the DICOM segmentation has segment numbers above {_MOST_LABELS}; number the segments from 1 without gaps",
    )
