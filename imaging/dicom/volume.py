"""DICOM volumes of MR, CT and PET, (1, D, H, W), from one file or a folder with one series; held in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
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

from imaging.dicom.geometry import functional_group, geometry_of, planes_of, series_mixed, stacked
from imaging.dicom.header import HEAD_BYTES, DicomHeader, dicom_errors, is_dicom, number_of_frames, numbers, read_header
from imaging.dicom.pixels import DicomPixels, check_size, pixels_of, stored_images
from imaging.errors import DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, Guards
from imaging.source import HeldSource, ImageSource, MaskFormat, check_range
from imaging.voxels import to_file

_VOLUMES = (
    MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage,
    CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage,
    PositronEmissionTomographyImageStorage, EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage,
)  # fmt: skip
_SEGMENTATIONS = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second: Label Map Segmentation
_MOST_SCALE = 1e28  # the largest integer times this is still a float32


def is_image_kind(header: DicomHeader) -> bool:
    """Return True if a file holds an image rather than a report, a directory, a presentation or a segmentation."""
    return header.kind in (*_VOLUMES, VLWholeSlideMicroscopyImageStorage)


def find_slices(folder: Path, guards: Guards = LOCAL) -> list[Path]:
    """Return the DICOM files directly in a folder that hold images, sorted by name; others are left out.

    A file whose header can't be read counts as an image, so that it is reported when the series is opened.

    Raises:
        DataError: `file_unreadable`.
        ImageTooLarge: `dicom_too_many_files`.
    """
    slices = []
    for file in _dicom_files(folder, guards.max_volume_side):
        try:
            header = read_header(file)
        except DataError:
            slices.append(file)
        else:
            slices += [file] if is_image_kind(header) else []
    return slices


def read_series(path: Path, guards: Guards = LOCAL) -> tuple[list[DicomHeader], tuple[str, ...]]:
    """Read the headers of a file, or of the images directly in a folder, and return them with remarks.

    Of a file, only itself is read, even if it is one slice of many. In a folder, files that are no DICOM images, such as a
    DICOMDIR or a dose report, are left out with the remark `files_skipped`. What a DICOMDIR points to is not followed.

    Raises:
        BrokenImage, UnsupportedFormat: the first file that can't be read.
        ImageTooLarge: `dicom_too_many_files`.
        UnsuitableImage: `dicom_several_series`, `dicom_series_mixed`.
        UnsupportedFormat: `dicom_folder_empty`.
    """
    remarks: tuple[str, ...] = ()
    if path.is_dir():
        every_header = [read_header(file) for file in _dicom_files(path, guards.max_volume_side)]
        if not every_header:
            raise UnsupportedFormat(
                "dicom_folder_empty", "the folder holds no DICOM files; give a folder that holds the files of one series"
            )
        headers = list(filter(is_image_kind, every_header)) or every_header
        files = {header.path for header in headers}
        if any(child.is_file() and child not in files for child in _visible(path)):
            remarks = ("files_skipped",)
    else:
        headers = [read_header(path)]
    series = len({header.series for header in headers})
    if series > 1:
        raise UnsuitableImage("dicom_several_series", f"the folder holds {series} DICOM series; give a folder that holds one")
    if len({header.kind for header in headers}) > 1:
        raise series_mixed("kinds")
    return headers, remarks


def open_dicom(path: Path, guards: Guards = LOCAL, *, read_labels: bool = False) -> ImageSource:
    """Open a DICOM image or series with the reader for the type that its files declare.

    Args:
        path: a file, or a folder that holds one series.
        guards: how far the files are trusted; where `max_pixels` is None, each reader has a limit of its own.
        read_labels: also open segmentations, as labels.

    Raises:
        BrokenImage, ImageTooLarge, UnsuitableImage, UnsupportedFormat: see `read_series` and the readers.
        UnsupportedFormat: `dicom_kind_not_supported`.
    """
    headers, remarks = read_series(path, guards)
    source = _open_kind(headers, guards, read_labels=read_labels)
    source.file_warnings += remarks
    return source


def _open_kind(headers: list[DicomHeader], guards: Guards, *, read_labels: bool) -> ImageSource:
    kind = headers[0].kind
    if kind in _VOLUMES:
        return DicomVolumeSource(headers, guards)
    if kind == VLWholeSlideMicroscopyImageStorage:
        from imaging.dicom.whole_slide import DicomSlideSource  # half a second to import

        return DicomSlideSource(headers, guards)
    if kind in _SEGMENTATIONS and read_labels:
        from imaging.dicom.segmentation import DicomLabelSource

        return DicomLabelSource(headers, guards)
    raise UnsupportedFormat(
        "dicom_kind_not_supported",
        "the DICOM file has a type that isn't supported; allowed are MR, CT and PET images, whole slides, and, as a reference, "
        "segmentations: give one of these",
    )


class DicomVolumeSource(HeldSource):
    """A volume of one series with S = (superior, anterior, right), its slices in the order of their positions.

    If any image is scaled, all voxels are float32, each image scaled by its own slope and intercept; otherwise they are the
    integers as stored. Where 0 is white (MONOCHROME1), stored values are inverted first, so that larger means brighter.
    `geometry.affine` maps (column, row, slice); `geometry.files` are in the order of the slices, or the one file
    that holds all of them. `stack` holds the slice of each image, in the order of `headers` and of the images in a file.

    Args:
        headers: headers of the files of one series, in any order.
        guards: how far the files are trusted; at most 2**29 voxels where `max_pixels` is None.

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

    def __init__(self, headers: Sequence[DicomHeader], guards: Guards = LOCAL) -> None:
        self._headers = headers
        self._storage = [pixels_of(header) for header in headers]
        _check_one_volume(headers, self._storage)
        check_size(self._storage[0], sum(pixels.frames for pixels in self._storage), guards)
        self.stack = stacked([plane for header in headers for plane in planes_of(header)])
        self._scalings = [scaling for header in headers for scaling in _scalings(header)]
        is_scaled = any(scaling != (1.0, 0.0) for scaling in self._scalings)
        stored_dtype = np.result_type(*(pixels.dtype for pixels in self._storage))
        files = tuple(header.path for header in headers)
        if len(files) > 1:
            files = tuple(files[index] for index in np.argsort(self.stack.slices))
        geometry = geometry_of(self.stack, self._storage[0], files)
        super().__init__(geometry, 1, np.dtype(np.float32) if is_scaled or stored_dtype.itemsize > 4 else stored_dtype)
        self.file_warnings = tuple(dict.fromkeys(remark for pixels in self._storage for remark in pixels.remarks))
        if len({pixels.dtype for pixels in self._storage}) > 1:
            self.file_warnings += ("pixel_types_differ",)

    def _decode(self) -> NDArray[Any]:
        voxels = np.empty(self.shape, self.dtype)  # (D, H, W)
        as_in_file = to_file(voxels, self.stack.affine)  # a view (column, row, slice)
        places = zip(self.stack.slices, self._scalings, strict=True)
        for header, pixels in zip(self._headers, self._storage, strict=True):
            for stored in stored_images(header, pixels):
                index, (slope, intercept) = next(places)
                if stored.dtype.itemsize == 8:
                    check_range(stored)
                grey = pixels.inversion_sum - stored if pixels.is_inverted else stored
                as_in_file[:, :, index] = (grey * slope + intercept if self.dtype.kind == "f" else grey).T
        return voxels[None]


