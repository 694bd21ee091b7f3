import gzip
import resource
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards
from imaging.nifti.volume import NiftiSource
from imaging.open import open_image
from imaging.voxels import to_file, to_inside
from tests.imaging.affines import ORIENTATIONS, affine_of, rotation


def save(path: Path, array, affine=None, **header):
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.to_filename(path)
    if header:
        content = bytearray(path.read_bytes())
        edited = nib.Nifti1Header(bytes(content[:348]), check=False)
        for name, value in header.items():
            edited[name] = value
        content[:348] = edited.binaryblock
        path.write_bytes(content)
    return path


def read_all(source):
    return source.read(tuple(slice(0, size) for size in source.shape))


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_to_file_undoes_to_inside(axes, flips):
    affine = affine_of(axes, flips)
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(to_file(to_inside(array, affine), affine), array)


@given(st.tuples(*[st.floats(-3, 3)] * 3))
def test_to_file_undoes_to_inside_for_oblique_affines(angles):
    affine = affine_of((0, 1, 2), (1, 1, 1))
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    array = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(to_file(to_inside(array, affine), affine), array)


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_reads_as_superior_anterior_right(tmp_path, axes, flips):
    inside = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # (z, y, x), RAS
    affine = affine_of(axes, flips)
    path = save(tmp_path / "volume.nii", to_file(inside, affine), affine)
    with open_image(path) as source:
        assert source.shape == (2, 3, 4)
        np.testing.assert_array_equal(read_all(source)[0], inside)
        zoom = dict(zip(axes, (1000.0, 2000.0, 3000.0), strict=True))
        assert source.spacing_um == (zoom[2], zoom[1], zoom[0])
        np.testing.assert_array_equal(source.geometry.affine, affine)


def test_an_lps_volume_typed_out(tmp_path):
    array = np.array([[[1], [2]], [[3], [4]]], np.uint8)  # x to the left, y to the back
    path = save(tmp_path / "volume.nii", array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    with NiftiSource(path) as source:
        assert read_all(source).tolist() == [[[[4, 2], [3, 1]]]]


@given(data=st.data())
def test_a_region_is_a_slice_of_the_whole(data, volume_path):
    with open_image(volume_path) as source:
        whole = read_all(source)
        region = data.draw(st.tuples(*(ranges(size) for size in source.shape)))
        np.testing.assert_array_equal(source.read(region), whole[(slice(None), *region)])


def ranges(size):
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size))
    return pairs.map(lambda pair: slice(pair[0], max(pair[0] + 1, pair[1])))


