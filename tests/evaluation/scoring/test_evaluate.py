"""`overtile evaluate` on real files, by the real command line."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from mask_data import REFERENCES, write_data, write_image, write_masks
from typer.testing import CliRunner

from overtile import app

A, B = REFERENCES["a"], REFERENCES["b"]


def evaluate(masks: Path, data: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", str(masks), "--data", str(data), "-o", str(masks.parent / "r.html"), *options])


def rows_of(masks: Path) -> dict[tuple[str, str, str], float]:
    """Return the scores in the CSV by case, metric and class."""
    with (masks.parent / "r.csv").open(encoding="utf-8") as file:
        return {(row["case"], row["metric"], row["class"]): float(row["value"] or "nan") for row in csv.DictReader(file)}


def write_config(folder: Path, data: Path, dimensions: int = 2) -> Path:
    """Write a config of three classes and an ignored label."""
    path = folder / "config.yaml"
    path.write_text(
        f"""
run: {{name: test}}
data:
  path: {data}
  dimensions: {dimensions}
  channels: [grey]
  classes: [{{name: background, colour: "#ffffff"}}, {{name: nucleus, colour: "#ff0000"}}, {{name: cell, colour: "#00ff00"}}]
  ignore_label: 255
model: {{name: unet, features: [4, 8]}}
sampling: {{patch_size: {[16] * dimensions}}}
"""
    )
    return path


def assert_refused(result: Any, *texts: str) -> None:
    assert result.exit_code == 3, result.output
    for text in texts:
        assert text in result.output


def test_perfect_masks_score_1_in_table_csv_and_json(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b_mask.tif": B})
    result = evaluate(masks, data, "--metrics", "dice,iou")
    assert result.exit_code == 0, result.output
    assert set(rows_of(masks).values()) == {1.0}
    assert len(rows_of(masks)) == 8
    assert "Dice" in result.output
    scores = json.loads((tmp_path / "r.json").read_text())["scores"]
    assert [score["value"] for score in scores] == [1.0] * 8
    assert {score["method"] for score in scores} == {"masks"}
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<p>The mean Dice is 1.000 over 2 cases.</p>" in page
    assert "r.csv, r.json" in page


def test_masks_named_like_the_image_are_found_and_scored(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"0.png": np.where(A == 2, 0, A).astype(np.uint8), "1.png": B})
    assert evaluate(masks, data, "--metrics", "dice").exit_code == 0
    assert rows_of(masks) == {
        ("a", "dice", "class_1"): 1,
        ("a", "dice", "class_2"): 0,
        ("b", "dice", "class_1"): 1,
        ("b", "dice", "class_2"): 1,
    }


def test_an_empty_folder_is_refused_with_an_example(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (tmp_path / "masks").mkdir()
    assert_refused(evaluate(tmp_path / "masks", data), "no mask of the 2 cases", "a.png")
    assert not (tmp_path / "r.csv").exists()


def test_a_missing_mask_is_refused_counted_as_empty_or_left_out(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A})
    assert_refused(evaluate(masks, data), "1 of 2 cases have no mask: b", "--missing empty")
    assert evaluate(masks, data, "--metrics", "dice", "--missing", "empty").exit_code == 0
    assert rows_of(masks)["b", "dice", "class_1"] == 0
    assert "no_mask" in (tmp_path / "r.csv").read_text()
    result = evaluate(masks, data, "--metrics", "dice", "--missing", "leave-out")
    assert "1 of 2 cases have no mask: b. They are left out." in result.output
    assert {case for case, *_ in rows_of(masks)} == {"a"}


def test_extra_masks_are_named_and_doubled_ones_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b.png": B, "stranger.png": B})
    assert "Files of no case are left out: stranger.png." in evaluate(masks, data).output
    write_masks(masks, {"a_seg.tif": A})
    assert_refused(evaluate(masks, data), "a.png and a_seg.tif")


def test_masks_of_another_shape_are_refused_all_at_once(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A.T, "b.png": B[:2]})
    assert_refused(evaluate(masks, data), "a.png of case a: the mask has shape (5, 3)", "axes are in another order", "b.png")


def test_a_mask_of_another_affine_is_refused(tmp_path: Path) -> None:
    volume = np.zeros((3, 4, 5), np.uint8)
    volume[1, 1:3, 2:4] = 1
    data = write_data(tmp_path / "data", {"a": volume}, suffix=".nii.gz")
    write_image(tmp_path / "masks/a.nii.gz", volume, (2, 1, 1))
    assert_refused(evaluate(tmp_path / "masks", data), "affine differs from its image's by 1 mm", "resample it")
    write_image(tmp_path / "masks/a.nii.gz", volume)
    assert evaluate(tmp_path / "masks", data).exit_code == 0


def test_distances_in_a_volume_follow_its_anisotropic_spacing(tmp_path: Path) -> None:
    reference, mask = np.zeros((2, 8, 9, 10), np.uint8)
    reference[2:5, 3:6, 3:6] = 1
    mask[3:6, 3:6, 3:6] = 1  # moved by one slice of 3 mm
    data = write_data(tmp_path / "data", {"a": reference}, suffix=".nii.gz", spacing_mm=(3, 1, 1))
    write_image(tmp_path / "masks/a.nii.gz", mask, (3, 1, 1))
    result = evaluate(tmp_path / "masks", data, "--metrics", "hd95,nsd", "--tolerance", "3000")
    assert result.exit_code == 0, result.output
    rows = rows_of(tmp_path / "masks")
    assert rows["a", "hd95", "class_1"] == 3000
    assert rows["a", "nsd", "class_1"] == 1
    assert evaluate(tmp_path / "masks", data, "--metrics", "nsd", "--tolerance", "2999").exit_code == 0
    assert rows_of(tmp_path / "masks")["a", "nsd", "class_1"] < 1


def test_a_volume_that_another_tool_turned_and_stored_as_real_numbers_lies_on_its_image(tmp_path: Path) -> None:
    volume = np.zeros((3, 4, 5), np.uint8)
    volume[1, 1:3, 2:4] = 1
    data = write_data(tmp_path / "data", {"a": volume}, suffix=".nii.gz")
    stored = nibabel.load(data / "references/0.nii.gz")
    turned = nibabel.as_closest_canonical(stored)
    (tmp_path / "masks").mkdir()
    nibabel.save(nibabel.Nifti1Image(turned.get_fdata() * 0.9999999, turned.affine), tmp_path / "masks/a.nii")
    assert evaluate(tmp_path / "masks", data, "--metrics", "dice").exit_code == 0
    assert rows_of(tmp_path / "masks") == {("a", "dice", "class_1"): 1}


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("reference_white", [1, 255])
def test_two_classes_may_be_0_and_255(tmp_path: Path, white: int, reference_white: int) -> None:
    binary = {name: (reference > 0).astype(np.uint8) for name, reference in REFERENCES.items()}
    data = write_data(tmp_path / "data", {name: each * np.uint8(reference_white) for name, each in binary.items()})
    masks = write_masks(tmp_path / "masks", {f"{name}.png": each * np.uint8(white) for name, each in binary.items()})
    result = evaluate(masks, data, "--metrics", "dice")
    assert result.exit_code == 0, result.output
    assert list(rows_of(masks).values()) == [1, 1]


def test_grey_masks_that_are_stored_in_three_channels_are_read_and_colours_are_refused(tmp_path: Path) -> None:
    binary = {name: (reference > 0).astype(np.uint8) for name, reference in REFERENCES.items()}
    data = write_data(tmp_path / "data", binary)
    grey = {f"{name}.png": np.stack([each * np.uint8(255)] * 3, axis=-1) for name, each in binary.items()}
    masks = write_masks(tmp_path / "masks", grey)
    assert evaluate(masks, data, "--metrics", "dice").exit_code == 0
    assert list(rows_of(masks).values()) == [1, 1]
    grey["a.png"][0, 1] = (255, 0, 0)
    write_masks(masks, grey)
    assert_refused(evaluate(masks, data), "the mask has colours")


def test_colours_of_the_references_are_read_and_others_named(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
    data = write_data(tmp_path / "data", {name: colours[labels] for name, labels in REFERENCES.items()})
    masks = write_masks(tmp_path / "masks", {"a.png": colours[A], "b.png": colours[B]})
    assert evaluate(masks, data, "--metrics", "dice").exit_code == 0
    assert set(rows_of(masks).values()) == {1}
    wrong = colours[A].copy()
    wrong[0, 0] = (0, 0, 255)
    write_masks(masks, {"a.png": wrong})
    assert_refused(evaluate(masks, data), "a.png of case a: the mask holds #0000ff (1 pixels); allowed are #000000")


def test_labels_of_one_class_each_in_a_channel_are_refused_where_classes_do_not_overlap(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"b.png": B})
    tifffile.imwrite(
        masks / "a.tif", np.stack([A == 1, A == 2]).astype(np.uint8), photometric="minisblack", metadata={"axes": "CYX"}
    )
    assert_refused(evaluate(masks, data), "a.tif of case a: the mask has 2 channels; write one with labels")


def test_the_page_cannot_be_a_folder_or_the_table(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b.png": B})
    for path, text in ((tmp_path, "is a folder"), (tmp_path / "r.csv", "would be replaced by the table of scores")):
        result = CliRunner().invoke(app, ["evaluate", str(masks), "--data", str(data), "-o", str(path)])
        assert result.exit_code == 2
        assert text in result.output


def test_segments_of_slicer_are_classes_by_their_names(tmp_path: Path) -> None:
    volume = np.zeros((3, 4, 5), np.uint8)
    volume[0, 1:3, 2:4], volume[2, 1:3, 2:4] = 1, 2
    data = write_data(tmp_path / "data", {"a": volume}, suffix=".nii.gz")
    config = write_config(tmp_path, data, dimensions=3)
    header = {
        "space": "right-anterior-superior",
        "space directions": np.diag([-1.0, -1.0, 1.0]),
        "space origin": np.zeros(3),
        **{"Segment0_Name": "cell", "Segment0_LabelValue": "1", "Segment0_Layer": "0"},
        **{"Segment1_Name": "nucleus", "Segment1_LabelValue": "2", "Segment1_Layer": "0"},
    }
    voxels = np.choose(volume, [0, 2, 1]).astype(np.uint8).transpose()[::-1, ::-1]
    (tmp_path / "masks").mkdir()
    nrrd.write(str(tmp_path / "masks/a.seg.nrrd"), voxels, header)
    result = evaluate(tmp_path / "masks", data, "--config", str(config), "--metrics", "dice")
    assert result.exit_code == 0, result.output
    assert set(rows_of(tmp_path / "masks").values()) == {1.0}


def test_cases_that_are_too_large_for_a_metric_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.scoring.case_scores.MOST_HELD_PX", 14)
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b.png": B})
    result = evaluate(masks, data, "--metrics", "dice,hd95")
    assert "since the image or a structure is too large, in 2 of 2 cases: a, b." in result.output
    assert rows_of(masks)["a", "dice", "class_1"] == 1


def test_a_jpeg_is_no_mask(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.jpg": A, "b.png": B})
    assert_refused(evaluate(masks, data), "a.jpg of case a: the mask is a JPEG")


def test_labels_without_a_class_are_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    masks = write_masks(tmp_path / "masks", {"a.png": A + np.uint8(3), "b.png": B})
    assert_refused(evaluate(masks, data), "the masks hold 0, 1, 2, 3, 4, 5", "allowed are 0 (background), 1 (class_1)")


def test_ignored_pixels_of_a_config_count_nowhere(tmp_path: Path) -> None:
    reference = A.copy()
    reference[0, 1:3] = 255
    data = write_data(tmp_path / "data", {"a": reference, "b": B})
    masks = write_masks(tmp_path / "masks", {"a.png": np.where(reference == 255, 2, A).astype(np.uint8), "b.png": B})
    assert_refused(evaluate(masks, data), "255 often is the label of unlabelled pixels", "--config")
    config = write_config(tmp_path, data)
    result = evaluate(masks, data, "--config", str(config), "--metrics", "dice,iou,hd95,nsd")
    assert result.exit_code == 0, result.output
    rows = rows_of(masks)
    assert rows["a", "dice", "nucleus"] == rows["a", "dice", "cell"] == 1
    assert rows["a", "hd95", "cell"] == 0


def test_the_default_split_is_test_and_masks_of_other_splits_are_left_out(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", columns={"a": {"split": "val", "group": "p1"}, "b": {"split": "test", "group": "p2"}})
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b.png": B})
    result = evaluate(masks, data)
    assert "no case" not in result.output
    assert {case for case, *_ in rows_of(masks)} == {"b"}
    assert evaluate(masks, data, "--split", "all").exit_code == 0
    assert {case for case, *_ in rows_of(masks)} == {"a", "b"}
    assert "p2" in (tmp_path / "r.csv").read_text()
    assert_refused(evaluate(masks, data, "--split", "train"), "no case has the split train")


def test_hostile_names_are_data(tmp_path: Path) -> None:
    name = "<script>alert('x')</script> [bold]&amp;"
    data = write_data(tmp_path / "data", {name: B, "=SUM(A1)": A})
    masks = write_masks(tmp_path / "masks[red]", {"0.png": B, "1.png": A, "[link].png": A})
    result = evaluate(masks, data, "--metrics", "dice")
    assert result.exit_code == 0, result.output
    assert "[link].png" in result.output
    assert {case for case, *_ in rows_of(masks)} == {name, "'=SUM(A1)"}  # no formula for a spreadsheet


def test_unknown_metrics_are_refused_with_the_list(tmp_path: Path) -> None:
    result = evaluate(tmp_path, write_data(tmp_path / "data"), "--metrics", "dice,dicee")
    assert result.exit_code == 2
    assert "dicee unknown; choose from dice, iou" in result.output


def test_labels_of_whole_images_are_scored_over_all_cases(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", columns={"a": {"label": "benign"}, "b": {"label": "malignant"}})
    masks = write_masks(tmp_path / "masks", {"a.png": A, "b.png": B})
    table = "image,label,probability benign,probability malignant\n0.png,benign,0.8,0.2\n1.png,benign,0.6,0.4\n"
    (masks / "labels.csv").write_text(table)
    result = evaluate(masks, data, "--metrics", "dice,label_accuracy,label_auc")
    assert result.exit_code == 0, result.output
    rows = rows_of(masks)
    assert rows["", "label_accuracy", ""] == 0.5
    assert rows["", "label_auc", ""] == 1
    (masks / "labels.csv").write_text(table.replace("benign,0.6", "bengin,0.6"))
    assert_refused(evaluate(masks, data), "label bengin; allowed are benign, malignant")
    (masks / "labels.csv").write_text(table.replace("0.4", "?"))
    assert_refused(evaluate(masks, data), "a probability is no number")
    (masks / "labels.csv").write_text(table[: table.index("1.png")])
    assert_refused(evaluate(masks, data), "no line for b")
    (masks / "labels.csv").write_text("file,class\n0.png,benign\n")
    assert_refused(evaluate(masks, data), "no columns image and label")
    (masks / "labels.csv").write_bytes(b"\xff\xfe\xff")
    assert_refused(evaluate(masks, data), "can't be read as CSV")
