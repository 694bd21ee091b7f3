"""DICOM volumes of MR, CT and PET, (1, D, H, W), from a folder that holds one series or from one file; held in memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from imaging.dicom.geometry import geometry_of, group, planes_of, series_mixed, stacked
from imaging.dicom.header import HEAD_BYTES, Header, dicom_errors, is_dicom, number_of_frames, numbers, read_header
from imaging.dicom.pixels import Pixels, check_size, pixels_of, stored_images
from imaging.errors import DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, Guards
from imaging.nifti.volume import to_file
from imaging.source import ImageSource, MaskFormat, Region

_VOLUMES = (
    MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage,
    CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage,
    PositronEmissionTomographyImageStorage, EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage,
)  # fmt: skip
_SEGMENTATIONS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second: Label Map Segmentation
_MOST_SCALE = 1e28  # times the largest integer it is still a float32


def read_series(path: Path, guards: Guards = LOCAL) -> list[Header]:
    """Read the headers of a file, or of all files in a folder that holds one series and otherwise only hidden files.

    A file is what is given, be it one slice of many. Links in a folder and what a DICOMDIR points to are never followed.

    Raises:
        BrokenImage, UnsupportedFormat: of the first file that can't be read.
        ImageTooLarge: `dicom_too_many_files`.
        UnsuitableImage: `dicom_several_series`, `dicom_series_mixed`.
        UnsupportedFormat: `dicom_folder_mixed`.
    """
    headers = [read_header(file) for file in (_files(path, guards.max_volume_side) if path.is_dir() else [path])]
    series = len({header.series for header in headers})
    if series > 1:
        raise UnsuitableImage("dicom_several_series", f"the folder holds {series} DICOM series; give a folder that holds one")
    if len({header.kind for header in headers}) > 1:
        raise series_mixed("kinds")
    return headers


def open_dicom(path: Path, guards: Guards = LOCAL, *, read_labels: bool = False) -> ImageSource:
    """Open a DICOM image or series, as the type that its files declare.

    Args:
        path: a file, or a folder that holds one series.
        guards: how far the files are trusted; where `max_pixels` is None, each reader has a limit of its own.
        read_labels: segmentations are read, as labels.

    Raises:
        BrokenImage, ImageTooLarge, UnsuitableImage, UnsupportedFormat: as `read_series` and the readers do, and
            `dicom_kind_not_supported`.
    """
    headers = read_series(path, guards)
    kind = headers[0].kind
    if kind in _VOLUMES:
        return DicomSource(headers, guards)
    if kind == VLWholeSlideMicroscopyImageStorage:
        from imaging.dicom.whole_slide import DicomSlideSource  # half a second to import

        return DicomSlideSource(headers, guards)
    if kind in _SEGMENTATIONS and read_labels:
        from imaging.dicom.segmentation import DicomLabelSource

        return DicomLabelSource(headers, guards)
    raise UnsupportedFormat(
        "dicom_kind_not_supported",
        "the DICOM file isn't of a kind that is read; allowed are MR, CT and PET images, whole slides, and segmentations "
        "where a reference is wanted",
    )


class DicomSource(ImageSource):
    """A volume of one series with S = (superior, anterior, right), its slices in the order of their positions.

    Where an image is scaled, all voxels are float32, each image scaled by its own slope and intercept; else they are the
    integers as stored. Where 0 is white (MONOCHROME1), stored values are turned round first, so that brighter is more.
    `geometry.affine` belongs to (column, row, slice); `geometry.files` are in the order of the slices, or the one file
    that holds them all.

    `stack` says which slice each image is, in the order of `headers` and of the images in a file.

    Args:
        headers: of one series' files, in any order.
        guards: how far the files are trusted; at most 2**29 voxels where it doesn't say.

    Raises:
        BrokenImage: `dicom_broken`, `dicom_truncated`, `dicom_wrong_length`; for compressed images the first at the first
            read.
        ImageTooLarge: `volume_too_large`, by the header, before anything is decoded.
        UnsuitableImage: `pixel_format_not_supported`, `bad_scaling`, `affine_invalid`, `affine_sheared`,
            `dicom_geometry_missing`, `dicom_spacing_missing`, `dicom_series_mixed`, `dicom_series_duplicate`,
            `dicom_series_uneven`, `dicom_several_volumes`.
        UnsupportedFormat: `dicom_no_pixels`, `dicom_compression_not_supported`.
    """

    mask_format: ClassVar[MaskFormat] = "dicom-seg"

    def __init__(self, headers: Sequence[Header], guards: Guards = LOCAL) -> None:
        self._voxels: NDArray[Any] | None = None
        self._headers = headers
        self._pixels = [pixels_of(header) for header in headers]
        _check_alike(headers, self._pixels)
        check_size(self._pixels[0], sum(pixels.frames for pixels in self._pixels), guards)
        self.stack = stacked([plane for header in headers for plane in planes_of(header)])
        self._scalings = [scaling for header in headers for scaling in _scalings(header)]
        is_scaled = any(scaling != (1.0, 0.0) for scaling in self._scalings)
        stored_dtype = np.result_type(*(pixels.dtype for pixels in self._pixels))
        files = tuple(header.path for header in headers)
        if len(files) > 1:
            files = tuple(files[index] for index in np.argsort(self.stack.slices))
        geometry = geometry_of(self.stack, self._pixels[0], files)
        super().__init__(geometry, 1, np.dtype(np.float32) if is_scaled or stored_dtype.itemsize > 4 else stored_dtype)
        self.file_warnings = tuple(dict.fromkeys(remark for pixels in self._pixels for remark in pixels.remarks))
        if len({pixels.dtype for pixels in self._pixels}) > 1:
            self.file_warnings += ("pixel_types_differ",)

    @property
    def held_bytes(self) -> int:
        """The voxels, once one was read."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        if self._voxels is None:
            self._voxels = self._loaded()
        return self._voxels[region][None].copy()

    def _loaded(self) -> NDArray[Any]:
        voxels = np.empty(self.shape, self.dtype)  # (D, H, W)
        as_in_file = to_file(voxels, self.stack.affine)  # a view (column, row, slice)
        images = zip(self._images(), self.stack.slices, self._scalings, strict=True)
        for stored, index, (slope, intercept) in images:
            as_in_file[:, :, index] = (stored * slope + intercept if self.dtype.kind == "f" else stored).T
        return voxels

    def _images(self) -> Iterator[NDArray[Any]]:
        """Yield the images as stored, with inverted grey converted."""
        for header, pixels in zip(self._headers, self._pixels, strict=True):
            for stored in stored_images(header, pixels):
                yield pixels.turned_sum - stored if pixels.inverted else stored

    def close(self) -> None:
        """Lets go of the voxels."""
        self._voxels = None


