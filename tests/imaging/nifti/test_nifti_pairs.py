"""Volumes with header and voxels in two files, of NIfTI and Analyze 7.5, are read as nibabel reads them."""

import nibabel as nib
import numpy as np
import pytest

from datasets.inputs import find_inputs
from imaging.errors import DataError, UnsuitableImage, UnsupportedFormat
from imaging.guards import UPLOAD
from imaging.open import open_image, stem_of

VOXELS = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
TURNED = np.array([[0, 0, 2.0, 3], [1, 0, 0, 4], [0, -1, 0, 5], [0, 0, 0, 1]])
FLIPPED = np.array([[-2.0, 0, 0, 4], [0, 3, 0, -7.5], [0, 0, 4, -12], [0, 0, 0, 1]])


def opened(path):
    with open_image(path) as source:
        return np.concatenate(list(source.blocks()), axis=1)[0], source.geometry, source.warnings


def check_as_nibabel(path, remarks=()):
    image = nib.load(path)
    pixels, geometry, warnings = opened(path)
    expected = np.asanyarray(nib.as_closest_canonical(image).dataobj).transpose()
    np.testing.assert_allclose(pixels, expected, rtol=1e-6)
    np.testing.assert_allclose(geometry.affine, image.affine)
    assert warnings == remarks


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("suffix", [".hdr", ".img"])
def test_a_nifti_pair_is_read_from_either_file(tmp_path, kind, suffix):
    kind(VOXELS, TURNED).to_filename(tmp_path / "a.hdr")
    check_as_nibabel(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".hdr.gz", ".img.gz"])
def test_a_compressed_pair_is_read(tmp_path, suffix):
    nib.Nifti1Pair(VOXELS, TURNED).to_filename(tmp_path / "a.img.gz")
    check_as_nibabel(tmp_path / f"a{suffix}")
    assert stem_of(tmp_path / f"a{suffix}") == "a"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_analyze_has_the_orientation_that_nibabel_assumes(tmp_path, dtype, order):
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_dtype(dtype)
    nib.AnalyzeImage(VOXELS.astype(dtype), FLIPPED, header).to_filename(tmp_path / "a.hdr")
    check_as_nibabel(tmp_path / "a.hdr", ("no_orientation",))


def test_an_analyze_header_of_spm_has_origin_and_scale(tmp_path):
    image = nib.Spm99AnalyzeImage(VOXELS * 0.5, FLIPPED)
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.hdr")
    with pytest.raises(UnsuitableImage, match=r"nib\.load\('IN\.hdr'\), 'OUT\.nii\.gz'"):
        open_image(tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink()
    check_as_nibabel(tmp_path / "a.hdr", ("no_orientation",))


def test_ranges_of_values_that_may_be_a_scale_are_refused(tmp_path):
    image = nib.Spm2AnalyzeImage(VOXELS, FLIPPED)
    image.to_filename(tmp_path / "a.hdr")
    (tmp_path / "a.mat").unlink()
    header = nib.Spm2AnalyzeHeader((tmp_path / "a.hdr").read_bytes())
    header["scl_slope"], header["cal_max"], header["glmax"] = 0, 1, 209
    (tmp_path / "a.hdr").write_bytes(header.binaryblock)
    with pytest.raises(UnsuitableImage, match=r"ranges of values \(cal_max, glmax\)") as caught:
        open_image(tmp_path / "a.hdr")
    assert caught.value.code == "bad_scaling"


def test_a_pair_that_is_uploaded_is_refused(tmp_path):
    nib.Nifti1Pair(VOXELS, TURNED).to_filename(tmp_path / "a.hdr")
    with pytest.raises(UnsupportedFormat, match=r"save the volume as \.nii or \.nii\.gz, without a second file") as caught:
        open_image(tmp_path / "a.hdr", guards=UPLOAD)
    assert caught.value.code == "unsupported_format"


def test_a_header_without_its_voxels_is_refused(tmp_path):
    nib.Nifti1Pair(VOXELS, TURNED).to_filename(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(DataError, match=r"put the file of the same name with \.img beside it") as caught:
        open_image(tmp_path / "a.hdr")
    assert caught.value.code == "file_missing"


def test_voxels_that_are_cut_are_refused(tmp_path):
    nib.Nifti1Pair(VOXELS, TURNED).to_filename(tmp_path / "a.hdr")
    (tmp_path / "a.img").write_bytes(bytes(419))
    with pytest.raises(DataError, match="declares 420 bytes, but the file holds 419"):
        open_image(tmp_path / "a.hdr")


def test_a_pair_in_a_folder_is_one_image(tmp_path):
    nib.Nifti1Pair(VOXELS, TURNED).to_filename(tmp_path / "a.hdr")
    inputs = find_inputs([tmp_path])
    assert [image.paths for image in inputs.images] == [(tmp_path / "a.hdr",)]
    assert inputs.skipped == ()
