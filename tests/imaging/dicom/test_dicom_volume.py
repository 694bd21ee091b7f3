import contextlib
import gzip
import os
import resource
import shutil
import struct
from pathlib import Path

import imagecodecs
import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import FileMetaDataset, dcmread
from pydicom.config import IGNORE
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import DSfloat

from imaging.dicom.header import read_header
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import LOCAL, UPLOAD, Guards
from imaging.open import open_image
from imaging.voxels import to_file
from tests.imaging.affines import ORIENTATIONS, affine_of, rotation
from tests.imaging.dicom_objects import PATIENT, item, write_enhanced, write_series

REAL = Path(pydicom.data.__file__).parent / "test_files"  # ships with pydicom
INSIDE = np.arange(-12, 12, dtype=np.int16).reshape(2, 3, 4)  # (D, H, W)
AFFINE = affine_of((0, 1, 2), (-1, -1, 1))  # a series of axial slices from below


def read_all(source):
    return source.read(tuple(slice(0, size) for size in source.shape))


def opened(path, **options):
    with open_image(path, **options) as source:
        return source.geometry, read_all(source)[0]


def series(folder, inside=INSIDE, affine=AFFINE, **options):
    return write_series(folder / "series", to_file(inside, affine), affine, **options)


def turned(angles, affine):
    turned = affine.copy()
    turned[:3, :3] = rotation(angles) @ affine[:3, :3]
    return turned


def with_rising_slices(affine, depth):
    """The same voxels' affine where slices are counted along the normal, as the reader does."""
    if np.linalg.det(affine[:3, :3]) > 0:
        return affine
    back = np.diag([1.0, 1.0, -1.0, 1.0])
    back[2, 3] = depth - 1
    return affine @ back


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_a_series_is_read_as_the_nifti_of_the_same_object(tmp_path, axes, flips):
    affine = affine_of(axes, flips)
    voxels = to_file(INSIDE, affine)
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "volume.nii")
    nifti, expected = opened(tmp_path / "volume.nii")
    geometry, found = opened(series(tmp_path, affine=affine))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int16
    assert geometry.shape == nifti.shape
    assert geometry.spacing_um == pytest.approx(nifti.spacing_um)
    np.testing.assert_allclose(geometry.affine, with_rising_slices(affine, voxels.shape[2]), atol=1e-9)


@pytest.mark.parametrize("angles", [(0.1, -0.2, 0.3), (-0.6, 0.5, 2.0), (1.2, 0.9, -2.5)])
@pytest.mark.parametrize("write", ["series", "enhanced"])
def test_oblique_slices_lie_where_their_positions_say(tmp_path, angles, write):
    affine = turned(angles, affine_of((0, 1, 2), (1, -1, 1), (0.7, 1.9, 3.3)))
    voxels = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    if write == "series":
        path = write_series(tmp_path / "series", voxels, affine)
    else:
        path = write_enhanced(tmp_path / "enhanced.dcm", voxels, affine, order=[3, 1, 4, 0, 2])
    nib.Nifti1Image(voxels, affine).to_filename(tmp_path / "volume.nii")
    geometry, found = opened(path)
    nifti, expected = opened(tmp_path / "volume.nii")
    np.testing.assert_array_equal(found, expected)
    assert geometry.spacing_um == pytest.approx(nifti.spacing_um, rel=1e-6)
    np.testing.assert_allclose(geometry.affine, with_rising_slices(affine, 5), atol=1e-6)


def test_two_slices_typed_out(tmp_path):
    def edit(index, dataset):
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]  # to the patient's left, to the back
        dataset.ImagePositionPatient = [10, 20, [7, 5][index]]
        dataset.PixelSpacing = [3, 4]

    voxels = np.array([[[1, 5], [3, 7]], [[2, 6], [4, 8]]], np.uint8)  # slice 0: rows (1, 2), (3, 4)
    geometry, found = opened(write_series(tmp_path / "series", voxels, np.eye(4), edit=edit))
    assert found.tolist() == [[[8, 7], [6, 5]], [[4, 3], [2, 1]]]
    assert geometry.spacing_um == (2000, 3000, 4000)
    assert geometry.affine.tolist() == [[-4, 0, 0, -10], [0, -3, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]]