@pytest.fixture(scope="module")
def volume_path(tmp_path_factory):
    array = np.random.default_rng(0).integers(-99, 99, (5, 6, 7)).astype(np.int16)
    return save(tmp_path_factory.mktemp("volume") / "volume.nii.gz", array, affine_of((2, 0, 1), (1, -1, -1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, ">i2", ">u2"])
def test_unscaled_integers_stay_what_they_are(tmp_path, dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    header = nib.Nifti1Header(endianness=array.dtype.byteorder.replace("|", "<"))
    header.set_data_dtype(dtype)
    nib.Nifti1Image(array, np.eye(4), header).to_filename(tmp_path / "v.nii")
    with open_image(tmp_path / "v.nii") as source:
        assert read_all(source).dtype == source.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(read_all(source)[0], array.transpose())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_real_numbers_come_as_float32(tmp_path, dtype, kind):
    array = np.linspace(-1, 1, 24).reshape(2, 3, 4).astype(dtype)
    kind(array, np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    with open_image(tmp_path / "v.nii.gz") as source:
        assert source.dtype == np.float32
        np.testing.assert_array_equal(read_all(source)[0], array.transpose().astype(np.float32))


def test_scaling_is_applied(tmp_path):
    path = save(tmp_path / "v.nii", np.full((1, 1, 2), 3, np.int16), scl_slope=0.5, scl_inter=-1024)
    with open_image(path) as source:
        assert source.dtype == np.float32
        assert read_all(source).tolist() == [[[[-1022.5]], [[-1022.5]]]]


@pytest.mark.parametrize(("code", "um"), [(0, 31.25), (1, 31250.0), (2, 31.25), (3, 0.03125)])
def test_units_are_honoured(tmp_path, code, um):
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8), np.diag([2**-5] * 3 + [1]), xyzt_units=code)
    with open_image(path) as source:
        assert source.spacing_um == pytest.approx((um, um, um))
        assert source.geometry.affine[0, 0] == pytest.approx(um / 1000)


def test_a_fourth_axis_of_one_is_left_out(tmp_path):
    path = save(tmp_path / "v.nii", np.zeros((2, 3, 4, 1), np.uint8))
    with open_image(path) as source:
        assert source.shape == (4, 3, 2)


@given(angles=st.tuples(*[st.floats(-3, 3)] * 3), left_handed=st.booleans(), zooms=st.tuples(*[st.floats(0.1, 9)] * 3))
def test_a_qform_is_what_nibabel_makes_of_it(tmp_path_factory, angles, left_handed, zooms):
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ np.diag(zooms) @ np.diag([-1 if left_handed else 1, 1, 1])
    affine[:3, 3] = (1.5, -20, 300)
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    image.set_qform(affine, 1)
    path = tmp_path_factory.getbasetemp() / "qform.nii"
    image.to_filename(path)
    with open_image(path) as source:
        np.testing.assert_allclose(source.geometry.affine, nib.load(path).affine, atol=1e-4)
        assert source.warnings == ()


def test_without_orientation_the_place_is_nibabels(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    image.header.set_zooms((0.5, 2, 3))
    image.to_filename(tmp_path / "v.nii")
    with open_image(tmp_path / "v.nii") as source:
        np.testing.assert_array_equal(source.geometry.affine, nib.load(tmp_path / "v.nii").affine)
        assert source.warnings == ("no_orientation",)
        assert source.spacing_um == (3000.0, 2000.0, 500.0)


def test_affine_codes_are_the_files(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    image.set_sform(np.eye(4), 4)
    image.set_qform(np.eye(4), 1)
    image.to_filename(tmp_path / "v.nii")
    with open_image(tmp_path / "v.nii") as source:
        assert source.geometry.affine_codes == (4, 1)


FAULTS = [
    ({"dim": [3, 0, 3, 4, 1, 1, 1, 1]}, BrokenImage, "nifti_bad_dims", "the size (0, 3, 4), but sizes are 1 or more"),
    ({"dim": [3, -2, 3, -4, 1, 1, 1, 1]}, BrokenImage, "nifti_bad_dims", "declares the size (-2, 3, -4)"),
    ({"dim": [9, 2, 3, 4, 1, 1, 1, 1]}, BrokenImage, "nifti_bad_dims", "doesn't declare 1 to 7 dimensions"),
    ({"dim": [3] + [30000] * 3 + [1] * 4}, ImageTooLarge, "volume_too_large", "27000000000000 voxels, but at most 536870912"),
    ({"dim": [7] + [32767] * 7}, ImageTooLarge, "volume_too_large", "crop or resample it"),
    ({"dim": [3, 2, 3, 5, 1, 1, 1, 1]}, BrokenImage, "nifti_size_mismatch", "declares 382 bytes, but the file holds 376"),
    ({"dim": [4, 2, 3, 2, 2, 1, 1, 1]}, UnsuitableImage, "dimension_not_supported", "(2, 3, 2, 2), but three axes are needed"),
    ({"datatype": 32, "bitpix": 64}, UnsuitableImage, "dtype_not_supported", "neither integers nor real numbers"),
    ({"datatype": 128, "bitpix": 24}, UnsuitableImage, "dtype_not_supported", "convert them, to float32"),
    ({"datatype": 1536, "bitpix": 128}, UnsuitableImage, "dtype_not_supported", "convert them"),
    ({"datatype": 99}, UnsuitableImage, "dtype_not_supported", "convert them"),
    ({"vox_offset": np.nan}, BrokenImage, "nifti_bad_offset", "offset of the voxels that is inside the header or"),
    ({"vox_offset": -400}, BrokenImage, "nifti_bad_offset", "offset of the voxels that is inside the header or"),
    ({"vox_offset": 1e30}, BrokenImage, "nifti_bad_offset", "offset of the voxels that is inside the header or"),
    ({"scl_slope": 1, "scl_inter": np.inf}, UnsuitableImage, "bad_scaling", "intercept isn't finite"),
    ({"srow_x": [np.nan, 0, 0, 0]}, UnsuitableImage, "affine_invalid", "isn't finite or can't be inverted"),
    ({"srow_x": [0, 0, 0, 0]}, UnsuitableImage, "affine_invalid", "export it again with its geometry"),
    ({"srow_x": [0, 1, 0, 0]}, UnsuitableImage, "affine_invalid", "export it again with its geometry"),
    ({"sform_code": 0, "qform_code": 1, "pixdim": [1, -1, 1, 1, 1, 1, 1, 1]}, UnsuitableImage, "affine_invalid", "export"),
    ({"magic": b"ni1"}, UnsupportedFormat, "unsupported_format", "in a single NIfTI file"),
]  # fmt: skip


@pytest.mark.parametrize(("header", "kind", "code", "words"), FAULTS)
def test_a_wrong_header_field_is_named(tmp_path, header, kind, code, words):
    path = save(tmp_path / "v.nii", np.zeros((2, 3, 4), np.uint8), **header)
    with pytest.raises(kind) as caught:
        open_image(path)
    assert caught.value.code == code
    assert words in caught.value.message
    assert str(tmp_path) not in caught.value.message


ACCEPTED = [
    ({"bitpix": 0}, "bitpix_ignored"),
    ({"bitpix": 16}, "bitpix_ignored"),
    ({"scl_slope": np.nan, "scl_inter": np.nan}, "scaling_ignored"),
    ({"scl_slope": np.inf}, "scaling_ignored"),
    ({"sform_code": 6, "qform_code": 1}, "orientation_code_unknown"),
    ({"sform_code": -1}, "orientation_code_unknown"),
    ({"dim": [3, 2, 3, 3, 1, 1, 1, 1]}, "trailing_data"),
]


@pytest.mark.parametrize(("header", "remark"), ACCEPTED)
def test_what_nibabel_reads_is_read_alike_with_a_remark(tmp_path, header, remark):
    path = save(tmp_path / "v.nii", np.arange(24, dtype=np.uint8).reshape(2, 3, 4), affine_of((0, 1, 2), (1, 1, 1)), **header)
    by_nibabel = nib.load(path)
    with open_image(path) as source:
        np.testing.assert_allclose(source.geometry.affine, by_nibabel.affine)
        expected = to_inside(np.asarray(by_nibabel.dataobj), by_nibabel.affine)
        np.testing.assert_array_equal(read_all(source)[0], expected)
        assert remark in source.warnings


def test_the_limit_is_told(tmp_path):
    path = save(tmp_path / "v.nii", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ImageTooLarge, match="24 voxels, but at most 23") as caught:
        open_image(path, guards=Guards(isolated=False, max_pixels=23))
    assert caught.value.limit == 23


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_not_finite_are_counted(tmp_path, value):
    array = np.zeros((2, 3, 4))
    array[0, 1, :2] = value
    with open_image(save(tmp_path / "v.nii", array)) as source, pytest.raises(UnsuitableImage, match="2 voxels") as caught:
        read_all(source)
    assert caught.value.code == "non_finite_voxels"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_lie_of_8_gib_costs_nothing(tmp_path, suffix):
    plain = save(tmp_path / "v.nii", np.zeros((1, 1, 1)), dim=[3, 1024, 1024, 1024, 1, 1, 1, 1]).read_bytes()
    path = tmp_path / f"lie{suffix}"
    path.write_bytes(gzip.compress(plain) if suffix == ".nii.gz" else plain)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenImage) as caught, open_image(path, guards=Guards(isolated=False, max_pixels=2**31)) as source:
        source.read((slice(0, 1),) * 3)
    assert caught.value.code == "nifti_size_mismatch"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KiB


def zeroed_crc(content):
    return content[:-8] + b"\0" * 4 + content[-4:]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]


def bomb(content):
    return gzip.compress(gzip.decompress(content) + b"\0" * 10**7)


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (zeroed_crc, "gzip_corrupt"),
        (flipped, "gzip_corrupt"),
        (lambda content: content[:-8], "gzip_corrupt"),
        (lambda content: content[: len(content) // 2], "gzip_corrupt"),
        (lambda content: content[:12] + b"\xff" * 99, "gzip_corrupt"),
        (bomb, "gzip_trailing_data"),
    ],
)
def test_a_damaged_gzip_is_refused(tmp_path, damage, code):
    array = np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype(np.uint8)
    path = save(tmp_path / "v.nii.gz", array)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError) as caught, open_image(path) as source:
        read_all(source)
    assert caught.value.code == code
    assert str(tmp_path) not in caught.value.message
