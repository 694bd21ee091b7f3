from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.sr.codedict import codes

from configs.sections import ClassSection
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards
from imaging.open import open_image
from imaging.voxels import to_file
from imaging.writing.band_writer import open_writer
from tests.imaging.affines import affine_of, rotation
from tests.imaging.dicom_objects import PATIENT, item, write_enhanced, write_series

AFFINE = affine_of((0, 1, 2), (-1, -1, 1))
INSIDE = np.arange(60, dtype=np.int16).reshape(5, 3, 4)  # (D, H, W)
REAL = Path(pydicom.data.__file__).parent / "test_files"  # ships with pydicom
CLASSES = [
    ClassSection(name=name, colour=colour)
    for name, colour in [("background", "#000000"), ("Kopf (links)", "#e6194b"), ("mozek, levý", "#3cb44b")]
]


def drawn(shape, seed=0, classes=3):
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def series(folder, inside=INSIDE, affine=AFFINE, **options):
    return write_series(folder / "series", to_file(inside, affine), affine, **options)


def written(folder, path, labels, classes=CLASSES):
    """The segmentation of the image at `path`, and the image's geometry."""
    with (
        open_image(path) as source,
        open_writer(folder / "mask.dcm", source.geometry, format="dicom-seg", classes=classes) as writer,
    ):
        writer.write(0, labels)
    return folder / "mask.dcm", source.geometry


def read(path, **options):
    with open_image(path, labels=True, **options) as source:
        return source.geometry, source.read(tuple(slice(0, size) for size in source.shape))[0]


PLACES = [
    ((0, 1, 2), (-1, -1, 1)),
    ((0, 1, 2), (1, 1, 1)),
    ((0, 2, 1), (-1, -1, 1)),
    ((1, 2, 0), (1, -1, -1)),
    ((2, 0, 1), (1, 1, -1)),
    ((1, 0, 2), (-1, 1, -1)),
]


@pytest.mark.parametrize(("axes", "flips"), PLACES)
@pytest.mark.parametrize("angles", [(0, 0, 0), (0.2, -0.1, 0.3)])
def test_a_segmentation_reads_back_on_its_image(tmp_path, axes, flips, angles):
    affine = affine_of(axes, flips)
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    path = series(tmp_path, affine=affine)
    with open_image(path) as source:
        labels = drawn(source.shape)
    labels[0] = labels[-1] = labels[:, 0] = labels[:, :, -1] = 0  # slices without a segment, too
    mask, geometry = written(tmp_path, path, labels)
    found, back = read(mask)
    np.testing.assert_array_equal(back, labels)
    assert found.shape == geometry.shape
    assert found.spacing_um == pytest.approx(geometry.spacing_um)
    np.testing.assert_allclose(found.affine, geometry.affine, atol=1e-9)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 1, 4, 0, 2]])
@pytest.mark.parametrize("measures", ["shared", "per frame"])
def test_an_enhanced_file_is_a_source_too(tmp_path, order, measures):
    def edit(dataset):
        if measures == "per frame":
            shared = dataset.SharedFunctionalGroupsSequence[0]
            for frame in dataset.PerFrameFunctionalGroupsSequence:
                frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
                frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            dataset.SharedFunctionalGroupsSequence = [item()]

    path = write_enhanced(tmp_path / "enhanced.dcm", to_file(INSIDE, AFFINE), AFFINE, order=order, edit=edit)
    labels = drawn(INSIDE.shape)
    mask, geometry = written(tmp_path, path, labels)
    found, back = read(mask)
    np.testing.assert_array_equal(back, labels)
    np.testing.assert_allclose(found.affine, geometry.affine, atol=1e-9)


def test_highdicom_finds_the_same_labels_in_the_same_place(tmp_path):
    path = series(tmp_path)
    labels = drawn(INSIDE.shape)
    mask, geometry = written(tmp_path, path, labels)
    segmentation = hd.seg.segread(mask)
    volume = segmentation.get_volume(combine_segments=True)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    for index in np.ndindex(volume.spatial_shape):  # (slice, row, column), as highdicom orders them
        place = np.linalg.inv(geometry.affine) @ lps_to_ras @ volume.affine @ [*index, 1]
        column, row, slice_ = np.rint(place[:3]).astype(int)
        assert np.abs(place[:3] - (column, row, slice_)).max() < 1e-6
        assert volume.array[index] == to_file(labels, geometry.affine)[column, row, slice_]


