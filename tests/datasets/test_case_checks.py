"""Examination of data sets: sound data has no problems, and exactly the planted problems are reported, with their place."""

import csv
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from configs import schema
from configs.sections import ClassSection
from datasets.case_checks import Examination, check_trainable, examine_cases, examine_dataset
from datasets.cases import Case, read_cases
from datasets.problems import Problem
from imaging.errors import DataError, UnsuitableImage
from tests.phantom import write_slide_dataset, write_volume_dataset

CASES = 12
SPLITS = ["train"] * 8 + ["val"] * 4


def examined(folder: Path, **options: Any) -> Examination:
    cases = read_cases(folder, **options)
    return examine_dataset(examine_cases(cases), {case.name: case.split for case in cases if case.split})


def codes_of(problems: Iterable[Problem]) -> list[tuple[str | None, str]]:
    return [(problem.case, problem.code) for problem in problems]


def write_rows(folder: Path, change: Callable[[list[dict[str, str]]], None]) -> None:
    with (folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with (folder / "cases.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["case", "image", "reference", "group", "split"])
        table.writeheader()
        table.writerows(rows)


def give_groups(rows: list[dict[str, str]]) -> None:
    for row in rows:
        row["group"] = f"patient-{row['case']}"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    folder = write_volume_dataset(tmp_path / "volumes", cases=CASES, shape=(8, 12, 12), splits=SPLITS).parent
    write_rows(folder, give_groups)
    return folder


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = write_slide_dataset(tmp_path / "slides", cases=CASES, shape=(48, 48), splits=SPLITS).parent
    write_rows(folder, give_groups)
    return folder


def change(path: Path, function: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    stored: Any = nib.load(path)
    nib.Nifti1Image(*function(np.asarray(stored.dataobj).copy(), stored.affine)).to_filename(path)


def labels_of(folder: Path, number: int) -> Path:
    return folder / f"references/case{number:03d}.nii.gz"


def put(voxels: np.ndarray, value: float) -> np.ndarray:
    voxels[1, 1, 1] = value
    return voxels


def test_sound_data_has_no_problem(volumes: Path) -> None:
    examination = examined(volumes)
    assert examination.problems == ()
    assert [report.facts and report.facts.name for report in examination.reports] == [f"case{n:03d}" for n in range(CASES)]
    check_trainable(examination)


def test_all_that_is_planted_is_found_and_nothing_else(volumes: Path) -> None:
    moved = np.zeros((4, 4))
    moved[0, 3] = 0.002
    change(labels_of(volumes, 0), lambda voxels, affine: (voxels, affine + moved))
    change(labels_of(volumes, 1), lambda voxels, affine: (put(voxels, 7), affine))
    for folder in ("images", "references"):
        shutil.copy(volumes / f"{folder}/case002.nii.gz", volumes / f"{folder}/case008.nii.gz")
    change(volumes / "images/case008.nii.gz", lambda voxels, affine: (voxels, affine))  # the same pixels in another file
    change(labels_of(volumes, 4), lambda voxels, affine: (voxels * 0, affine))
    change(volumes / "images/case005.nii.gz", lambda voxels, affine: (put(voxels, np.nan), affine))
    change(labels_of(volumes, 6), lambda voxels, affine: (voxels[:-1], affine))
    (volumes / "images/case007.nii.gz").write_bytes(b"no image")

    def share_a_patient(rows: list[dict[str, str]]) -> None:
        rows[3]["group"] = rows[9]["group"] = "shared"

    write_rows(volumes, share_a_patient)
    examination = examined(volumes)
    assert codes_of(examination.errors) == [
        ("case000", "reference_affine"),
        ("case005", "non_finite_voxels"),
        ("case006", "reference_shape"),
        ("case007", "unsupported_format"),
        ("case001", "labels_unknown"),
        (None, "image_twice"),
        (None, "group_in_several_splits"),
    ]
    assert codes_of(examination.notes) == [("case004", "reference_empty")]
    with pytest.raises(DataError) as caught:
        check_trainable(examination)
    assert caught.value.code == "data_unfit"
    lines = caught.value.message.splitlines()
    assert lines[0] == "the data can't be trained on:"
    assert lines[1] == (
        "  case case000, references/case000.nii.gz: reference's affine differs from its image's by 0.002 mm, "
        "allowed are 0.001 mm; resample it onto the image's grid [reference_affine]"
    )
    assert "  2 cases hold the same image: case002 (train), case008 (val); keep one of them: no image may train" in lines[6]
    assert "  groups are in several splits: shared (train, val); put every case of a group into one split" in lines[7]
    assert len(lines) == 9


def test_several_problems_of_one_case(volumes: Path) -> None:
    change(volumes / "images/case000.nii.gz", lambda voxels, affine: (put(voxels, np.inf), affine))
    change(labels_of(volumes, 0), lambda voxels, affine: (put(voxels[1:], 9), affine))
    codes = {code for _, code in codes_of(examined(volumes).problems)}
    assert codes == {"non_finite_voxels", "reference_shape", "labels_unknown"}


def test_the_odd_label_has_its_count_and_its_remedy(volumes: Path) -> None:
    change(labels_of(volumes, 1), lambda voxels, affine: (put(voxels, 7), affine))
    (problem,) = examined(volumes).errors
    assert str(problem) == (
        "case case001, references/case001.nii.gz: reference holds 7 (1 pixels), which almost no other case has; correct "
        "it (other cases have labels 0, 1, 2), or give all labels with --config or --classes [labels_unknown]"
    )


def test_labels_by_the_config(volumes: Path) -> None:
    data = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={volumes}"]).data
    classes = len(data.classes)
    change(labels_of(volumes, 1), lambda voxels, affine: (put(voxels, classes), affine))
    (problem,) = examined(volumes, data=data).errors
    assert (problem.case, problem.code, problem.value) == ("case001", "labels_unknown", f"reference holds {classes} (1 pixels)")


def test_fractions_among_labels(volumes: Path) -> None:
    change(labels_of(volumes, 3), lambda voxels, affine: (put(voxels.astype(np.float32), 0.25), affine))
    (problem,) = examined(volumes).errors
    assert (problem.case, problem.code, problem.value) == (
        "case003", "labels_not_whole", "reference holds 0.25 (1 pixels), which are no labels",
    )  # fmt: skip


def save(folder: Path, number: int, pixels: np.ndarray, *, kind: str = "references") -> None:
    Image.fromarray(pixels).save(folder / f"{kind}/case{number:03d}.png")


def stored(folder: Path, number: int) -> np.ndarray:
    return np.array(Image.open(folder / f"references/case{number:03d}.png"))


def test_masks_that_hold_no_labels(slides: Path) -> None:
    save(slides, 0, np.zeros((48, 48, 3), np.uint8))
    Image.fromarray(stored(slides, 1)).save(slides / "references/case001.png", format="JPEG")
    save(slides, 2, np.zeros((48, 48), np.uint8) + 1)
    save(slides, 3, np.zeros((48, 48, 3), np.uint8) + 77, kind="images")
    half = np.full((48, 48, 3), 77, np.uint8)
    half[:24, :, 0] = 5
    save(slides, 4, half, kind="images")
    examination = examined(slides)
    assert codes_of(examination.errors) == [
        ("case000", "reference_channels"), ("case001", "reference_lossy"), ("case003", "image_constant"),
    ]  # fmt: skip
    assert codes_of(examination.notes) == [
        ("case002", "reference_full"),
        ("case004", "image_constant"),
        (None, "spacing_missing"),
    ]
    assert examination.errors[2].value == "every pixel is 77"
    assert examination.notes[1].value == "every pixel of channel 2 is 77"
    assert examination.notes[0].value == "every pixel of the reference has label 1"


def test_zero_and_255(slides: Path) -> None:
    for number in range(CASES):
        save(slides, number, stored(slides, number) * 255)
    examination = examined(slides)
    assert examination.errors == ()
    (problem,) = [note for note in examination.notes if note.code == "labels_not_contiguous"]
    assert problem.value == "references hold 0, 255"
    assert problem.remedy.startswith("overtile plan writes each as the value of a class")
    data = schema.load(Path("configs/histology_unet.yaml"), [f"data.path={slides}", "data.instances=true"]).data
    assert examined(slides, data=data).errors == ()


def test_labels_that_count_objects(slides: Path) -> None:
    for number in range(CASES):
        save(slides, number, (np.arange(48 * 48).reshape(48, 48) // (60 + number)).astype(np.uint8))
    examination = examined(slides)
    assert examination.errors == ()
    assert codes_of(examination.notes) == [(None, "labels_count_objects"), (None, "spacing_missing")]


def test_nothing_to_learn(slides: Path) -> None:
    for number in range(CASES):
        save(slides, number, np.zeros((48, 48), np.uint8))
    examination = examined(slides)
    assert codes_of(examination.errors) == [(None, "no_foreground")]
    assert [problem.code for problem in examination.notes].count("reference_empty") == CASES


def test_nothing_to_validate_with(slides: Path) -> None:
    for number in range(8, CASES):
        save(slides, number, np.zeros((48, 48), np.uint8))
    (problem,) = examined(slides).errors
    assert (problem.code, problem.value) == ("no_foreground", "no reference of val holds a label above 0")


def test_classes_that_are_absent(volumes: Path) -> None:
    data = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={volumes}"]).data
    more = data.model_copy(update={"classes": (*data.classes, ClassSection(name="fourth", colour="#000000"))})
    for number in range(8, CASES):
        change(labels_of(volumes, number), lambda voxels, affine: (np.where(voxels == 2, 0, voxels).astype(np.uint8), affine))
    examination = examined(volumes, data=more)
    (stop,), (note,) = examination.errors, examination.notes
    assert (stop.code, stop.value) == ("class_absent", "class fourth (label 3) is in no reference")
    assert (note.code, note.value) == (
        "class_absent_in_split", f"class {data.classes[2].name} (label 2) is in no reference of val",
    )  # fmt: skip


def test_spacings_that_differ(volumes: Path) -> None:
    for kind in ("images", "references"):
        change(volumes / f"{kind}/case005.nii.gz", lambda voxels, affine: (voxels, affine @ np.diag([1, 1, 3, 1.0])))
    examination = examined(volumes)
    assert (codes_of(examination.problems), examination.notes[0].value) == (
        [(None, "spacing_differs")], "spacings reach from 1 mm (case000) to 3 mm (case005)",
    )  # fmt: skip


def test_spacings_that_some_have(slides: Path) -> None:
    lines = (slides / "cases.csv").read_text().splitlines()
    given = [f"{line},{'spacing_um' if number == 0 else 0.5 if number == 1 else ''}" for number, line in enumerate(lines)]
    (slides / "cases.csv").write_text("\n".join(given))
    (note,) = examined(slides).notes
    assert note.value.startswith("11 of 12 images have no spacing: case001, case002,")
    assert note.value.endswith("case008 and 3 more")


def test_the_same_image_twice_in_one_split(volumes: Path) -> None:
    shutil.copy(volumes / "images/case000.nii.gz", volumes / "images/case001.nii.gz")
    (note,) = examined(volumes).problems
    assert (note.severity, note.code, note.value) == ("note", "image_twice", "2 cases hold the same image: case000, case001")


def test_images_of_several_kinds(slides: Path) -> None:
    save(slides, 3, np.arange(48 * 48).reshape(48, 48).astype(np.uint8), kind="images")
    (problem,) = examined(slides).errors
    assert (problem.code, problem.value) == ("channels_mixed", "most images have 3 channels, except for case003 (1)")
    volume = write_volume_dataset(slides, cases=1, shape=(8, 9, 10)).parent / "images/case000.nii.gz"
    cases = [Case(f"case{number}", (path,)) for number, path in enumerate([*sorted(slides.glob("images/*.png"))[4:], volume])]
    problems = examine_dataset(examine_cases(cases), {}).errors
    assert ("dimensions_mixed", "most images have 2 dimensions, except for case8 (3)") in [
        (one.code, one.value) for one in problems
    ]


def test_images_that_do_not_suit_a_config(volumes: Path) -> None:
    def suits(image: object) -> None:
        raise UnsuitableImage("channels_mismatch", "image has 1 channels; send another")

    examination = examine_dataset(examine_cases(read_cases(volumes)[7:9], suits), {})
    assert [str(problem) for problem in examination.errors] == [
        f"case {name}, images/{name}.nii.gz: image has 1 channels; send another [channels_mismatch]"
        for name in ("case007", "case008")
    ]


def test_missing_references_and_splits(volumes: Path) -> None:
    def strip(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["split"] = "train"
        rows[0]["reference"] = ""

    write_rows(volumes, strip)
    examination = examined(volumes)
    assert codes_of(examination.errors) == [(None, "split_empty")]
    assert examination.errors[0].value == "no case with a reference has split val"
    assert examination.notes[0].value == "1 of 12 cases have no reference: case000"


def test_one_patient_and_none(volumes: Path) -> None:
    def one_patient(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["split"], row["group"] = "", "p"

    write_rows(volumes, one_patient)
    assert examined(volumes).errors[0].value == "all 12 cases come from one patient"
    write_rows(volumes, lambda rows: rows.__delitem__(slice(1, None)))
    assert examined(volumes).errors[0].value == "there is one case to train with"
    write_rows(volumes, lambda rows: rows[0].update(reference="", group=""))
    assert codes_of(examined(volumes).problems) == [(None, "reference_missing"), (None, "groups_missing")]


def test_progress_is_reported(volumes: Path) -> None:
    seen: list[tuple[int, int]] = []
    examine_cases(read_cases(volumes)[:3], on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_files_of_a_case_with_several(volumes: Path) -> None:
    paths = tuple(volumes / f"images/case{number:03d}.nii.gz" for number in (0, 1))
    change(paths[1], lambda voxels, affine: (voxels[1:], affine))
    (problem,) = examine_cases([Case("x", paths)])[0].problems
    assert (problem.code, problem.file) == ("channel_geometry_mismatch", "images/case000.nii.gz; images/case001.nii.gz")