def test_names_and_instance_numbers_say_nothing(tmp_path):
    inside = np.random.default_rng(0).integers(-99, 99, (5, 2, 3)).astype(np.int16)
    folder = series(tmp_path, inside)
    for new, old in enumerate([3, 0, 4, 1, 2]):
        (folder / f"{old:03}.dcm").rename(folder / f"slice{new}")
    (folder / ".DS_Store").write_bytes(b"left out")
    with open_image(folder) as source:
        np.testing.assert_array_equal(read_all(source)[0], inside)
        assert [file.name for file in source.geometry.files] == ["slice1", "slice3", "slice4", "slice0", "slice2"]
        assert source.mask_format == "dicom-seg"
        assert source.held_bytes == 60


def test_a_file_of_a_series_is_one_slice(tmp_path):
    folder = series(tmp_path)
    geometry, found = opened(folder / "001.dcm")
    np.testing.assert_array_equal(found, INSIDE[1:2])
    assert geometry.shape == (1, 3, 4)
    assert geometry.spacing_um == pytest.approx((3000.0, 2000.0, 1000.0))
    assert geometry.files == (folder / "001.dcm",)


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, series_path):
    with open_image(series_path) as source:
        whole = read_all(source)
        starts = [data.draw(st.integers(0, size - 1)) for size in source.shape]
        region = tuple(
            slice(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, source.shape, strict=True)
        )
        np.testing.assert_array_equal(source.read(region), whole[(slice(None), *region)])


@pytest.fixture(scope="module")
def series_path(tmp_path_factory):
    return series(tmp_path_factory.mktemp("series"))