def _check_alike(headers: Sequence[Header], stored: Sequence[Pixels]) -> None:
    """Check that the files form one volume: equal size and type, and one image each where there are several files."""
    with dicom_errors():
        frames_of_reference = {str(header.dataset.get("FrameOfReferenceUID", "")) for header in headers}
    if len(frames_of_reference) > 1:
        raise series_mixed("frames of reference")
    if len({(pixels.rows, pixels.columns, pixels.bits_allocated, pixels.inverted) for pixels in stored}) > 1:
        raise series_mixed("sizes or types of pixels")
    if len(stored) > 1 and any(pixels.frames > 1 for pixels in stored):
        raise UnsuitableImage(
            "dicom_several_volumes", "several DICOM files with several images each were given; give one of them"
        )


def _scalings(header: Header) -> list[tuple[float, float]]:
    with dicom_errors():
        return [_scaling(header.dataset, frame) for frame in range(number_of_frames(header.dataset))]


def _scaling(dataset: Dataset, frame: int) -> tuple[float, float]:
    """(1, 0) where the file says nothing."""
    values = group(dataset, frame, "PixelValueTransformationSequence")
    (slope,) = numbers(values, "RescaleSlope", 1) or (1.0,)
    (intercept,) = numbers(values, "RescaleIntercept", 1) or (0.0,)
    if slope == 0 or max(abs(slope), abs(intercept)) > _MOST_SCALE:
        raise UnsuitableImage(
            "bad_scaling",
            f"the DICOM image's slope is 0, or its slope or intercept is beyond {_MOST_SCALE:g}; export it again",
        )
    return slope, intercept


def _files(folder: Path, limit: int) -> list[Path]:
    """Return the folder's files by name, so that the order is the same everywhere."""
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        others = sum(file.is_symlink() or not file.is_file() or not _looks_like_dicom(file) for file in files[:limit])
    except OSError as error:
        raise DataError("file_unreadable", "the folder can't be read; check its permissions and its disk") from error
    if len(files) > limit:
        raise ImageTooLarge(
            "dicom_too_many_files",
            f"the folder holds {len(files)} files, at most {limit} are allowed; give a folder that holds one series",
            limit,
        )
    if others or not files:
        raise UnsupportedFormat(
            "dicom_folder_mixed",
            f"of the {len(files)} entries in the folder {others} aren't DICOM files; give a folder that holds the files of "
            "one series and nothing else, neither folders nor links",
        )
    return files


def _looks_like_dicom(file: Path) -> bool:
    with file.open("rb") as opened:
        return is_dicom(opened.read(HEAD_BYTES))
