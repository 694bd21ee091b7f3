"""`overtile evaluate` on data sets whose references number objects."""

import json
from pathlib import Path

import numpy as np
from mask_data import write_data, write_masks
from test_evaluate import assert_refused, evaluate, rows_of

# 24 objects of 2 x 2 pixels, a pixel apart, but for the first two, which touch
PLACES = [(3 * row, 3 * column) for row in range(4) for column in range(6)]
OBJECTS = np.zeros((12, 18), np.uint8)
for number, (row, column) in enumerate(PLACES, start=1):
    OBJECTS[row : row + 2, column : column + 2] = number
OBJECTS[:2, 2] = 1
RENUMBERED = np.where(OBJECTS > 0, 1000 - OBJECTS.astype(np.uint16), 0).astype(np.uint16)
MASK = (OBJECTS > 0).astype(np.uint8)


def feature(number: int) -> dict[str, object]:
    rows, columns = np.nonzero(number == OBJECTS)
    top, left, bottom, right = int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    properties = {"objectType": "detection", "classification": {"name": "object"}}
    return {"type": "Feature", "properties": properties, "geometry": {"type": "Polygon", "coordinates": [ring]}}


def test_numbers_are_recognised_and_need_not_be_the_references(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    masks = write_masks(tmp_path / "masks", {"a.tif": RENUMBERED})
    result = evaluate(masks, data)
    assert result.exit_code == 0, result.output
    assert "do not number" not in result.output
    rows = rows_of(masks)
    assert set(rows) == {("a", metric, "object") for metric in ("dice", "iou", "pq", "sq", "rq", "ap_dsb2018")}
    assert set(rows.values()) == {1.0}


def test_objects_of_masks_without_numbers_are_connected_parts(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    for white in (1, 255):
        masks = write_masks(tmp_path / "masks", {"a.png": MASK * np.uint8(white)})
        result = evaluate(masks, data, "--metrics", "dice,rq")
        assert "The masks do not number objects: the connected parts of each mask count as its objects." in result.output
        # the two that touch are one object of 10 pixels, which matches the first, of 6
        assert rows_of(masks) == {("a", "dice", "object"): 1, ("a", "rq", "object"): 2 * 23 / (23 + 24)}
        assert "connected_parts" in (tmp_path / "r.csv").read_text()


def test_numbered_files_are_preferred_to_masks_beside_them_and_outlines_come_last(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    masks = write_masks(tmp_path / "masks", {"a.png": MASK, "a_objects.tiff": RENUMBERED, "a_probabilities.tiff": MASK})
    (masks / "a_summary.json").write_text("{}")
    (masks / "a_objects.csv").write_text("id\n1\n")
    (masks / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature(1)]}))
    result = evaluate(masks, data, "--metrics", "rq")
    assert result.exit_code == 0, result.output
    assert "Files of no case" not in result.output
    assert rows_of(masks) == {("a", "rq", "object"): 1}


def test_outlines_number_objects(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    (tmp_path / "masks").mkdir()
    outlines = {"type": "FeatureCollection", "features": [feature(number) for number in range(1, 25)]}
    (tmp_path / "masks/a.geojson").write_text(json.dumps(outlines))
    result = evaluate(tmp_path / "masks", data, "--metrics", "dice,pq")
    assert result.exit_code == 0, result.output
    assert set(rows_of(tmp_path / "masks").values()) == {1.0}


def test_numbered_masks_of_two_classes_are_foreground(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": MASK})
    masks = write_masks(tmp_path / "masks", {"a_cp_masks.png": OBJECTS})
    result = evaluate(masks, data, "--metrics", "dice")
    assert "The masks number objects: any value above 0 is class_1." in result.output
    assert rows_of(masks) == {("a", "dice", "class_1"): 1}


def test_objects_of_classes_are_connected_parts_where_they_are_asked_for(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": MASK})
    masks = write_masks(tmp_path / "masks", {"a.png": MASK})
    result = evaluate(masks, data, "--metrics", "rq")
    assert result.exit_code == 0, result.output
    assert rows_of(masks) == {("a", "rq", "class_1"): 1}
    assert "connected_parts" in (tmp_path / "r.csv").read_text()


def test_negative_numbers_are_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    masks = write_masks(tmp_path / "masks", {"a.tif": RENUMBERED.astype(np.int32) * -1})
    assert_refused(evaluate(masks, data), "the masks hold -")


def test_what_masks_do_not_have_is_named(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", {"a": OBJECTS})
    masks = write_masks(tmp_path / "masks", {"a.tif": RENUMBERED})
    result = evaluate(masks, data, "--metrics", "dice,ece")
    assert "ECE is left out: masks hold no probabilities." in result.output