def test_each_slice_has_its_own_scaling(tmp_path):
    def edit(index, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = [0.5, 2][index], -1024

    _, found = opened(series(tmp_path, edit=edit, modality="CT"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], INSIDE[0] * 0.5 - 1024)
    np.testing.assert_array_equal(found[1], INSIDE[1] * 2.0 - 1024)


def test_each_frame_has_its_own_scaling(tmp_path):
    def edit(dataset):
        for slope, frame in zip([1, 3], dataset.PerFrameFunctionalGroupsSequence, strict=True):
            frame.PixelValueTransformationSequence = [item(RescaleSlope=slope, RescaleIntercept=7)]

    path = write_enhanced(tmp_path / "enhanced.dcm", to_file(INSIDE, AFFINE), AFFINE, order=[1, 0], edit=edit)
    geometry, found = opened(path)
    np.testing.assert_array_equal(found[1], INSIDE[1] * 1.0 + 7)
    np.testing.assert_array_equal(found[0], INSIDE[0] * 3.0 + 7)
    assert geometry.files == (path,)


def test_a_scaling_by_one_changes_nothing(tmp_path):
    def edit(index, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0

    assert opened(series(tmp_path, edit=edit))[1].dtype == np.int16


@pytest.mark.parametrize(
    ("dtype", "bits", "values", "expected"),
    [
        (np.uint8, 8, [0, 1, 255], [255, 254, 0]),
        (np.uint16, 12, [0, 1, 4095], [4095, 4094, 0]),
        (np.int16, 16, [-32768, 0, 32767], [32767, -1, -32768]),
    ],
)
def test_where_0_is_white_grey_is_turned_round(tmp_path, dtype, bits, values, expected):
    def edit(index, dataset):
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.BitsStored, dataset.HighBit = bits, bits - 1

    _, found = opened(series(tmp_path, np.array([[values]] * 2, dtype), np.diag([1.0, 1, 1, 1]), edit=edit))
    assert found[0, 0].tolist() == expected
    assert found.dtype == dtype


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint16, [5, 2051]), (np.int16, [5, -2045])])
def test_bits_that_are_not_stored_are_left_out(tmp_path, dtype, expected):
    def edit(index, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 11

    stored = np.array([[[0x7005, 0x7803]]] * 2, np.uint16).view(dtype)  # an overlay's bits above, as was once allowed
    assert opened(series(tmp_path, stored, np.eye(4), edit=edit))[1][0, 0].tolist() == expected


def packed_edit(syntax, pack):
    def edit(index, dataset):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([pack(dataset)])
        dataset["PixelData"].VR = "OB"

    return edit


def compressed_edit(syntax):
    def edit(index, dataset):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
        dataset.compress(syntax, generate_instance_uid=False)

    return edit


def lossless_jpeg(dataset):
    stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
    return imagecodecs.ljpeg_encode(stored, bitspersample=16)


def deep_jpeg(dataset):
    stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
    return imagecodecs.jpeg8_encode(stored, level=98, bitspersample=12)


@pytest.mark.parametrize(
    "edit", [compressed_edit(RLELossless), compressed_edit(JPEGLSLossless), packed_edit(JPEGLosslessSV1, lossless_jpeg)]
)
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_lossless_compression_changes_nothing(tmp_path, edit, dtype):
    inside = np.random.default_rng(0).integers(0, 2**16, (3, 16, 24), np.uint16).view(dtype)
    _, found = opened(series(tmp_path, inside, edit=edit))
    np.testing.assert_array_equal(found, inside)
    assert found.dtype == dtype


def test_lossy_jpeg_of_12_bits_is_read(tmp_path):
    def edit(index, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 11
        packed_edit(JPEGExtended12Bit, deep_jpeg)(index, dataset)

    inside = np.arange(3 * 16 * 24, dtype=np.uint16).reshape(3, 16, 24) * 3
    _, found = opened(series(tmp_path, inside, edit=edit))
    assert np.abs(found.astype(int) - inside).max() < 40


def test_compressed_frames_are_read(tmp_path):
    inside = np.random.default_rng(0).integers(0, 4096, (3, 16, 24), np.uint16)
    path = write_enhanced(tmp_path / "enhanced.dcm", to_file(inside, AFFINE), AFFINE, order=[2, 0, 1])
    dataset = dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    np.testing.assert_array_equal(opened(path)[1], inside)


SAME = ("RLE", "bigendian", "implicit", "expb", "jp2klossless", "jpeg_ls_lossless")


@pytest.mark.parametrize("variant", SAME)
def test_a_real_image_is_the_same_in_every_transfer_syntax(variant):
    geometry, plain = opened(REAL / "MR_small.dcm")
    assert geometry.shape == (1, 64, 64)
    assert geometry.spacing_um == pytest.approx((800.0, 312.5, 312.5))
    np.testing.assert_array_equal(opened(REAL / f"MR_small_{variant}.dcm")[1], plain)


def test_a_real_ct_is_in_hounsfield_units():
    dataset = dcmread(REAL / "CT_small.dcm")
    geometry, found = opened(REAL / "CT_small.dcm")
    stored = np.frombuffer(dataset.PixelData, "<i2").reshape(128, 128)
    np.testing.assert_array_equal(found[0], (stored - 1024.0)[::-1, ::-1])  # rows go to the back, columns to the left
    assert geometry.spacing_um == pytest.approx((5000, 661.468, 661.468))


def test_a_real_slice_with_a_wrong_sign_in_its_stream_is_read_as_the_header_says():
    assert opened(REAL / "J2K_pixelrep_mismatch.dcm")[1].min() == -2000


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("MR_truncated.dcm", "dicom_truncated"),
        ("meta_missing_tsyntax.dcm", "dicom_kind_not_supported"),
        ("image_dfl.dcm", "dicom_compression_not_supported"),
        ("examples_palette.dcm", "dicom_kind_not_supported"),
        ("SC_rgb_rle.dcm", "dicom_kind_not_supported"),
        ("rtdose.dcm", "dicom_kind_not_supported"),
        ("rtplan.dcm", "dicom_kind_not_supported"),
        ("liver_1frame.dcm", "dicom_kind_not_supported"),
        ("dicomdirtests/DICOMDIR", "dicom_kind_not_supported"),
        ("dicomdirtests/98892001/CT2N/6293", "affine_invalid"),
        ("no_meta.dcm", "unsupported_format"),
        ("zipMR.gz", "unsupported_format"),
    ],
)
def test_real_files_that_are_not_read(name, code):
    with pytest.raises(DataError) as caught:
        opened(REAL / name)
    assert caught.value.code == code


