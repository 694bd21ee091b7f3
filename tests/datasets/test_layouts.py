"""Layouts: each known one gives its cases, and every problem of one is reported."""

import json
import os
from pathlib import Path

import pytest

from datasets.cases import read_cases
from imaging.errors import DataError
from imaging.open import stem_of

DECATHLON = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}}
NNUNET = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def describe(folder: Path, content: object) -> None:
    (folder / "dataset.json").write_text(json.dumps(content))


def refusal(folder: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_cases(folder)
    return caught.value


@pytest.mark.parametrize("references", ["references", "masks", "labels"])
def test_own_folders(tmp_path: Path, references: str) -> None:
    fill(tmp_path, "images/b.nii.gz", "images/a.ome.tif", "images/c.png", f"{references}/a.png", f"{references}/b.nii.gz")
    fill(tmp_path, "images/.hidden")
    cases = read_cases(tmp_path)
    assert [case.name for case in cases] == ["a", "b", "c"]
    assert [case.images for case in cases] == [(tmp_path / f"images/{name}",) for name in ("a.ome.tif", "b.nii.gz", "c.png")]
    assert [case.reference for case in cases] == [tmp_path / references / "a.png", tmp_path / references / "b.nii.gz", None]


def test_own_folders_hold_folders_that_are_images(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.mrxs", "images/a/Index.dat", "images/b.ome.zarr/.zattrs", "masks/a.png", "masks/b.png")
    assert [case.images[0].name for case in read_cases(tmp_path)] == ["a.mrxs", "b.ome.zarr"]


def test_nnunet(tmp_path: Path) -> None:
    fill(tmp_path, "imagesTr/p_1_0001.nii.gz", "imagesTr/p_1_0000.nii.gz", "labelsTr/p_1.nii.gz")
    fill(tmp_path, "imagesTs/p_2_0000.nii.gz", "imagesTs/p_2_0001.nii.gz")
    describe(tmp_path, NNUNET)
    train, test = read_cases(tmp_path)
    assert (train.name, train.split, train.group) == ("p_1", None, None)
    assert [path.name for path in train.images] == ["p_1_0000.nii.gz", "p_1_0001.nii.gz"]
    assert train.reference == tmp_path / "labelsTr/p_1.nii.gz"
    assert train.classes == ("background", "whole", "core")
    assert (test.name, test.split, test.reference) == ("p_2", "test", None)


def test_decathlon(tmp_path: Path) -> None:
    fill(tmp_path, "imagesTr/liver_0.nii.gz", "labelsTr/liver_0.nii.gz", "imagesTs/liver_1.nii.gz")
    pairs = [{"image": "./imagesTr/liver_0.nii.gz", "label": "./labelsTr/liver_0.nii.gz"}]
    describe(tmp_path, {**DECATHLON, "training": pairs, "test": ["./imagesTs/liver_1.nii.gz"]})
    train, test = read_cases(tmp_path)
    assert (train.name, train.images, train.split) == ("liver_0", (tmp_path / "imagesTr/liver_0.nii.gz",), None)
    assert train.reference == tmp_path / "labelsTr/liver_0.nii.gz"
    assert train.classes == ("background", "liver")
    assert (test.name, test.split, test.reference) == ("liver_1", "test", None)


def test_annotations_beside_slides(tmp_path: Path) -> None:
    fill(tmp_path, "a.svs", "b.tif", "c.svs")
    (tmp_path / "a.geojson").write_text('{"features": []}')
    outline = '<Annotations><Annotation Name="tumour"><Regions><Region><Vertices><Vertex X="0" Y="0"/><Vertex X="4" Y="0"/>'
    (tmp_path / "b.xml").write_text(outline + '<Vertex X="4" Y="4"/></Vertices></Region></Regions></Annotation></Annotations>')
    cases = read_cases(tmp_path)
    assert [(case.name, case.reference) for case in cases] == [("a", tmp_path / "a.geojson"), ("b", tmp_path / "b.xml")]
    assert {case.classes for case in cases} == {("background", "tumour")}


def test_bids(tmp_path: Path) -> None:
    fill(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz")
    fill(tmp_path, "derivatives/hand/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz")
    (case,) = read_cases(tmp_path)
    assert (case.name, case.group) == ("sub-01_ses-1", "sub-01")
    assert [path.name for path in case.images] == ["sub-01_ses-1_FLAIR.nii.gz", "sub-01_ses-1_T1w.nii.gz"]


def test_a_table_comes_before_folders(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "images/b.png", "masks/a.png")
    (tmp_path / "cases.csv").write_text("case,image,group,spacing_um\nx,images/a.png;images/b.png,p,2;0.9;0.9\n")
    (case,) = read_cases(tmp_path)
    assert (case.name, case.group, case.patient, case.spacing_um) == ("x", "p", "p", (2, 0.9, 0.9))
    assert case.images == (tmp_path / "images/a.png", tmp_path / "images/b.png")


@pytest.mark.parametrize(
    ("name", "stem"), [("a.b.svs", "a.b"), ("a.nii.gz", "a"), ("a.ome.tiff", "a"), ("a.ome.zarr", "a"), ("a", "a")]
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem


def test_nothing_is_recognised(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert error.code == "cases_missing"
    for word in ("cases.csv", "images/ and one of", "nnU-Net", "Decathlon", "QuPath", "BIDS"):
        assert word in error.message
    assert "no such folder; give the path of a data set" in refusal(tmp_path / "none").message


def test_several_layouts(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "masks/a.png", "a.svs", "a.xml")
    error = refusal(tmp_path)
    assert error.code == "layout_ambiguous"
    assert error.message.endswith(
        "several layouts match; write a cases.csv to choose one:\n"
        "    images/ and one of references/, masks/, labels/, annotations/, gt/, seg/, with equal names, or NAME_mask for "
        "NAME\n"
        "    NAME.svs with NAME.geojson (QuPath), NAME.xml (Aperio) or NAME.json (LabelMe) beside it"
    )


def test_two_folders_of_references(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    error = refusal(tmp_path)
    assert error.code == "layout_ambiguous"
    assert error.message.endswith("has labels and masks; keep one, or write a cases.csv")


def test_references_without_images(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "masks/a.png", "masks/b.png", "masks/c.png")
    assert refusal(tmp_path).message.count("no image of that name in images/; rename or remove it") == 2


def test_two_files_of_one_name(tmp_path: Path) -> None:
    fill(tmp_path, "images/a.png", "images/a.tif", "masks/a.png")
    assert "images/a.png and a.tif have one name; rename one, or write a cases.csv" in refusal(tmp_path).message


def test_a_channel_without_a_number(tmp_path: Path) -> None:
    fill(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png", "imagesTs/b.png")
    describe(tmp_path, NNUNET)
    assert "imagesTs/b.png: no channel in the name; nnU-Net's are NAME_0000, NAME_0001 .." in refusal(tmp_path).message


def test_modalities_in_one_file(tmp_path: Path) -> None:
    fill(tmp_path, "imagesTr/a.nii.gz")
    describe(tmp_path, {"training": [], "modality": {"0": "T1", "1": "T2"}})
    error = refusal(tmp_path)
    assert error.code == "channels_in_one_file"
    assert "names 2 modalities in each 4D file, which aren't read; save one 3D file a modality" in error.message


@pytest.mark.parametrize("training", [7, [7], [{"label": "x"}], [{"image": 7}]])
def test_a_list_of_training_that_is_none(tmp_path: Path, training: object) -> None:
    fill(tmp_path, "imagesTr/a.nii.gz")
    describe(tmp_path, {"training": training})
    assert "training isn't a list of image and label, or test one of images; write a cases.csv" in refusal(tmp_path).message


@pytest.mark.parametrize(("content", "message"), [("{", "can't be read as JSON"), ("[]", "isn't an object of keys and values")])
def test_a_description_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    fill(tmp_path, "imagesTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text(content)
    assert message in refusal(tmp_path).message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("case,image,case", "a,x.png,b"), "column 'case' comes twice"),
        (("case,image", "A,x.png", "a,x.png"), "line 3: case 'a' is empty or comes twice"),
        (("case,image", "\u00e9,x.png", "e\u0301,x.png"), "line 3: case 'e\u0301' is empty or comes twice"),
        (("case,image", "a,"), "line 2: no image; name a file"),
        (("case,image", "a,x.png;"), "line 2: no image; name a file"),
        (("case,image", "a,x\0.png"), "line 2: a cell holds characters that can't be printed; remove them"),
        (("case,image", "\x1b[31m,x.png"), "line 2: a cell holds characters that can't be printed; remove them"),
        (("case,image", "a,out.png"), "line 2: out.png: a link to a file that is missing; fetch it, with DataLad"),
        (("case,image", "a,pipe"), "line 2: pipe: no such file"),
        (("case,image,spacing_um", "a,x.png,wide"), "line 2: spacing_um 'wide'; give one number above 0, or one an axis"),
        (("case,image,spacing_um", "a,x.png,1;0"), "line 2: spacing_um '1;0'; give one number"),
        (("case,image,spacing_um", "a,x.png,1;1;1;1"), "line 2: spacing_um '1;1;1;1'; give one number"),
        (("case,image,spacing_um", "a,x.png,inf"), "line 2: spacing_um 'inf'; give one number"),
    ],
)
def test_a_table_that_is_unfit(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    folder = fill(tmp_path / "data", "x.png")
    (folder / "out.png").symlink_to(tmp_path / "elsewhere.png")
    os.mkfifo(folder / "pipe")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    error = refusal(folder)
    assert error.code == "cases_invalid"
    assert message in error.message


def test_every_problem_of_a_table_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("case,image\na,none.png\na,../x.png\n")
    assert refusal(tmp_path).message.count("cases.csv: line") == 3


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(b"case,image\n\x81,x\n")
    error = refusal(tmp_path)
    assert error.code == "cases_missing"
    assert "can't be read; save it as CSV in UTF-8: case,image,reference[,group,split]" in error.message
    os.truncate(tmp_path / "cases.csv", 2**26 + 1)
    assert "more than 64 MiB; split the data set" in refusal(tmp_path).message


def test_a_link_inside_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, "store/x.png")
    (tmp_path / "x.png").symlink_to(tmp_path / "store/x.png")
    (tmp_path / "cases.csv").write_text("case,image\na,x.png\n")
    assert len(read_cases(tmp_path)) == 1


def test_only_the_test_is_set_apart(tmp_path: Path) -> None:
    fill(tmp_path, "x.png")
    (tmp_path / "cases.csv").write_text("case,image,split\na,x.png,test\nb,x.png,\n")
    assert [case.split for case in read_cases(tmp_path)] == ["test", None]