def test_every_slice_refers_to_its_image(tmp_path):
    path = series(tmp_path)
    labels = drawn(INSIDE.shape)
    mask, geometry = written(tmp_path, path, labels)
    segmentation = hd.seg.segread(mask)
    uids = [dcmread(file).SOPInstanceUID for file in geometry.files]
    assert {uid for _, _, uid in segmentation.get_source_image_uids()} == set(uids)
    by_source = segmentation.get_pixels_by_source_instance(uids, combine_segments=True)
    np.testing.assert_array_equal(by_source, to_file(labels, geometry.affine).transpose(2, 1, 0))


def test_segments_are_the_classes(tmp_path):
    mask, geometry = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    segmentation = hd.seg.segread(mask)
    assert segmentation.segmentation_type == hd.seg.SegmentationTypeValues.BINARY
    assert segmentation.segment_numbers == [1, 2]
    for number, section in enumerate(CLASSES[1:], 1):
        segment = segmentation.get_segment_description(number)
        assert segment.segment_label == section.name
        assert segment.segmented_property_category == segment.segmented_property_type == codes.SCT.Tissue
        assert segment.algorithm_identification[0].AlgorithmName == "Overtile"
        colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb()
        assert "#{:02x}{:02x}{:02x}".format(*colour) == section.colour
    source = dcmread(geometry.files[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "PatientBirthDate"):
        assert segmentation[keyword].value == source[keyword].value
    assert segmentation.SeriesInstanceUID != source.SeriesInstanceUID


def test_names_that_do_not_fit_are_cut(tmp_path):
    classes = [CLASSES[0], ClassSection(name="left\\right " + "x" * 80, colour="#ffffff")]
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape, classes=2), classes)
    assert hd.seg.segread(mask).get_segment_description(1).segment_label == "left/right " + "x" * 53


@pytest.mark.parametrize("label", [0, 2])
def test_a_mask_of_one_label_keeps_its_geometry(tmp_path, label):
    labels = np.full(INSIDE.shape, label, np.uint8)
    mask, geometry = written(tmp_path, series(tmp_path), labels)
    found, back = read(mask)
    np.testing.assert_array_equal(back, labels)
    assert found.spacing_um == geometry.spacing_um


def test_one_slice_is_enough(tmp_path):
    mask, geometry = written(tmp_path, series(tmp_path) / "002.dcm", drawn((1, 3, 4)))
    found, back = read(mask)
    np.testing.assert_array_equal(back, drawn((1, 3, 4)))
    assert found.spacing_um == geometry.spacing_um


def test_a_series_of_another_alphabet_and_without_names_suffices(tmp_path):
    def edit(index, dataset):
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"
        for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "SliceThickness"):
            delattr(dataset, keyword)

    mask, _ = written(tmp_path, series(tmp_path, edit=edit), drawn(INSIDE.shape))
    segmentation = hd.seg.segread(mask)
    assert segmentation.PatientName == "Müller^Jörg"
    assert segmentation.PatientID == ""
    np.testing.assert_array_equal(read(mask)[1], drawn(INSIDE.shape))


def test_a_gap_in_the_header_that_is_no_step_is_mended(tmp_path):
    """Some scanners give the gap between slices where the standard wants their distance."""

    def edit(index, dataset):
        dataset.SpacingBetweenSlices = 1.0

    mask, geometry = written(tmp_path, series(tmp_path, edit=edit), drawn(INSIDE.shape))
    assert geometry.spacing_um[0] == pytest.approx(3000)
    assert read(mask)[0] == type(geometry)(geometry.shape, geometry.spacing_um)
    assert dcmread(mask).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 3


def no_frame_of_reference(index, dataset):
    del dataset.FrameOfReferenceUID


def no_study(index, dataset):
    del dataset.StudyInstanceUID