def test_a_constant_volume_is_told(tmp_path):
    with open_image(series(tmp_path, np.full((2, 3, 4), 7, np.int16))) as source:
        assert source.warnings == ()
        read_all(source)
        assert source.warnings == ("constant_image",)


def test_positions_rounded_to_a_tenth_are_even(tmp_path):
    def edit(index, dataset):
        dataset.ImagePositionPatient = [0, 0, round(index * 6.96, 1)]

    geometry, _ = opened(series(tmp_path, np.zeros((20, 2, 2), np.int16), np.eye(4), edit=edit))
    assert geometry.spacing_um[0] == pytest.approx(6960, rel=1e-3)


def place(**elements):
    """One element of the second of three slices."""

    def edit(index, dataset):
        for keyword, value in elements.items() if index == 1 else ():
            setattr(dataset, keyword, value)

    return edit


def everywhere(**elements):
    def edit(index, dataset):
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return edit


def without(*keywords):
    def edit(index, dataset):
        for keyword in keywords:
            delattr(dataset, keyword)

    return edit


def retyped(keyword, vr, value):
    def edit(index, dataset):
        dataset.add_new(keyword, vr, value)

    return edit


def tilted(index, dataset):
    dataset.ImagePositionPatient = [0, 0.3 * index, 3 * index]


def moved(position):
    return place(ImagePositionPatient=position)


ROWS = 0x00280010
FAULTS = [
    (moved([0, 0, 4]), UnsuitableImage, "dicom_series_uneven", "lie 2.000 to 4.000 mm apart, but equal distances are needed"),
    (moved([0, 0, 0]), UnsuitableImage, "dicom_series_duplicate", "1 of the DICOM images lie where another one does"),
    (moved([1, 0, 3]), UnsuitableImage, "affine_sheared", "shifted against each other, as a tilted gantry"),
    (tilted, UnsuitableImage, "affine_sheared", "right angles: dcm2niix -z y -o OUT SERIES writes it as"),
    (place(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), UnsuitableImage, "dicom_series_mixed", "different orientations"),
    (place(PixelSpacing=[2, 1.1]), UnsuitableImage, "dicom_series_mixed", "or pixel spacings; send the images of one"),
    (place(Rows=6, Columns=2), UnsuitableImage, "dicom_series_mixed", "different sizes or types of pixels"),
    (place(FrameOfReferenceUID="1.2"), UnsuitableImage, "dicom_series_mixed", "different frames of reference"),
    (place(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), UnsuitableImage, "dicom_series_mixed", "different kinds"),
    (place(SeriesInstanceUID="1.2"), UnsuitableImage, "dicom_several_series", "holds 2 DICOM series; give a folder that"),
    (place(RescaleSlope=0), UnsuitableImage, "bad_scaling", "slope is 0, or its slope or intercept is beyond 1e+28"),
    (place(RescaleIntercept="1e30"), UnsuitableImage, "bad_scaling", "beyond 1e+28; export it again"),
    (place(RescaleSlope=DSfloat("nan", validation_mode=IGNORE)), BrokenImage, "dicom_broken", "header contradicts itself"),
    (without("ImagePositionPatient"), UnsuitableImage, "dicom_geometry_missing", "the position of each image in the"),
    (without("ImageOrientationPatient"), UnsuitableImage, "dicom_geometry_missing", "export it again with position"),
    (without("PixelSpacing"), UnsuitableImage, "dicom_geometry_missing", "or the size of its pixels"),
    (everywhere(PixelSpacing=[0, 1]), UnsuitableImage, "affine_invalid", "spacing isn't between 1e-06 and 100 mm"),
    (everywhere(PixelSpacing=[1, 101]), UnsuitableImage, "affine_invalid", "export it again with its geometry"),
    (everywhere(PixelSpacing=[1, 1, 1]), BrokenImage, "dicom_broken", "cut or damaged"),
    (everywhere(ImageOrientationPatient=[1, 0, 0, 0, 2, 0]), UnsuitableImage, "affine_invalid", "two unit vectors at a"),
    (everywhere(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), UnsuitableImage, "affine_invalid", "right angle"),
    (everywhere(PhotometricInterpretation="PALETTE COLOR"), UnsuitableImage, "pixel_format_not_supported", "grey integers"),
    (everywhere(PhotometricInterpretation="RGB", SamplesPerPixel=3), UnsuitableImage, "pixel_format_not_supported", "grey"),
    (everywhere(BitsAllocated=24), UnsuitableImage, "pixel_format_not_supported", "and colour of 8 bits for slides"),
    (everywhere(ModalityLUTSequence=[item(ModalityLUTType="HU")]), UnsuitableImage, "pixel_format_not_supported", "a type"),
    (everywhere(Rows=0), BrokenImage, "dicom_broken", "send or export it again"),
    (everywhere(NumberOfFrames=-1), BrokenImage, "dicom_broken", "contradicts itself"),
    (everywhere(BitsStored=17, HighBit=16), BrokenImage, "dicom_broken", "contradicts itself"),
    (everywhere(Rows=65535), BrokenImage, "dicom_wrong_length", "declares images of 524280 bytes, but its pixel element has"),
    (everywhere(NumberOfFrames=2**31 - 1), BrokenImage, "dicom_wrong_length", "declares images of 51539607528 bytes"),
    (retyped(ROWS, "UL", 3), BrokenImage, "dicom_broken", "header contradicts itself"),
    (retyped(ROWS, "SS", -3), BrokenImage, "dicom_broken", "header contradicts itself"),
    (without("Rows"), BrokenImage, "dicom_broken", "cut or damaged"),
    (without("PixelData"), UnsupportedFormat, "dicom_no_pixels", "holds no pixels; send the images of the series"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "kind", "code", "words"), FAULTS)
