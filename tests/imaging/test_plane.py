"""Volumes of one slice read as 2D, and the masks that come back."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from configs.sections import ClassSection
from imaging.errors import UnsuitableImage
from imaging.guards import LOCAL, UPLOAD
from imaging.open import open_image
from imaging.writing.band_writer import open_probability_writer, open_value_writer, open_writer
from tests.imaging.affines import ORIENTATIONS, affine_of
from tests.imaging.dicom_objects import write_series

CLASSES = [ClassSection(name="a", colour="#000000"), ClassSection(name="b", colour="#ffffff")]
STORED = np.arange(12, dtype=np.int16).reshape(3, 4)  # (x, y)


def save(path: Path, array, affine=None) -> Path:
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def whole(source):
    return source.read(tuple(slice(0, size) for size in source.shape))


def write_mask(path, source, labels):
    with open_writer(path, source.geometry, format="nifti", classes=CLASSES) as writer:
        for row in range(len(labels)):
            writer.write(row, labels[row : row + 1])


@pytest.mark.parametrize("guards", [LOCAL, UPLOAD])
@pytest.mark.parametrize("array", [STORED, STORED[..., None]], ids=["HW", "HW1"])
def test_a_2d_nifti_is_2d_where_that_is_needed_and_its_mask_has_its_header(tmp_path, array, guards):
    path = save(tmp_path / "i.nii.gz", array, np.diag([0.5, 2, 3, 1]))
    with open_image(path, dimensions=2, guards=guards) as source:
        assert (source.shape, source.spacing_um, source.mask_format) == ((4, 3), (2000, 500), "nifti")
        np.testing.assert_array_equal(whole(source)[0], STORED.T)
        np.testing.assert_array_equal(source.read((slice(1, 3), slice(2, 3)))[0], STORED.T[1:3, 2:3])
        write_mask(tmp_path / "m.nii.gz", source, (whole(source)[0] > 5).astype(np.uint8))
    image, mask = nib.load(path), nib.load(tmp_path / "m.nii.gz")
    assert mask.shape == array.shape
    np.testing.assert_array_equal(np.asarray(mask.dataobj), array > 5)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.header["dim"][0] == image.header["dim"][0]


def test_where_a_volume_is_needed_it_stays_one(tmp_path):
    for dimensions in (None, 3):
        with open_image(save(tmp_path / "i.nii", STORED), dimensions=dimensions) as source:
            assert source.shape == (1, 4, 3)


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_gives_the_mask_back_on_the_files_grid(tmp_path, axes, flips):
    path = save(tmp_path / "i.nii", STORED[..., None], affine_of(axes, flips))
    with open_image(path, dimensions=2) as source:
        pixels = whole(source)[0]
        assert sorted(source.shape) == [3, 4]
        write_mask(tmp_path / "m.nii", source, pixels.astype(np.uint8) % 2)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "m.nii").dataobj)[..., 0], STORED % 2)


def test_a_slice_of_a_thickness_that_no_volume_has_is_read(tmp_path):
    for thickness in (999.0, 0.0):
        affine = np.diag([1.0, 1, thickness, 1])
        path = tmp_path / "i.nii"
        image = nib.Nifti1Image(STORED[..., None], np.eye(4))
        image.header.set_sform(affine, 1)
        image.header.set_qform(None, 0)
        image.header["sform_code"] = 1
        nib.save(nib.Nifti1Image(STORED[..., None], None, image.header), path)
        with open_image(path, dimensions=2) as source:
            np.testing.assert_array_equal(whole(source)[0], STORED.T)


def test_probabilities_and_values_of_a_plane_are_written_as_a_volume(tmp_path):
    path = save(tmp_path / "i.nii", STORED)
    with open_image(path, dimensions=2) as source:
        geometry = source.geometry
    share = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    with open_probability_writer(tmp_path / "p.nii", geometry, format="nifti", classes=CLASSES, dtype="uint8") as writer:
        writer.write(0, np.stack([1 - share, share]))
    np.testing.assert_allclose(nib.load(tmp_path / "p.nii").get_fdata()[..., 0, 1], share.T, atol=1 / 255)
    with open_value_writer(tmp_path / "v.nii", geometry, format="nifti", quantity=CLASSES[0]) as writer:
        writer.write(0, share)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "v.nii").dataobj), share.T)


@pytest.mark.parametrize("format", ["png", "tiff", "ome-zarr", "geojson"])
def test_other_formats_hold_a_plane_too(tmp_path, format):
    with open_image(save(tmp_path / "i.nii", STORED), dimensions=2) as source:
        path = tmp_path / "mask"
        with open_writer(path, source.geometry, format=format, classes=CLASSES) as writer:
            writer.write(0, (whole(source)[0] > 5).astype(np.uint8))
    if format != "geojson":
        with open_image(path, labels=True) as mask:
            np.testing.assert_array_equal(whole(mask)[0], STORED.T > 5)


def test_a_dicom_slice_is_2d_and_its_segmentation_refers_to_it(tmp_path):
    voxels = np.arange(12, dtype=np.int16).reshape(3, 4, 1)
    folder = write_series(tmp_path / "series", voxels, affine_of((0, 1, 2), (-1, -1, 1)))
    with open_image(folder, dimensions=2) as source:
        assert sorted(source.shape) == [3, 4]
        labels = (whole(source)[0] > 5).astype(np.uint8)
        with open_writer(tmp_path / "m.dcm", source.geometry, format="dicom-seg", classes=CLASSES) as writer:
            writer.write(0, labels)
    with open_image(tmp_path / "m.dcm", labels=True, dimensions=2) as mask:
        np.testing.assert_array_equal(whole(mask)[0], labels)


def test_a_volume_of_several_slices_stays_a_volume(tmp_path):
    with open_image(save(tmp_path / "i.nii", np.zeros((3, 4, 2), np.uint8)), dimensions=2) as source:
        assert source.shape == (2, 4, 3)


def test_a_spacing_for_a_plane_with_its_own_is_refused(tmp_path):
    with pytest.raises(UnsuitableImage) as caught:
        open_image(save(tmp_path / "i.nii", STORED), dimensions=2, spacing_um=(1.0,))
    assert caught.value.code == "spacing_invalid"
