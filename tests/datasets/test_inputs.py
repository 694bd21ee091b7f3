"""Which files are images, which are skipped, and which belong together."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from PIL import Image

from datasets.channels import ImageInput, open_input
from datasets.inputs import find_inputs, skipped_text
from imaging.errors import DataError
from tests.imaging.affines import affine_of
from tests.imaging.dicom_objects import write_series

STRANGERS = {
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
    "desktop.ini": b"[.ShellClassInfo]\n",
    "README.TXT": b"read me",
    "md5sums": b"0123  a.png\n",
    "paper.pdf": b"%PDF-1.7\n",
    "a.json": b"{}",
    "a.geojson": b"{}",
    "a.csv": b"x,y\n",
    "a.hdr": b"\x5c\x01\0\0" + bytes(344),
    "a.img": bytes(100),
}


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(path)
    return path


def volume(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.full((3, 4, 5), value, np.int16), np.eye(4)).to_filename(path)
    return path


def series(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return write_series(folder, np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine_of((0, 1, 2), (-1, -1, 1)))


def add_strangers(folder: Path) -> list[Path]:
    for name, content in STRANGERS.items():
        (folder / name).write_bytes(content)
    return sorted(folder / name for name in STRANGERS)


def named(*names: str | Path) -> dict[str, tuple[Path, ...]]:
    return {image.stem: image.paths for image in find_inputs(names).images}


def test_strangers_beside_images_are_skipped_and_named(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    strangers = add_strangers(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    inputs = find_inputs([tmp_path])
    assert inputs.images == (ImageInput((path,), "a"),)
    assert sorted(inputs.skipped) == strangers
    assert skipped_text(inputs.skipped).endswith(f" and {len(strangers) - 5} more")


def test_an_image_that_is_damaged_or_not_supported_is_no_stranger(tmp_path: Path) -> None:
    for name in ("cut.png", "empty.nii.gz", "other.czi"):
        (tmp_path / name).write_bytes(b"")
    assert set(named(tmp_path)) == {"cut", "empty", "other"}


def test_a_series_is_one_volume_whatever_lies_beside_it(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    strangers = add_strangers(folder)
    dicomdir = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests" / "DICOMDIR"
    shutil.copy(dicomdir, folder / "DICOMDIR")
    for name in (folder, tmp_path):
        inputs = find_inputs([name])
        assert inputs.images == (ImageInput((folder,), "ct"),)
        assert sorted(inputs.skipped) == sorted([*strangers, folder / "DICOMDIR"])


def test_a_series_beside_a_picture_is_one_volume_and_the_picture_another_image(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    path = picture(folder / "key.png")
    assert named(tmp_path) == {"ct": (folder,), "key": (path,)}


def test_folders_of_patients_studies_and_series_are_walked(tmp_path: Path) -> None:
    first, second = series(tmp_path / "p1/s1/ct"), series(tmp_path / "p2/s1/ct")
    third = volume(tmp_path / "p2/t1.nii.gz")
    assert named(tmp_path) == {"p1_s1_ct": (first,), "p2_s1_ct": (second,), "t1": (third,)}


def test_a_sidecar_of_bids_is_skipped(tmp_path: Path) -> None:
    path = volume(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    volume(tmp_path / "derivatives/manual/sub-01/anat/sub-01_dseg.nii.gz")
    assert named(tmp_path) == {"sub-01_T1w": (path,)}


def test_two_images_of_one_folder_and_name_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="would have outputs of one name; rename one, or give them apart") as caught:
        find_inputs([tmp_path])
    assert caught.value.code == "same_stem"


def test_equal_names_in_several_folders_get_the_folders_names(tmp_path: Path) -> None:
    one, other = picture(tmp_path / "p1/a/i.png"), picture(tmp_path / "p2/a/i.png")
    assert named(one, other) == {"p1_a_i": (one,), "p2_a_i": (other,)}


def test_files_with_semicolons_are_channels_of_one_image(tmp_path: Path) -> None:
    first, second = volume(tmp_path / "c1_0000.nii.gz", 1), volume(tmp_path / "c1_0001.nii.gz", 2)
    (image,) = find_inputs([f"{first}; {second}"]).images
    assert image == ImageInput((first, second), "c1")
    with open_input(image) as source:
        assert source.read((slice(0, 1),) * 3).ravel().tolist() == [1, 2]


def test_a_file_with_a_semicolon_in_its_name_is_a_file(tmp_path: Path) -> None:
    path = picture(tmp_path / "a;b.png")
    assert named(path) == {"a;b": (path,)}


def test_numbered_channels_of_nnunet_are_grouped(tmp_path: Path) -> None:
    paths = {name: [volume(tmp_path / f"{name}_{channel:04}.nii.gz") for channel in (0, 1)] for name in ("c1", "c2")}
    (tmp_path / "notes.txt").write_text("x")
    assert named(tmp_path) == {name: tuple(files) for name, files in paths.items()}


def test_single_channels_of_nnunet_stay_files(tmp_path: Path) -> None:
    paths = [volume(tmp_path / f"c{number}_0000.nii.gz") for number in (1, 2)]
    assert named(tmp_path) == {"c1_0000": (paths[0],), "c2_0000": (paths[1],)}


@pytest.mark.parametrize("name", ["cases.csv", "."])
def test_a_table_gives_its_cases_with_channels_and_spacings(tmp_path: Path, name: str) -> None:
    first, second = volume(tmp_path / "t1/a.nii.gz"), volume(tmp_path / "t2/a.nii.gz")
    third = picture(tmp_path / "p.png")
    lines = ["case,image,spacing_um", f"both,{first.relative_to(tmp_path)};{second.relative_to(tmp_path)},", "flat,p.png,0.25"]
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    inputs = find_inputs([tmp_path / name])
    assert inputs.images == (ImageInput((first, second), "both"), ImageInput((third,), "flat", (0.25,)))


def test_a_data_set_gives_its_images_and_not_its_references(tmp_path: Path) -> None:
    image = picture(tmp_path / "own/images/a.png")
    picture(tmp_path / "own/masks/a.png")
    assert named(tmp_path / "own") == {"a": (image,)}
    channels = [volume(tmp_path / f"nnunet/imagesTr/c_{channel:04}.nii.gz") for channel in (0, 1)]
    volume(tmp_path / "nnunet/labelsTr/c.nii.gz")
    description = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "blob": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "nnunet/dataset.json").write_text(json.dumps(description))
    assert named(tmp_path / "nnunet") == {"c": tuple(channels)}
    assert named(tmp_path / "nnunet/imagesTr") == {"c": tuple(channels)}


def test_folders_without_images_are_refused_with_what_is_there(tmp_path: Path) -> None:
    add_strangers(tmp_path)
    with pytest.raises(DataError, match=r"the folders hold no images \(.*and 5 more are no images\); give images") as caught:
        find_inputs([tmp_path])
    assert caught.value.code == "no_inputs"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folders hold no images; give images"):
        find_inputs([tmp_path / "empty"])


def test_single_files_of_several_series_are_images_of_their_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = series(tmp_path / name)
        shutil.move(folder / "000.dcm", tmp_path / f"{name}.dcm")
        shutil.rmtree(folder)
    picture(tmp_path / "p.png")
    assert named(tmp_path) == {name: (tmp_path / f"{name}.dcm",) for name in ("one", "two")} | {"p": (tmp_path / "p.png",)}


def test_several_series_in_one_folder_are_refused_when_they_are_opened(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    for file in series(tmp_path / "mr").iterdir():
        shutil.move(file, folder / f"mr_{file.name}")
    shutil.rmtree(tmp_path / "mr")
    (image,) = find_inputs([folder]).images
    with pytest.raises(DataError, match="the folder holds 2 DICOM series; give a folder that holds one"):
        open_input(image)