def test_a_series_that_is_no_volume_is_refused(tmp_path, edit, kind, code, words):
    affine = affine_of((0, 1, 2), (-1, -1, 1), (1, 2, 3))
    affine[:3, 3] = 0
    voxels = np.arange(36, dtype=np.int16).reshape(4, 3, 3)
    folder = write_series(tmp_path / "series", voxels, affine, edit=edit)
    with pytest.raises(kind) as caught:
        opened(folder)
    assert caught.value.code == code
    assert words in caught.value.message
    assert PATIENT not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def real_numbers(index, dataset):
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = dataset.PixelData * 2
    del dataset.PixelData


def far_pixels(index, dataset):
    dataset["PixelData"].VR = "UN"


@pytest.mark.parametrize(("edit", "code"), [(real_numbers, "pixel_format_not_supported"), (far_pixels, "dicom_broken")])
def test_pixels_of_another_type_are_refused(tmp_path, edit, code):
    with pytest.raises(DataError) as caught:
        opened(series(tmp_path, edit=edit))
    assert caught.value.code == code


def padded(index, dataset):
    dataset.PixelData += bytes(128)


def unsigned_second_slice(index, dataset):
    dataset.PixelRepresentation = 0 if index == 1 else 1


def high_bit_of_14(index, dataset):
    dataset.HighBit = 14


def high_bit_of_64(index, dataset):
    dataset.HighBit = 64


def without_preamble(file):
    file.write_bytes(file.read_bytes()[132:])


def without_meta(file):
    content = DicomBytesIO()
    content.is_little_endian = content.is_implicit_VR = True
    write_dataset(content, dcmread(file))
    file.write_bytes(content.getvalue())


@pytest.mark.parametrize(
    ("edit", "change", "remark"),
    [
        (padded, None, "trailing_data"),
        (unsigned_second_slice, None, "pixel_types_differ"),
        (high_bit_of_14, None, "high_bit_ignored"),
        (high_bit_of_64, None, "high_bit_ignored"),
        (without("HighBit"), None, "high_bit_ignored"),
        (None, without_preamble, "preamble_missing"),
        (None, without_meta, "preamble_missing"),
    ],
)
def test_what_pydicom_reads_is_read_alike_with_a_remark(tmp_path, edit, change, remark):
    inside = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    folder = series(tmp_path, inside, edit=edit) if edit else series(tmp_path, inside)
    for file in folder.iterdir():
        if change:
            change(file)
    with open_image(folder) as source:
        np.testing.assert_array_equal(read_all(source)[0], inside)
        assert source.warnings == (remark,)
    with open_image(folder, guards=UPLOAD) as isolated:
        np.testing.assert_array_equal(read_all(isolated)[0], inside)
        assert isolated.warnings == (remark,)