def odd_sex(index, dataset):
    dataset.PatientSex = "CANARY"


@pytest.mark.parametrize("edit", [no_frame_of_reference, no_study, odd_sex])
def test_a_source_that_can_not_be_referred_to_is_refused(tmp_path, edit):
    path = series(tmp_path, edit=edit)
    with pytest.raises(UnsuitableImage, match="lacks values that a segmentation must take from it") as caught:
        written(tmp_path, path, drawn(INSIDE.shape))
    assert caught.value.code == "dicom_source_incomplete"
    assert "CANARY" not in caught.value.message
    assert not (tmp_path / "mask.dcm").exists()


def test_a_source_that_changed_meanwhile_is_refused(tmp_path):
    path = series(tmp_path)
    with open_image(path) as source:
        geometry = source.geometry
    for file in geometry.files:
        file.unlink()
    series(tmp_path, np.zeros((5, 4, 4), np.int16))
    with (
        pytest.raises(UnsuitableImage, match="has changed since it was read; leave its files in place") as caught,
        open_writer(tmp_path / "mask.dcm", geometry, format="dicom-seg", classes=CLASSES) as writer,
    ):
        writer.write(0, drawn(INSIDE.shape))
    assert caught.value.code == "dicom_series_changed"


def test_a_segmentation_is_no_image(tmp_path):
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    with pytest.raises(UnsupportedFormat, match="and, as a reference, segmentations: give one of these") as caught:
        open_image(mask)
    assert caught.value.code == "dicom_kind_not_supported"


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, mask_path):
    with open_image(mask_path, labels=True) as source:
        starts = [data.draw(st.integers(0, size - 1)) for size in source.shape]
        pairs = zip(starts, source.shape, strict=True)
        region = tuple(slice(start, data.draw(st.integers(start + 1, size))) for start, size in pairs)
        np.testing.assert_array_equal(source.read(region)[0], drawn(INSIDE.shape)[region])
        assert (source.dtype, source.channels, source.held_bytes) == (np.uint8, 1, 60)


@pytest.fixture(scope="module")
def mask_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seg")
    return written(folder, series(folder), drawn(INSIDE.shape))[0]


