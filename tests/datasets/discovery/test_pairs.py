"""Pairs of images and references as people keep them, through the real command line: recognised, or described."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner, Result

from datasets.cases import open_case_image, read_cases
from datasets.references import open_reference
from overtile import app
from tests.phantom import draw_slide

SHAPE = (48, 60)
COUNT = 4


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def words_of(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


def write(folder: Path, name_of: Callable[[int], tuple[str, ...]], numbers: range = range(COUNT)) -> Path:
    """Write slides with their references; the last of the names is the reference's, the others are channels."""
    for number in numbers:
        image, mask = draw_slide(SHAPE, number)
        *images, reference = (folder / name for name in name_of(number))
        for path in (*images, reference):
            path.parent.mkdir(parents=True, exist_ok=True)
        for channel, path in enumerate(images):
            Image.fromarray(np.moveaxis(image, 0, -1).copy() if len(images) == 1 else image[channel]).save(path)
        Image.fromarray(mask.astype(np.uint8)).save(reference)
    return folder


@pytest.mark.parametrize(
    "name_of",
    [
        pytest.param(lambda n: (f"a{n}.png", f"a{n}_mask.png"), id="NAME_mask"),
        pytest.param(lambda n: (f"a{n}.png", f"a{n}-label.png"), id="NAME-label"),
        pytest.param(lambda n: (f"a{n}.tif", f"a{n}-seg.png"), id="NAME-seg of another suffix"),
        pytest.param(lambda n: (f"a{n}_image.png", f"a{n}_GT.png"), id="NAME_image and NAME_GT"),
        pytest.param(lambda n: (f"img_{n}.png", f"mask_{n}.png"), id="words in front"),
        pytest.param(lambda n: (f"a ({n}).png", f"a ({n})_mask.png"), id="spaces and brackets"),
        pytest.param(lambda n: (f"p{n}/x.png", f"p{n}/x_seg.png"), id="a folder for each patient"),
        pytest.param(lambda n: (f"image/a{n}.png", f"mask/a{n}.png"), id="image and mask"),
        pytest.param(lambda n: (f"Images/a{n}.png", f"Masks/a{n}_mask.png"), id="capitals, and _mask in two folders"),
        pytest.param(lambda n: (f"imgs/img_{n}.png", f"gt/gt_{n}.png"), id="imgs and gt"),
        pytest.param(lambda n: (f"images/a{n}.png", f"annotations/a{n}.png"), id="images and annotations"),
        pytest.param(lambda n: (f"img/a{n}.png", f"segmentations/a{n}_segmentation.png"), id="img and segmentations"),
        pytest.param(
            lambda n: (f"imagesTr/{n}_0000.png", f"imagesTr/{n}_0001.png", f"labelsTr/{n}.png"), id="nnU-Net, no JSON"
        ),
        pytest.param(lambda n: (f"images/a_{n:04}.png", f"masks/a_{n:04}.png"), id="four digits that are no channel"),
        pytest.param(lambda n: (f"p{n}/p{n}-t1c.png", f"p{n}/p{n}-t2w.png", f"p{n}/p{n}-seg.png"), id="channels, as BraTS"),
    ],
)
def test_pairs_of_names(tmp_path: Path, name_of: Callable[[int], tuple[str, ...]]) -> None:
    folder = write(tmp_path / "data", name_of)
    cases = read_cases(folder)
    names = [name_of(number) for number in range(COUNT)]
    paths = [[path.relative_to(folder).as_posix() for path in (*case.images, case.reference or folder)] for case in cases]
    assert paths == [list(each) for each in names]
    result = run("inspect", folder)
    assert result.exit_code == 0, result.stderr
    assert f"Cases {COUNT}" in words_of(result)
    assert f"in {COUNT} of {COUNT} references" in words_of(result)


def test_a_folder_for_each_patient_is_the_group(tmp_path: Path) -> None:
    folder = write(tmp_path, lambda n: (f"p{n // 2}/{n}.png", f"p{n // 2}/{n}_mask.png"), range(10))
    assert [(case.name, case.group) for case in read_cases(folder)] == [(str(n), f"p{n // 2}") for n in range(10)]
    result = run("inspect", folder)
    assert "Patients 5 groups" in words_of(result)
    assert (
        "note: the cases lie in 5 folders (p0, p1, p2 ..), each of which is taken as a patient; if that is wrong"
        in words_of(result)
    )


def test_a_folder_for_each_class_is_no_group(tmp_path: Path) -> None:
    folder = write(
        tmp_path, lambda n: (f"{'benign' if n % 2 else 'normal'}/{n}.png", f"{'benign' if n % 2 else 'normal'}/{n}_mask.png")
    )
    assert {case.group for case in read_cases(folder)} == {None}
    assert "note: the cases lie in 2 folders (benign, normal), which are too few to be taken as patients" in words_of(
        run("inspect", folder)
    )