def test_values_above_the_bits_that_a_wrong_high_bit_leaves_are_refused(tmp_path):
    def edit(index, dataset):
        dataset.BitsStored, dataset.HighBit = 12, 15

    folder = series(tmp_path, np.full((2, 3, 4), 5000, np.int16), edit=edit)
    with open_image(folder) as source, pytest.raises(UnsuitableImage) as caught:
        read_all(source)
    assert caught.value.code == "pixel_format_not_supported"


def test_a_real_file_with_padding_behind_its_pixels_is_read():
    dataset = dcmread(REAL / "MR_small_padded.dcm")
    expected = np.frombuffer(dataset.PixelData, np.int16)[: dataset.Rows * dataset.Columns]
    np.testing.assert_array_equal(np.sort(opened(REAL / "MR_small_padded.dcm")[1].ravel()), np.sort(expected))


def second_item(keyword, value):
    def edit(dataset):
        setattr(dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0], keyword, value)

    return edit


def one_group_less(dataset):
    del dataset.PerFrameFunctionalGroupsSequence[-1]


def no_groups(dataset):
    del dataset.PerFrameFunctionalGroupsSequence
    del dataset.SharedFunctionalGroupsSequence


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (second_item("ImagePositionPatient", [10, -20, 30]), "dicom_series_duplicate"),
        (second_item("ImagePositionPatient", None), "dicom_geometry_missing"),
        (second_item("ImagePositionPatient", [1, 2]), "dicom_broken"),
        (one_group_less, "dicom_broken"),
        (no_groups, "dicom_geometry_missing"),
    ],
)
def test_an_enhanced_file_that_is_no_volume_is_refused(tmp_path, edit, code):
    path = write_enhanced(tmp_path / "enhanced.dcm", to_file(INSIDE, AFFINE), AFFINE, edit=edit)
    with pytest.raises(DataError) as caught:
        opened(path)
    assert caught.value.code == code


def test_several_enhanced_files_are_refused(tmp_path):
    def edit(dataset):
        dataset.SeriesInstanceUID = dataset.FrameOfReferenceUID = "1.2.3"

    for name in "ab":
        write_enhanced(tmp_path / name, to_file(INSIDE, AFFINE), AFFINE, edit=edit)
    with pytest.raises(UnsuitableImage, match="there are several DICOM files with several images each; give one") as caught:
        opened(tmp_path)
    assert caught.value.code == "dicom_several_volumes"


def test_frames_that_a_compressed_file_can_not_hold_are_refused(tmp_path):
    def edit(index, dataset):
        compressed_edit(RLELossless)(index, dataset)
        dataset.Rows = dataset.Columns = 1
        dataset.NumberOfFrames = 2**28

    with pytest.raises(BrokenImage) as caught:
        opened(series(tmp_path, edit=edit) / "000.dcm")
    assert caught.value.code == "dicom_broken"


def test_a_slice_without_thickness_is_refused(tmp_path):
    folder = series(tmp_path, edit=without("SliceThickness"))
    assert opened(folder)[0].spacing_um[0] == pytest.approx(3000)
    with pytest.raises(UnsuitableImage, match="whose header gives no thickness; give the folder of its series") as caught:
        opened(folder / "000.dcm")
    assert caught.value.code == "dicom_spacing_missing"


def add_text(folder):
    (folder / "README.TXT").write_text("not an image")


def add_thumbnails(folder):
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
    (folder / "desktop.ini").write_text("[.ShellClassInfo]")


def add_dicomdir(folder):
    shutil.copy(REAL / "dicomdirtests" / "DICOMDIR", folder / "DICOMDIR")


def add_report(folder):
    dataset = dcmread(folder / "000.dcm")
    del dataset.PixelData
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"  # dose report
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.save_as(folder / "dose.dcm")