def foreign(folder, pixels, kind="BINARY", **options):
    """A segmentation by highdicom alone; pixels are (slice, row, column), a fourth axis is segments."""
    path = series(folder)
    sources = [dcmread(file) for file in sorted(path.iterdir())]
    segments = pixels.shape[3] if pixels.ndim == 4 else max(1, int(pixels.max()))
    described = [
        hd.seg.SegmentDescription(number, f"{number}", codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
        for number in range(1, segments + 1)
    ]
    uids = [hd.UID(), 1, hd.UID(), 1]
    made = hd.seg.Segmentation(sources, pixels, kind, described, *uids, "a", "b", "c", "d", **options)
    made.save_as(folder / "foreign.dcm")
    return folder / "foreign.dcm"


def in_frames(labels):
    return to_file(labels, AFFINE).transpose(2, 1, 0)


def test_slices_left_out_between_others_are_empty(tmp_path):
    labels = drawn(INSIDE.shape)
    labels[1:3] = 0
    found, back = read(foreign(tmp_path, in_frames(labels), omit_empty_frames=True))
    np.testing.assert_array_equal(back, labels)
    assert found.spacing_um[0] == pytest.approx(3000)


def test_slices_left_out_at_the_ends_are_not_known(tmp_path):
    labels = drawn(INSIDE.shape)
    labels[0] = labels[4] = 0
    np.testing.assert_array_equal(read(foreign(tmp_path, in_frames(labels), omit_empty_frames=True))[1], labels[1:4])


def test_the_distance_of_slices_is_taken_from_the_header_where_every_second_is_left_out(tmp_path):
    labels = drawn(INSIDE.shape)
    labels[[1, 3]] = 0
    path = foreign(tmp_path, in_frames(labels), omit_empty_frames=True)
    dataset = dcmread(path)
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 3
    dataset.save_as(path)
    np.testing.assert_array_equal(read(path)[1], labels)


@pytest.mark.parametrize("compression", [{}, {"transfer_syntax_uid": "1.2.840.10008.1.2.5"}])
def test_a_label_map_is_read(tmp_path, compression):
    labels = drawn(INSIDE.shape)
    np.testing.assert_array_equal(read(foreign(tmp_path, in_frames(labels), "LABELMAP", **compression))[1], labels)


def test_shares_are_refused(tmp_path):
    path = foreign(tmp_path, in_frames(drawn(INSIDE.shape)) / 2.0, "FRACTIONAL")
    with pytest.raises(UnsuitableImage, match="holds fractions or probabilities; export it as a binary one") as caught:
        read(path)
    assert caught.value.code == "dicom_seg_fractional"


def test_overlaps_are_refused(tmp_path):
    path = foreign(tmp_path, np.ones((5, 3, 4, 2), np.uint8))
    with pytest.raises(UnsuitableImage, match="segments overlap, but a reference has one label for each voxel") as caught:
        read(path)
    assert caught.value.code == "dicom_seg_overlap"


def many_segments(dataset):
    dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 256


def no_segment(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


def no_type(dataset):
    del dataset.SegmentationType


def far_away(dataset):
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [10, -20, -2e9]


def aside(dataset):
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [10, -20, 31.3]


@pytest.mark.parametrize(
    ("edit", "kind", "code"),
    [
        (many_segments, UnsuitableImage, "dicom_seg_segments"),
        (no_segment, BrokenImage, "dicom_broken"),
        (no_type, BrokenImage, "dicom_broken"),
        (far_away, ImageTooLarge, "volume_too_large"),
        (aside, UnsuitableImage, "dicom_series_uneven"),
    ],
)
def test_a_segmentation_off_its_grid_or_without_segments_is_refused(tmp_path, edit, kind, code):
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    dataset = dcmread(mask)
    edit(dataset)
    dataset.save_as(mask)
    with pytest.raises(kind) as caught:
        read(mask)
    assert caught.value.code == code
    assert PATIENT not in caught.value.message


def test_more_labels_than_fit_are_refused(tmp_path):
    labels = np.zeros(INSIDE.shape, np.uint16)
    labels[0, 0, 0] = 300
    path = foreign(tmp_path, in_frames(labels), "LABELMAP")
    with pytest.raises(UnsuitableImage, match="segment numbers above 255; number the segments from 1") as caught:
        read(path)
    assert caught.value.code == "dicom_seg_segments"


def test_several_segmentations_are_refused(tmp_path):
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    (tmp_path / "both").mkdir()
    for name in "ab":
        (tmp_path / "both" / name).write_bytes(mask.read_bytes())
    with pytest.raises(UnsuitableImage, match="there are several DICOM segmentations; give one of them") as caught:
        read(tmp_path / "both")
    assert caught.value.code == "dicom_several_volumes"


def test_the_limit_is_told(tmp_path):
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    with pytest.raises(ImageTooLarge, match="has 120 voxels, but at most 119 are allowed"):
        read(mask, guards=Guards(isolated=False, max_pixels=119))


def test_a_cut_segmentation_is_broken(tmp_path):
    mask, _ = written(tmp_path, series(tmp_path), drawn(INSIDE.shape))
    mask.write_bytes(mask.read_bytes()[:-3])
    with pytest.raises(DataError) as caught:
        read(mask)
    assert caught.value.code == "dicom_truncated"


@pytest.mark.parametrize("name", ["liver_1frame.dcm", "liver_expb_1frame.dcm"])
def test_a_real_segmentation_is_read_in_both_byte_orders(tmp_path, name):
    dataset = dcmread(REAL / name)
    with pytest.raises(BrokenImage):  # two frames were cut off, but not what is said of them
        read(REAL / name)
    del dataset.PerFrameFunctionalGroupsSequence[1:]
    dataset.save_as(tmp_path / name)
    geometry, labels = read(tmp_path / name)
    assert geometry.shape == (1, 512, 512)
    np.testing.assert_array_equal(labels[0, ::-1, ::-1], dcmread(REAL / "liver_1frame.dcm").pixel_array)
