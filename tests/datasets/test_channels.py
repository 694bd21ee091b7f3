"""Several files of a case with the same geometry are one image."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from datasets.cases import Case, open_case_image
from imaging.errors import DataError, UnsuitableImage
from tests.phantom import write_volume

MILLIMETRE = (1000.0, 1000.0, 1000.0)


def volumes(folder: Path) -> Case:
    write_volume(folder / "a.nii", np.full((2, 3, 4), 7, np.int16), MILLIMETRE)
    write_volume(folder / "b.nii", np.full((2, 3, 4), 0.5, np.float32), MILLIMETRE)
    return Case("x", (folder / "a.nii", folder / "b.nii"))


def test_channels_in_the_order_of_the_files(tmp_path: Path) -> None:
    with open_case_image(volumes(tmp_path)) as image:
        assert (image.shape, image.channels, image.dtype, image.spacing_um) == ((2, 3, 4), 2, np.float32, MILLIMETRE)
        assert image.mask_format == "nifti"
        pixels = image.read((slice(0, 2), slice(1, 3), slice(0, 4)))
        whole = next(image.blocks())
    assert pixels.shape == (2, 2, 2, 4)
    assert pixels.dtype == np.float32
    assert (pixels[0] == 7).all()
    assert (whole[1] == 0.5).all()


def test_pictures_of_several_channels(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5, 3), 9, np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((4, 5), 3, np.uint8)).save(tmp_path / "b.png")
    with open_case_image(Case("x", (tmp_path / "a.png", tmp_path / "b.png"), spacing_um=(0.5,))) as image:
        assert (image.channels, image.dtype, image.spacing_um) == (4, np.uint8, (0.5, 0.5))
        assert image.held_bytes >= 0
        assert next(image.blocks())[:, 0, 0].tolist() == [9, 9, 9, 3]


def test_one_file_stays_as_it_is(tmp_path: Path) -> None:
    case = volumes(tmp_path)
    with open_case_image(Case("x", case.images[:1])) as image:
        assert (image.channels, image.dtype) == (1, np.int16)


def shifted(millimetres: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = millimetres
    return affine


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((4, 3, 3), np.eye(4), "file 2 of the case's image has shape (3, 3, 4), the first file's is (2, 3, 4)"),
        ((4, 3, 2), np.diag([1, 1, 2, 1.0]), "has spacing 2 x 1 x 1 mm, the first file's is 1 x 1 x 1 mm;"),
        ((4, 3, 2), shifted(0.01), "has affine 0.01 mm off the first file's, allowed are 0.001 mm"),
    ],
)
def test_files_that_do_not_lie_on_one_another(tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray, message: str) -> None:
    case = volumes(tmp_path)
    nib.Nifti1Image(np.zeros(shape, np.int16), affine).to_filename(case.images[1])
    with pytest.raises(UnsuitableImage) as caught:
        open_case_image(case)
    assert caught.value.code == "channel_geometry_mismatch"
    assert message in caught.value.message
    assert caught.value.message.endswith("; resample all channels onto one grid")


def test_an_affine_within_the_tolerance(tmp_path: Path) -> None:
    case = volumes(tmp_path)
    nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), shifted(0.0005)).to_filename(case.images[1])
    with open_case_image(case) as image:
        assert image.channels == 2


def test_a_spacing_that_only_one_file_has(tmp_path: Path) -> None:
    case = volumes(tmp_path)
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="file 2 of the case's image has shape"):
        open_case_image(Case("x", (case.images[0], tmp_path / "a.png")))