@pytest.mark.parametrize(
    "name_of",
    [
        pytest.param(
            lambda n: (f"{'val' if n > 2 else 'train'}/images/a{n}.png", f"{'val' if n > 2 else 'train'}/masks/a{n}.png"),
            id="images within",
        ),
        pytest.param(
            lambda n: (f"{'Valid' if n > 2 else 'Train'}/a{n}.png", f"{'Valid' if n > 2 else 'Train'}/a{n}_mask.png"),
            id="beside each other",
        ),
        pytest.param(
            lambda n: (f"images/{'val' if n > 2 else 'train'}/a{n}.png", f"labels/{'val' if n > 2 else 'train'}/a{n}.png"),
            id="splits within",
        ),
    ],
)
def test_folders_for_splits(tmp_path: Path, name_of: Callable[[int], tuple[str, ...]]) -> None:
    folder = write(tmp_path / "data", name_of)
    assert [case.split for case in read_cases(folder)] == ["train"] * 3 + ["val"]
    result = run("inspect", folder)
    assert result.exit_code == 0, result.stderr
    assert "Cases 4 (3 train, 1 val)" in words_of(result)


def test_equal_names_in_splits_and_a_test_without_references(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path, lambda n, split=split: (f"{split}/images/{n}.png", f"{split}/masks/{n}.png"), range(2))
    write(tmp_path, lambda n: (f"test/images/{n}.png", f"elsewhere/{n}.png"), range(1))
    assert [(case.name, case.split, case.reference is None) for case in read_cases(tmp_path)] == [
        ("test_0", "test", True),
        *(("train_0", "train", False), ("train_1", "train", False), ("val_0", "val", False), ("val_1", "val", False)),
    ]


def test_training_draws_the_validation_where_no_folder_has_it(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path, lambda n, split=split: (f"{split}/images/{split}{n}.png", f"{split}/masks/{split}{n}.png"), range(2))
    assert [case.split for case in read_cases(tmp_path)] == ["test", "test", None, None]


