"""DICOM segmentations that refer to the series they lie on; the inverse of reading one as labels."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from configs.sections import ClassSection
from imaging.dicom.header import dicom_errors, read_header
from imaging.dicom.volume import DicomVolumeSource
from imaging.errors import DataError, UnsuitableImage
from imaging.source import Geometry
from imaging.voxels import to_file
from imaging.writing.row_buffer import RowBuffer

_MAY_BE_EMPTY = (  # a segmentation must have them, even empty; anonymised files often lack them
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_MAKER = "Overtile"
_LONGEST_LABEL = 64  # of DICOM's type LO
_SERIES_NUMBER = 900  # most viewers list series by it; scanners stay below


def write_dicom_seg(path: Path, rows: RowBuffer, geometry: Geometry, classes: Sequence[ClassSection]) -> None:
    """Write a binary segmentation: one segment for each class but the background, numbered by its label.

    It belongs to the patient and the study of the series, refers to each of its images, and holds a frame for every slice
    and segment, even empty ones, which show where the volume ends. Classes have no code in a terminology, so that category
    and type are SNOMED's "Tissue" (85756007). Memory: the labels twice, a bit for each voxel and segment, and about 30 KiB
    for each frame.

    Args:
        path: file to create.
        rows: labels (D, H, W).
        geometry: geometry of a `DicomVolumeSource`; the headers of its `files` are read again.
        classes: names and colours of the labels. Names are cut at 64 characters; a backslash becomes a slash.

    Raises:
        DataError: see `DicomVolumeSource`, if the series' files have changed.
        UnsuitableImage: `dicom_series_changed`, `dicom_source_incomplete`.
    """
    series = DicomVolumeSource([read_header(file) for file in geometry.files])
    if series.shape != geometry.shape:
        raise UnsuitableImage(
            "dicom_series_changed",
            "the DICOM series has changed since it was read; leave its files in place until the mask is written",
        )
    labels = rows.read((slice(None),) * len(rows.shape))
    frames = to_file(labels, series.stack.affine).transpose(2, 1, 0)  # (slice, row, column)
    with dicom_errors(_source_incomplete, passing=(OSError,)):
        sources = _sources(series)
        _segmentation(sources, frames[list(series.stack.slices)], classes).save_as(path)


def _sources(series: DicomVolumeSource) -> list[Dataset]:
    """Return the images' headers without pixels, with equal values in the elements that highdicom takes for all frames."""
    step = format_number_as_ds(series.stack.spacing_mm[2])
    sources: list[Dataset] = [dcmread(file, stop_before_pixels=True) for file in series.geometry.files]
    for source in sources:
        for keyword in _MAY_BE_EMPTY:
            if keyword not in source:
                setattr(source, keyword, "")
        if "SharedFunctionalGroupsSequence" in source:
            measures = _shared(source, "PixelMeasuresSequence")
            _shared(source, "PlaneOrientationSequence")
        else:
            measures = source
            source.ImageOrientationPatient = sources[0].ImageOrientationPatient  # they differ only by rounding
        measures.SpacingBetweenSlices = step  # some scanners give the gap between slices here
        measures.SliceThickness = measures.get("SliceThickness") or step
    return sources


def _shared(source: Dataset, sequence: str) -> Dataset:
    """Return the functional group that all images share; the first image's, where each has its own."""
    shared = source.SharedFunctionalGroupsSequence[0]
    if sequence not in shared:
        shared[sequence] = source.PerFrameFunctionalGroupsSequence[0][sequence]
    group: Dataset = shared[sequence].value[0]
    return group


def _segmentation(sources: list[Dataset], frames: NDArray[np.uint8], classes: Sequence[ClassSection]) -> hd.seg.Segmentation:
    """Return the segmentation of frames (images, rows, columns) of labels."""
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment_description(label, section) for label, section in enumerate(classes[1:], 1)],
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=version("overtile"),
        device_serial_number="0",
        series_description="Segmentation, for research",
        content_label="SEGMENTATION",
        omit_empty_frames=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",  # UTF-8, for names of classes in any language
    )


def _segment_description(label: int, section: ClassSection) -> hd.seg.SegmentDescription:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=_MAKER, version=version("overtile"), family=codes.cid7162.ArtificialIntelligence
    )
    return hd.seg.SegmentDescription(
        segment_number=label,
        segment_label=section.name.replace("\\", "/")[:_LONGEST_LABEL],
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*ImageColor.getrgb(section.colour)),
    )


def _source_incomplete() -> DataError:
    return UnsuitableImage(
        "dicom_source_incomplete",
        "the DICOM series lacks values that a segmentation must take from it (study, frame of reference, valid values for the "
        "patient and the study); write the mask as nifti",
    )