@pytest.mark.parametrize("add", [add_text, add_thumbnails, add_dicomdir, add_report])
def test_what_is_no_image_beside_a_series_is_skipped_with_a_remark(tmp_path, add):
    folder = series(tmp_path)
    add(folder)
    for guards in (LOCAL, UPLOAD):
        with open_image(folder, guards=guards) as source:
            np.testing.assert_array_equal(read_all(source)[0], INSIDE)
            assert source.warnings == ("files_skipped",)


def test_a_folder_and_hidden_files_beside_a_series_need_no_remark(tmp_path):
    folder = series(tmp_path)
    (folder / "more").mkdir()
    (folder / ".DS_Store").write_bytes(b"x")
    with open_image(folder) as source:
        np.testing.assert_array_equal(read_all(source)[0], INSIDE)
        assert source.warnings == ()


def test_links_to_slices_are_followed(tmp_path):
    folder = series(tmp_path)
    (folder / "000.dcm").rename(tmp_path / "outside.dcm")
    (folder / "link.dcm").symlink_to(tmp_path / "outside.dcm")
    np.testing.assert_array_equal(opened(folder)[1], INSIDE)


def test_a_folder_without_dicom_files_is_refused(tmp_path):
    with pytest.raises(
        UnsupportedFormat, match="holds no DICOM files; give a folder that holds the files of one series"
    ) as caught:
        opened(tmp_path)
    assert caught.value.code == "dicom_folder_empty"


def test_too_many_files_are_refused(tmp_path):
    with pytest.raises(ImageTooLarge, match="holds 2 files, at most 1 are allowed; give a folder that") as caught:
        opened(series(tmp_path), guards=Guards(isolated=False, max_volume_side=1))
    assert (caught.value.code, caught.value.limit) == ("dicom_too_many_files", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(tmp_path):
    folder = series(tmp_path)
    folder.chmod(0)
    with pytest.raises(DataError, match="the folder can't be read") as caught:
        opened(folder)
    folder.chmod(0o700)
    assert caught.value.code == "file_unreadable"


def test_a_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(DataError, match="the file can't be read; check its permissions") as caught:
        read_header(tmp_path / "gone.dcm")
    assert caught.value.code == "file_unreadable"


@pytest.mark.parametrize(
    ("guards", "words"),
    [
        (Guards(isolated=False, max_pixels=23), "has 24 voxels, but at most 23 are allowed; crop or resample it"),
        (Guards(isolated=False, max_volume_side=3), "has an axis of 4 voxels, but at most 3"),
        (Guards(isolated=False, max_volume_bytes=47), "has voxels of 48 bytes in all, but at most 47"),
    ],
)
def test_the_limit_is_told(tmp_path, guards, words):
    with pytest.raises(ImageTooLarge, match=words) as caught:
        opened(series(tmp_path), guards=guards)
    assert caught.value.code == "volume_too_large"


def test_other_compressions_are_refused(tmp_path):
    with pytest.raises(UnsupportedFormat, match="save it uncompressed, with dcmtk's dcmdjpeg") as caught:
        opened(series(tmp_path, edit=packed_edit(HTJ2K, lambda dataset: b"\xff\xd8")))
    assert caught.value.code == "dicom_compression_not_supported"


def jpeg_ls_of(rows, columns):
    return lambda dataset: (
        b"\xff\xd8\xff\xf7\x00\x0b\x10" + struct.pack(">HH", rows, columns) + b"\x01\x01\x11\x00"
        b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x00\x00\xff\xd9"
    )  # fmt: skip


def jpeg_2000_of(rows, columns):
    size = struct.pack(">HHIIIIIIIIHBBB", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1, 15, 1, 1)
    return lambda dataset: b"\xff\x4f\xff\x51" + size + b"\xff\xd9"


BROKEN_STREAMS = [
    (JPEGLSLossless, jpeg_ls_of(60000, 60000)),  # 7 GB
    (JPEGLSLossless, jpeg_ls_of(3, 4)),  # the right size, and nothing behind it
    (JPEGLSLossless, lambda dataset: b"\xff\xd8\xff\xd9"),
    (JPEGLSLossless, lambda dataset: jpeg_ls_of(3, 4)(dataset)[:-2]),
    (JPEGLosslessSV1, lambda dataset: bytes(10)),
    (JPEGLosslessSV1, lambda dataset: lossless_jpeg(dataset)[:-20] + b"\xff\xd9"),
    (UID("1.2.840.10008.1.2.4.90"), jpeg_2000_of(60000, 60000)),
    (UID("1.2.840.10008.1.2.4.50"), lambda dataset: b"\xff\xd8\xff\xd9"),
    (RLELossless, lambda dataset: bytes(10)),
    (RLELossless, lambda dataset: struct.pack("<16I", 2, 64, 64 + 2**17, *[0] * 13) + b"\x81\0" * 2**17),  # 17 MB
]


@pytest.mark.parametrize(("syntax", "pack"), BROKEN_STREAMS)
def test_a_stream_that_lies_costs_nothing(tmp_path, syntax, pack):
    folder = series(tmp_path, edit=packed_edit(syntax, pack))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_image(folder) as source, pytest.raises(BrokenImage) as caught:
        read_all(source)
    assert caught.value.code == "dicom_broken"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


@pytest.mark.parametrize("frames", [1, 3])
def test_more_or_fewer_compressed_images_than_declared_are_refused(tmp_path, frames):
    path = write_enhanced(tmp_path / "enhanced.dcm", to_file(INSIDE, AFFINE), AFFINE)
    dataset = dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    (first, second) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=2)
    dataset.PixelData = encapsulate([first, second, first][:frames])
    dataset.save_as(path)
    with pytest.raises(BrokenImage) as caught:
        opened(path)
    assert caught.value.code == "dicom_broken"