def _check_one_volume(headers: Sequence[DicomHeader], stored: Sequence[DicomPixels]) -> None:
    """Check that the files form one volume: equal size and type, and one image each where there are several files."""
    with dicom_errors():
        frames_of_reference = {str(header.dataset.get("FrameOfReferenceUID", "")) for header in headers}
    if len(frames_of_reference) > 1:
        raise series_mixed("frames of reference")
    if len({(pixels.rows, pixels.columns, pixels.bits_allocated, pixels.is_inverted) for pixels in stored}) > 1:
        raise series_mixed("sizes or types of pixels")
    if len(stored) > 1 and any(pixels.frames > 1 for pixels in stored):
        raise UnsuitableImage(
            "dicom_several_volumes", "there are several DICOM files with several images each; give one of them"
        )


def _scalings(header: DicomHeader) -> list[tuple[float, float]]:
    """Return slope and intercept of each image in the file; (1, 0) where the header gives none."""
    scalings = []
    with dicom_errors():
        for frame in range(number_of_frames(header.dataset)):
            values = functional_group(header.dataset, frame, "PixelValueTransformationSequence")
            (slope,) = numbers(values, "RescaleSlope", 1) or (1.0,)
            (intercept,) = numbers(values, "RescaleIntercept", 1) or (0.0,)
            if slope == 0 or max(abs(slope), abs(intercept)) > _MOST_SCALE:
                raise UnsuitableImage(
                    "bad_scaling",
                    f"the DICOM image's slope is 0, or its slope or intercept is beyond {_MOST_SCALE:g}; export it again",
                )
            scalings.append((slope, intercept))
    return scalings


def _visible(folder: Path) -> list[Path]:
    """Return a folder's entries that aren't hidden, sorted by name, so that the order is the same everywhere."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _dicom_files(folder: Path, limit: int) -> list[Path]:
    """Return the DICOM files directly in a folder, sorted by name."""
    try:
        files = [entry for entry in _visible(folder) if entry.is_file()]
        if len(files) > limit:
            raise ImageTooLarge(
                "dicom_too_many_files",
                f"the folder holds {len(files)} files, at most {limit} are allowed; give a folder that holds one series",
                limit,
            )
        dicom_files = []
        for file in files:
            with file.open("rb") as stream:
                if is_dicom(stream.read(HEAD_BYTES)):
                    dicom_files.append(file)
        return dicom_files
    except OSError as error:
        raise DataError("file_unreadable", "the folder can't be read; check its permissions and its disk") from error
