"""References with other than one class per pixel: overlapping classes, numbered objects, values, and ignored pixels."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from configs import schema
from configs.sections import DataSection
from datasets.case_checks import examine_cases, examine_dataset
from datasets.cases import Case, open_case_image, read_cases
from datasets.fingerprint import read_facts
from datasets.labels.counts import check_labels
from datasets.reference_conversion import as_foreground, as_unit
from datasets.references import class_masks, count_classes, foreground_mask, open_reference
from imaging.errors import DataError
from imaging.open import open_image
from imaging.source import ImageSource
from training.data.sampling import LabelIndex, index_labels

FIRST = np.array([[0, 7, 7, 9], [0, 0, 7, 0]], np.uint8)
SECOND = np.array([[0, 0, 1, 1], [0, 0, 0, 9]], np.uint8)


def whole(source: ImageSource) -> NDArray[np.generic]:
    with source:
        return source.read(tuple(slice(0, size) for size in source.shape))


def census_of(case: Case, classes: int, seed: int, ignore_label: int | None = None) -> LabelIndex:
    with open_reference(case) as reference:
        return index_labels(reference, classes, seed, ignore_label)


def data_of(folder: Path, classes: int, *overrides: str) -> DataSection:
    entries = ", ".join(f"{{name: c{label}, colour: '#00000{label}'}}" for label in range(classes))
    words = [f"data.path={folder}", f"data.classes=[{entries}]", *overrides]
    return schema.load(Path("configs/histology_unet.yaml"), words).data


def write(folder: Path, cases: int, **references: NDArray[np.generic]) -> Path:
    """Write cases of random images that all have these files as reference."""
    rows = ["case,image,reference,split"]
    for name, pixels in references.items():
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack")
    for number in range(cases):
        image = np.random.default_rng(number).integers(0, 255, (2, 4, 3), np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
        names = ";".join(f"{name}.tif" for name in references)
        rows.append(f"{number},{number}.png,{names},{'val' if number else 'train'}")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_file_for_each_class_that_overlaps(tmp_path: Path) -> None:
    data = data_of(write(tmp_path, 2, first=FIRST, second=SECOND), 3, "head.kind=multi_label", "data.ignore_label=9")
    cases = read_cases(tmp_path, data)
    assert (cases[0].reference, cases[0].other_references) == (tmp_path / "first.tif", (tmp_path / "second.tif",))
    pixels = whole(open_reference(cases[0]))
    assert pixels.tolist() == [[[0, 1, 1, 9], [0, 0, 1, 0]], [[0, 0, 1, 1], [0, 0, 0, 9]]]
    assert count_classes(pixels, 9) == {0: 3, 1: 3, 2: 2}
    assert foreground_mask(pixels, 9).tolist() == [[False, True, True, True], [False, False, True, False]]
    census = census_of(cases[0], 3, 0, 9)
    assert census.shape == (2, 4)
    assert [sorted(positions.tolist()) for positions in census.positions] == [[0, 4, 5], [1, 2, 6], [2, 3]]
    reports = examine_cases(cases)
    assert [report.label_counts for report in reports] == [{0: 3, 1: 3, 2: 2}] * 2
    assert examine_dataset(reports, {"0": "train", "1": "val"}).errors == ()


def test_files_that_do_not_lie_on_one_another_or_are_missing(tmp_path: Path) -> None:
    write(tmp_path, 1, first=FIRST, second=SECOND[:, :3])
    (case,) = read_cases(tmp_path, data_of(tmp_path, 3))
    with pytest.raises(DataError, match=r"file 2 of the case's reference has shape \(2, 3\), the first file's is \(2, 4\)"):
        open_reference(case)
    (tmp_path / "second.tif").unlink()
    with pytest.raises(DataError, match=r"line 2: second\.tif: no such file"):
        read_cases(tmp_path, data_of(tmp_path, 3))


def test_files_for_another_number_of_classes(tmp_path: Path) -> None:
    (case,) = read_cases(write(tmp_path, 1, first=FIRST, second=SECOND), data_of(tmp_path, 4))
    with pytest.raises(DataError) as caught:
        open_reference(case)
    assert caught.value.code == "reference_channels"
    assert caught.value.message == (
        "reference has 2 files for 4 classes; give one file with all labels, or a file for each class but the background"
    )


def test_files_for_each_class_have_no_values(tmp_path: Path) -> None:
    write(tmp_path, 1, first=FIRST, second=SECOND)
    entries = ", ".join(f"{{name: c{label}, colour: '#000000', value: {7 * label}}}" for label in range(3))
    data = data_of(tmp_path, 3, "head.kind=multi_label", f"data.classes=[{entries}]")
    with pytest.raises(DataError, match=r"reference has 2 files, and data\.classes gives values, .*; remove value"):
        open_reference(read_cases(tmp_path, data)[0])


def test_ignored_labels_are_no_problem_and_are_not_counted(tmp_path: Path) -> None:
    """Label 200 is no class; ignored, neither the examination nor the sampling counts it."""
    labels = np.array([[0, 1, 200, 200], [0, 0, 1, 1]], np.uint8)
    write(tmp_path, 2, labels=labels)
    assert "labels_unknown" in [problem.code for problem in examined(tmp_path, data_of(tmp_path, 2)).errors]
    data = data_of(tmp_path, 2, "data.ignore_label=200")
    examination = examined(tmp_path, data)
    assert examination.errors == ()
    assert examination.reports[0].label_counts == {0: 3, 1: 3}
    case = read_cases(tmp_path, data)[0]
    assert read_facts(case).label_counts == {0: 3, 1: 3}
    assert census_of(case, 2, 0, 200).counts.tolist() == [3, 3]
    with pytest.raises(DataError, match=r"reference holds 200 \(2 pixels\); allowed are 0 \.\. 1"):
        census_of(case, 2, 0)
    check_labels(labels[None], 2, 200)


def examined(folder: Path, data: DataSection):  # type: ignore[no-untyped-def]
    cases = read_cases(folder, data)
    return examine_dataset(examine_cases(cases), {case.name: case.split for case in cases if case.split})


def test_values_are_no_labels(tmp_path: Path) -> None:
    """Values are not checked as labels, every pixel is equally likely to be sampled, and float32 stays."""
    values = np.linspace(-1, 2, 8, dtype=np.float32).reshape(2, 4)
    values[0, 1] = 9
    data = data_of(write(tmp_path, 2, values=values), 1, "head.kind=regression", "data.ignore_label=9")
    examination = examined(tmp_path, data)
    assert examination.errors == ()
    assert examination.reports[0].label_counts is None
    case = read_cases(tmp_path, data)[0]
    assert read_facts(case).label_counts == {}
    np.testing.assert_array_equal(whole(open_reference(case))[0], values)
    census = census_of(case, 1, 0, 9)
    assert sorted(census.positions[0].tolist()) == [0, 2, 3, 4, 5, 6, 7]


def test_values_outside_unit(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, 9]], np.float32))
    assert whole(as_unit(open_image(tmp_path / "a.tif", labels=True), 9)).tolist() == [[[0, 1, 9]]]
    with pytest.raises(DataError, match=r"reference holds 9, head\.kind unit_regression takes 0 to 1; divide by the largest"):
        whole(as_unit(open_image(tmp_path / "a.tif", labels=True)))


def test_objects_by_number_or_as_one_class(tmp_path: Path) -> None:
    numbers = np.array([[0, 300, 65535, 1]], np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    case = Case("x", (tmp_path / "a.tif",), tmp_path / "a.tif", instances=True, ignore_label=65535)
    assert whole(open_reference(case)).tolist() == [[[0, 1, 65535, 1]]]
    numbered = open_reference(case, numbered=True)
    assert whole(as_foreground(numbered, 65535)).tolist() == [[[0, 1, 65535, 1]]]
    np.testing.assert_array_equal(whole(open_reference(case, numbered=True))[0], numbers)


def test_outlines_have_numbers_too(tmp_path: Path) -> None:
    rings = [[[0, 0], [1, 0], [1, 2], [0, 2]]], [[[2, 0], [4, 0], [4, 1], [2, 1]]]
    features = [
        {"properties": {"classification": {"name": "cell"}}, "geometry": {"type": "Polygon", "coordinates": ring}}
        for ring in rings
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"features": features}))
    Image.fromarray(np.zeros((2, 4, 3), np.uint8)).save(tmp_path / "a.png")
    case = Case("x", (tmp_path / "a.png",), tmp_path / "a.geojson", classes=("background", "cell"), instances=True)
    assert whole(open_reference(case)).tolist() == [[[1, 0, 1, 1], [1, 0, 0, 0]]]
    assert whole(open_reference(case, numbered=True)).tolist() == [[[1, 0, 2, 2], [1, 0, 0, 0]]]


def test_masks_of_classes() -> None:
    labels = np.array([[0, 1, 2, 9]])
    assert [mask.tolist() for mask in class_masks(labels, 3, 9)] == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert [mask.tolist() for mask in class_masks(labels, 1, 9)] == [[True, True, True, False]]


@pytest.mark.parametrize("one", [0.9999999, np.nextafter(np.float32(1), np.float32(2)), 0.996, 1.004, 0.981])
def test_labels_close_to_whole_numbers_are_rounded_with_a_note(tmp_path: Path, one: float) -> None:
    stored = (FIRST > 0).astype(np.float32) * np.float32(one)
    cases = read_cases(write(tmp_path, 2, first=stored), data_of(tmp_path, 2))
    assert whole(open_reference(cases[0])).tolist() == [(FIRST > 0).astype(int).tolist()]
    examination = examine_dataset(examine_cases(cases), {"0": "train", "1": "val"})
    assert examination.errors == ()
    assert [problem.code for problem in examination.notes if problem.case == "0"] == ["labels_rounded"]


def test_labels_that_are_rounded_train_as_whole_numbers(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 1, 2], [0, 0, 1, 0]]) * 0.9999999
    cases = read_cases(write(tmp_path, 2, first=stored), data_of(tmp_path, 3))
    with open_reference(cases[0]) as reference:
        assert count_classes(reference.read((slice(0, 2), slice(0, 4)))) == {0: 4, 1: 3, 2: 1}
    census = census_of(cases[0], 3, 0)
    assert [sorted(positions.tolist()) for positions in census.positions] == [[0, 4, 5, 7], [1, 2, 6], [3]]


@pytest.mark.parametrize("value", [0.5, 0.03, 1.97])
def test_other_fractions_are_refused(tmp_path: Path, value: float) -> None:
    stored = FIRST.astype(np.float32) * 0
    stored[0, 0] = value
    cases = read_cases(write(tmp_path, 2, first=stored), data_of(tmp_path, 3))
    errors = examine_dataset(examine_cases(cases), {"0": "train", "1": "val"}).errors
    assert [problem.code for problem in errors if problem.case == "0"] == ["labels_not_whole"]


def test_values_are_never_rounded(tmp_path: Path) -> None:
    stored = FIRST.astype(np.float32) * 0.999
    data = data_of(write(tmp_path, 2, first=stored), 1, "head.kind=regression")
    assert whole(open_reference(read_cases(tmp_path, data)[0])).tolist() == stored[None].tolist()


@pytest.mark.parametrize("side", ["image", "reference"])
@pytest.mark.parametrize("shape", [(4, 4), (2, 4)])
def test_an_exif_orientation_that_only_one_has_is_a_problem(tmp_path: Path, side: str, shape: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"image": {"exif": exif} if side == "image" else {}, "reference": {"exif": exif} if side == "reference" else {}}
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)).save(
        tmp_path / "i.png", **options["image"]
    )
    Image.fromarray(np.eye(*shape, dtype=np.uint8)).save(tmp_path / "r.png", **options["reference"])
    (tmp_path / "cases.csv").write_text("case,image,reference,split\n0,i.png,r.png,train\n")
    problems = examine_dataset(examine_cases(read_cases(tmp_path)), {"0": "train"}).problems
    codes = {problem.code: problem for problem in problems}
    assert codes["reference_orientation"].severity == "error"
    assert codes["orientation_applied"].severity == "note"


def test_an_exif_orientation_that_both_have_is_applied_to_both(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    reference = np.array([[0, 1, 0], [0, 0, 0]], np.uint8)
    Image.fromarray(np.stack([reference * 200] * 3, axis=-1)).save(tmp_path / "i.png", exif=exif)
    Image.fromarray(reference).save(tmp_path / "r.png", exif=exif)
    (tmp_path / "cases.csv").write_text("case,image,reference,split\n0,i.png,r.png,train\n")
    (case,) = read_cases(tmp_path)
    assert whole(open_reference(case)).tolist() == [[[0, 0], [0, 1], [0, 0]]]
    with open_image(tmp_path / "i.png") as image:
        assert image.shape == (3, 2)


def test_2d_nifti_is_a_2d_data_set_with_and_without_a_config(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 0], [0, 0, 1]], np.uint8)  # (x, y)
    for number, shape in enumerate([(2, 3), (2, 3, 1)]):
        nib.Nifti1Image(labels.reshape(shape) * (9 + number), np.eye(4)).to_filename(tmp_path / f"i{number}.nii.gz")
        nib.Nifti1Image(labels.reshape(shape), np.eye(4)).to_filename(tmp_path / f"r{number}.nii.gz")
    lines = ["case,image,reference,split", "0,i0.nii.gz,r0.nii.gz,train", "1,i1.nii.gz,r1.nii.gz,val"]
    (tmp_path / "cases.csv").write_text("\n".join(lines) + "\n")
    for data in (None, data_of(tmp_path, 2, "data.channels=[grey]")):
        cases = read_cases(tmp_path, data)
        reports = examine_cases(cases)
        assert [report.facts and report.facts.shape for report in reports] == [(3, 2), (3, 2)]
        assert [whole(open_reference(case)).tolist() for case in cases] == [[labels.T.tolist()]] * 2
        assert examine_dataset(reports, {"0": "train", "1": "val"}).errors == ()


def test_a_plain_tiff_stack_is_a_volume_for_a_3d_config(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "i.tif", stack)
    tifffile.imwrite(tmp_path / "r.tif", (stack > 4).astype(np.uint8))
    (tmp_path / "cases.csv").write_text("case,image,reference,split,spacing_um\n0,i.tif,r.tif,train,1000\n")
    data = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={tmp_path}"]).data
    (case,) = read_cases(tmp_path, data)
    with open_case_image(case) as image:
        np.testing.assert_array_equal(image.read(tuple(slice(0, size) for size in image.shape))[0], stack)
    np.testing.assert_array_equal(whole(open_reference(case))[0], stack > 4)