def test_a_deflated_file_is_refused_unopened(tmp_path):
    """A bomb: 20 kB that inflate to 20 MB of zeros."""
    path = series(tmp_path) / "000.dcm"
    dataset = dcmread(path)
    dataset.PixelData = bytes(20 * 2**20)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    assert path.stat().st_size < 2**16
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsupportedFormat) as caught:
        opened(path)
    assert caught.value.code == "dicom_compression_not_supported"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4 * 1024  # KiB


@given(data=st.data())
def test_no_damage_brings_down_the_reader(data, damaged_path):
    path, content = damaged_path
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(132, len(content)))])
    with contextlib.suppress(DataError):
        opened(path)


@pytest.fixture(scope="module", params=["series", "enhanced"])
def damaged_path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    if request.param == "series":
        path = series(folder) / "000.dcm"
    else:
        path = write_enhanced(folder / "enhanced.dcm", to_file(INSIDE, AFFINE), AFFINE)
    return path, path.read_bytes()


def test_what_a_header_says_is_never_logged(tmp_path, caplog):
    path = series(tmp_path) / "000.dcm"
    path.write_bytes(path.read_bytes().replace(b"-10", b"CAN").replace(b"3.0 ", b"ARY "))
    with pytest.raises(BrokenImage):
        opened(path)
    assert caplog.text == ""


def test_nothing_of_the_patient_is_read(tmp_path):
    header = read_header(series(tmp_path) / "000.dcm")
    assert PATIENT.encode() in header.path.read_bytes()
    assert PATIENT not in str(header.dataset)


def test_a_gzip_of_a_dicom_file_is_refused(tmp_path):
    (tmp_path / "a.dcm.gz").write_bytes(gzip.compress((series(tmp_path) / "000.dcm").read_bytes()))
    with pytest.raises(UnsupportedFormat, match="the file isn't DICOM; export the image again"):
        opened(tmp_path / "a.dcm.gz")


def test_integers_of_64_bits_are_read_where_float32_holds_them(tmp_path):
    inside = np.arange(24, dtype=np.int64).reshape(2, 3, 4) - 5
    _, pixels = opened(series(tmp_path, inside))
    np.testing.assert_array_equal(pixels, inside.astype(np.float32))
    (tmp_path / "large").mkdir()
    with pytest.raises(UnsuitableImage) as caught:
        opened(series(tmp_path / "large", inside + 2**24))
    assert caught.value.code == "value_range"
