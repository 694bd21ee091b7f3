"""Outlines of LabelMe and COCO, and XML of other programs: drawn as labels, or refused with a word."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from datasets.cases import read_cases
from datasets.references import open_reference
from overtile import app

SHAPE = (40, 50)
SQUARE = [[4, 6], [14, 6], [14, 16], [4, 16]]  # x, y: columns 4 to 14, rows 6 to 16
OTHER = [[20, 20], [30, 20], [30, 35], [20, 35]]


def inspect(folder: Path) -> Result:
    return CliRunner().invoke(app, ["inspect", str(folder)])


def words_of(result: Result) -> str:
    return re.sub(r"\s+", " ", result.stderr)


def write_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(ord(Path(name).stem[-1])).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def labelme(*shapes: Mapping[str, Any], size: tuple[int, int] = SHAPE) -> dict[str, Any]:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imageHeight": size[0],
        "imageWidth": size[1],
        "imageData": "aGk=",
    }


def shape(label: str, points: Sequence[Sequence[float]], kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}


def coco(images: Sequence[str], segmentation: object = None, size: tuple[int, int] = SHAPE) -> dict[str, Any]:
    flat = [[value for point in ring for value in point] for ring in (SQUARE, OTHER)]
    annotations = [
        {
            "id": 10 * number + part,
            "image_id": number,
            "category_id": 3 + 4 * part,
            "iscrowd": 0,
            "segmentation": segmentation or [ring],
        }
        for number in range(len(images))
        for part, ring in enumerate(flat)
    ]
    return {
        "images": [
            {"id": number, "file_name": name, "height": size[0], "width": size[1]} for number, name in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "nucleus"}, {"id": 7, "name": "gland"}],
    }


def labels_of(folder: Path, number: int = 0) -> np.ndarray[Any, Any]:
    with open_reference(read_cases(folder)[number]) as reference:
        return reference.read(tuple(slice(0, size) for size in reference.shape))[0]


def drawn() -> np.ndarray[Any, Any]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:16, 4:14] = 2  # nucleus, after gland in the alphabet
    labels[20:35, 20:30] = 1
    return labels


@pytest.mark.parametrize(("image", "file"), [("a{}.png", "a{}.json"), ("images/a{}.png", "annotations/a{}.json")])
def test_labelme(tmp_path: Path, image: str, file: str) -> None:
    write_images(tmp_path, *(image.format(number) for number in range(3)))
    for number in range(3):
        shapes = [
            shape("nucleus", SQUARE),
            shape("gland", [OTHER[0], OTHER[2]], "rectangle"),
            shape("axis", [[1, 1], [9, 9]], "line"),
        ]
        write_json(tmp_path / file.format(number), labelme(*shapes))
    np.testing.assert_array_equal(labels_of(tmp_path), drawn())
    result = inspect(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert re.search("Class gland label 1, .* in 3 of 3 references Class nucleus label 2, .* in 3 of 3", words_of(result))


def test_a_circle_of_labelme(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "a.json", labelme(shape("cell", [[25, 20], [25, 30]], "circle")))
    assert labels_of(tmp_path).sum() == pytest.approx(np.pi * 100, rel=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme(shape("a", [[1, 1], [5, 5]], "mask")), "the LabelMe file has a shape of type 'mask'; polygons, rectangles"),
        (
            labelme(shape("a", SQUARE), size=(80, 100)),
            "the annotations were drawn on an image of 80 x 100 pixels, and this one has 40 x 50",
        ),
    ],
)
def test_labelme_that_is_refused(tmp_path: Path, content: object, message: str) -> None:
    write_images(tmp_path, "a.png")
    write_json(tmp_path / "a.json", content)
    result = inspect(tmp_path)
    assert result.exit_code == 3
    assert message in words_of(result)


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        pytest.param(
            {"annotations/instances_default.json": ["images/a.png", "images/b.png"]}, [None, None], id="CVAT's export"
        ),
        pytest.param(
            {
                "annotations/instances_train2017.json": ["train2017/a.png"],
                "annotations/instances_val2017.json": ["val2017/b.png"],
            },
            ["train", "val"],
            id="COCO's own",
        ),
        pytest.param(
            {"train/_annotations.coco.json": ["train/a.png"], "valid/_annotations.coco.json": ["valid/b.png"]},
            ["train", "val"],
            id="Roboflow's export",
        ),
        pytest.param({"result.json": ["images/a.png", "images/b.png"]}, [None, None], id="Label Studio's export"),
    ],
)
def test_coco(tmp_path: Path, files: Mapping[str, Sequence[str]], splits: Sequence[str | None]) -> None:
    for name, images in files.items():
        write_images(tmp_path, *images)
        write_json(tmp_path / name, coco([Path(image).name for image in images]))
    write_json(tmp_path / "annotations/captions_train2017.json", {"images": [], "annotations": [], "info": {}})
    assert [(case.name, case.split) for case in read_cases(tmp_path)] == list(zip("ab", splits, strict=True))
    np.testing.assert_array_equal(labels_of(tmp_path, 1), drawn())
    result = inspect(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert re.search("Class gland label 1, .* in 2 of 2 references Class nucleus label 2, .* in 2 of 2", words_of(result))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            coco(["a.png", "b.png"], {"counts": [9, 4], "size": [40, 50]}),
            "an object as run-length encoding (RLE), and only polygons are read",
        ),
        (
            coco(["a.png", "b.png"], {"counts": "PPYo0", "size": [40, 50]}),
            "convert it to polygons, or save each image's objects as a label image",
        ),
        (coco(["a.png", "b.png"], size=(10, 10)), "drawn on an image of 10 x 10 pixels, and this one has 40 x 50"),
        (coco(["a.png", "b.png", "c.png"]), "1 images that the COCO file lists are missing: c.png; put them into images/"),
    ],
)
def test_coco_that_is_refused(tmp_path: Path, content: object, message: str) -> None:
    write_images(tmp_path, "images/a.png", "images/b.png")
    write_json(tmp_path / "coco.json", content)
    result = inspect(tmp_path)
    assert result.exit_code == 3
    assert message in words_of(result)


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("<ASAP_Annotations><Annotations><Annotation Name='a'/></Annotations></ASAP_Annotations>", "ASAP"),
        ("<annotation><object><name>a</name></object></annotation>", "Pascal VOC"),
        ("<annotations><image id='0'/></annotations>", "CVAT"),
        ("<Annotations><Annotation><Page Index='1'/></Annotation></Annotations>", "another program ('Annotations')"),
        ("<PageAnnotations><Page/></PageAnnotations>", "another program ('PageAnnotations')"),
    ],
)
def test_xml_of_another_program(tmp_path: Path, text: str, program: str) -> None:
    write_images(tmp_path, "a.png", "b.png")
    for name in "ab":
        (tmp_path / f"{name}.xml").write_text(text)
    result = inspect(tmp_path)
    assert result.exit_code == 3
    assert f"the XML is of {program}, and only ImageScope's is read; convert it to GeoJSON" in words_of(result)
    assert "[annotations_not_supported]" in words_of(result)


def test_imagescope_without_regions_is_empty(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png")
    (tmp_path / "a.xml").write_text("<Annotations><Annotation Name='tumour'><Regions/></Annotation></Annotations>")
    assert not labels_of(tmp_path).any()