def test_files_beside_images_are_skipped_and_named_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", lambda n: (f"images/a{n}.png", f"masks/a{n}.png"))
    for name in ("images", "masks"):
        (folder / name / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
        (folder / name / "desktop.ini").write_text("[.ShellClassInfo]\n")
        (folder / name / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / name / "paper.pdf").write_bytes(b"%PDF-1.7\n")
        (folder / name / "checksums.md5").write_text("d41d8cd98f00b204e9800998ecf8427e  a0.png\n")
        (folder / name / "README.md").write_text("# Images\n")
        (folder / name / "a0.json").write_text('{"Manufacturer": "x"}')
    result = run("inspect", folder)
    assert result.exit_code == 0, result.stderr
    output = words_of(result)
    assert "Cases 4" in output
    assert output.count("[files_skipped]") == 1
    assert (
        "note: 12 files are no image and no annotation, and skipped: images/README.md, images/Thumbs.db, images/a0.json"
        in output
    )
    assert "and 6 more; nothing is to be done if that is right" in output


def test_a_damaged_image_is_no_stranger(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", lambda n: (f"images/a{n}.png", f"masks/a{n}.png"))
    (folder / "images/a1.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert "problem: case a1" in words_of(result)


def test_two_references_of_one_image(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", lambda n: (f"a{n}.png", f"a{n}_mask.png"))
    write(folder, lambda n: (f"b{n}.png", f"a{n}_mask_1.png"), range(1))
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert "a0_mask.png and a0_mask_1.png are both named like the reference of a0; keep one, or write a cases.csv" in words_of(
        result
    )


def test_an_incomplete_case_of_channels(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", lambda n: (f"p{n}/p{n}-t1.png", f"p{n}/p{n}-t2.png", f"p{n}/p{n}-seg.png"))
    Image.new("L", SHAPE[::-1]).save(folder / "p3/p3-flair.png")
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert "the cases have different channels: p2 has t1, t2; p3 has flair, t1, t2; complete them" in words_of(result)


@pytest.mark.parametrize(
    ("name_of", "sight"),
    [
        pytest.param(
            lambda n: (f"a{n}.png", f"a{n}_lesion.png"),
            "It holds images: 8 beside each other. 4 pairs NAME, NAME_lesion",
            id="a word of their own",
        ),
        pytest.param(
            lambda n: (f"raw/a{n}.png", f"drawn/a{n}.png"), "raw/ and drawn/ share 4 names", id="folders of their own"
        ),
    ],
)
def test_what_is_not_recognised_is_described_and_leads_to_a_bundle(
    tmp_path: Path, name_of: Callable[[int], tuple[str, ...]], sight: str
) -> None:
    folder = write(tmp_path / "data", name_of)
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert sight in words_of(result)
    command = re.search(r"with: overtile (cases .+?) Looked for", words_of(result))
    assert command
    made = run(*shlex.split(command[1]), "--split", "train=0.5,val=0.25,test=0.25")
    assert made.exit_code == 0, made.stderr
    assert "4 cases (2 train, 1 val, 1 test), no groups Next: overtile inspect" in words_of(made)
    assert run("inspect", folder).exit_code == 0
    assert [case.reference and case.reference.name for case in read_cases(folder)] == [
        Path(name_of(n)[-1]).name for n in range(COUNT)
    ]
    config = tmp_path / "plan.yaml"
    assert run("plan", folder, "-o", config, "--memory", "500MB").exit_code == 0
    words = [
        "run.name=first",
        f"run.folder={tmp_path}",
        "trainer.max_steps=1",
        "model.features=[4,8]",
        "sampling.patch_size=[32,32]",
    ]
    trained = run("train", config, *words, "inference.tile_size=[32,32]")
    assert trained.exit_code == 0, trained.stderr
    assert (tmp_path / "first/bundle/manifest.json").is_file()


def test_the_folder_above_a_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", lambda n: (f"images/{n}.png", f"masks/{n}.png"))
    assert f"The data set seems to be in {folder}: give that folder." in words_of(run("inspect", tmp_path))


def test_a_table_of_another_name(tmp_path: Path) -> None:
    (tmp_path / "Cases.xlsx").write_bytes(b"PK")
    assert "It holds Cases.xlsx: save the table as CSV, with the name cases.csv." in words_of(run("inspect", tmp_path))


def test_a_pair_among_other_images_is_no_data_set(tmp_path: Path) -> None:
    folder = write(tmp_path / "home", lambda n: (f"photos/{n}.png", f"others/x{n}.png"))
    write(folder, lambda n: (f"masks_of_today/{n}.png", f"masks_of_today/{n}_mask.png"), range(1))
    assert "no data set is recognised. It holds images: " in words_of(run("inspect", folder))


def test_no_pairs_and_no_images(tmp_path: Path) -> None:
    write(tmp_path / "data", lambda n: (f"a{n}.png", f"elsewhere/b{n}.tif"))
    assert "No names look like pairs of image and reference: write a cases.csv" in words_of(run("inspect", tmp_path / "data"))
    (tmp_path / "empty").mkdir()
    assert "It holds no images; give the folder that holds them" in words_of(run("inspect", tmp_path / "empty"))


def test_links_that_leave_the_folder_are_followed_with_a_remark(tmp_path: Path) -> None:
    annex = write(tmp_path / "annex", lambda n: (f"{n}.png", f"{n}-mask.png"))
    folder = tmp_path / "data"
    for number in range(COUNT):
        for name, target in ((f"images/{number}.png", f"{number}.png"), (f"masks/{number}.png", f"{number}-mask.png")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(annex / target)
    result = run("inspect", folder)
    assert result.exit_code == 0, result.stderr
    assert "note: 8 of 8 files are behind links that leave the data set's folder, such as 0.png ->" in words_of(result)
    (annex / "2.png").unlink()
    result = run("inspect", folder)
    assert result.exit_code == 3
    assert "images/2.png: a link to a file that is missing; fetch it, with DataLad by: datalad get images/2.png" in words_of(
        result
    )


def nnunet_tiff(folder: Path, spacing: object) -> Path:
    shape = (6, 20, 24)
    for number in range(2):
        values = np.random.default_rng(number).integers(0, 99, shape).astype(np.uint8)
        for name, pixels in (
            (f"imagesTr/c{number}_0000.tif", values),
            (f"labelsTr/c{number}.tif", (values > 50).astype(np.uint8)),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(folder / name, pixels)
        for name in ("imagesTr", "labelsTr"):
            (folder / name / f"c{number}.json").write_text(json.dumps({"spacing": spacing}))
    description = {
        "channel_names": {"0": "EM"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": 2,
        "file_ending": ".tif",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_spacing_of_nnunets_tiff(tmp_path: Path) -> None:
    folder = nnunet_tiff(tmp_path, [0.004, 0.002, 0.002])
    case = read_cases(folder)[0]
    assert (case.spacing_um, case.axes) == ((4, 2, 2), "ZYX")
    with open_case_image(case) as image, open_reference(case) as reference:
        assert image.spacing_um == (4, 2, 2)
        assert image.shape == reference.shape == (6, 20, 24)
    result = run("inspect", folder)
    assert result.exit_code == 0, result.stderr
    assert "Images 3D, 1 channel, uint8" in words_of(result)
    assert "files_skipped" not in words_of(result)


@pytest.mark.parametrize("spacing", [None, [1], [1, 1, 0], ["x", 1, 1], "111"])
def test_a_file_of_spacing_that_holds_none(tmp_path: Path, spacing: object) -> None:
    result = run("inspect", nnunet_tiff(tmp_path, spacing))
    assert result.exit_code == 3
    assert 'does not hold a spacing; write {"spacing": [z, y, x]} in mm' in words_of(result)
