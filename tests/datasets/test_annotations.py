"""Annotations are labels: what was drawn comes out, region by region, and hostile files are refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.annotations import AnnotationSource, read_outlines
from datasets.cases import Case
from datasets.references import open_reference
from imaging.errors import DataError, ImageTooLarge, UnsuitableImage
from imaging.source import Geometry, Level

SQUARE = [[1, 0], [4, 0], [4, 2], [1, 2], [1, 0]]  # (x, y): columns 1 to 3, rows 0 and 1
HOLE = [[2, 0], [3, 0], [3, 1], [2, 1], [2, 0]]
CLASSES = ("background", "tumour", "stroma")


def feature(rings: object, name: str | None = "tumour", kind: str = "Polygon") -> dict[str, object]:
    properties = {"classification": {"name": name}} if name else {}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": rings}, "properties": properties}


def geojson(path: Path, *features: object) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def aperio(path: Path, *regions: str, name: str = 'Name="tumour"') -> Path:
    path.write_text(
        f'<?xml version="1.0"?><Annotations><Annotation {name}><Attributes><Attribute Name="stroma"/></Attributes>'
        f"<Regions>{''.join(regions)}</Regions></Annotation></Annotations>"
    )
    return path


def region(points: list[list[int]], more: str = "") -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return f"<Region {more}><Vertices>{vertices}</Vertices></Region>"


def drawn(path: Path, shape: tuple[int, int] = (3, 5), classes: tuple[str, ...] = CLASSES) -> list[list[int]]:
    with AnnotationSource(path, Geometry(shape), (Level(shape, None),), classes) as source:
        labels: list[list[int]] = source.read((slice(0, shape[0]), slice(0, shape[1])))[0].tolist()
        return labels


def test_qupath(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature([SQUARE, HOLE]), feature([[[0, 2], [2, 2], [2, 3], [0, 3]]], "stroma"))
    assert drawn(path) == [[0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [2, 2, 0, 0, 0]]


def test_qupath_as_a_list_with_several_parts_and_points(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    parts = [[SQUARE], [[[4, 2], [5, 2], [5, 3], [4, 3]]]]
    path.write_text("\ufeff" + json.dumps([feature(parts, kind="MultiPolygon"), feature([1, 1], kind="Point")]))
    assert drawn(path) == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_the_last_of_what_overlaps_counts(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature([SQUARE]), feature([HOLE], "stroma"))
    assert drawn(path)[0] == [0, 1, 2, 1, 0]


def test_qupath_counts_from_the_slide_s_origin(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature([HOLE]))
    geometry = Geometry((3, 5), origin_px=(2, 1))
    with AnnotationSource(path, geometry, (Level((3, 5), None),), CLASSES) as source:
        assert np.argwhere(source.read((slice(0, 3), slice(0, 5)))[0]).tolist() == [[2, 3]]


def test_aperio(tmp_path: Path) -> None:
    path = aperio(tmp_path / "a.xml", region(SQUARE), region(HOLE, 'NegativeROA="1"'), region(SQUARE[:2]))
    assert drawn(path) == [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert [outline.name for outline in read_outlines(aperio(path, region(SQUARE), name=""), (0, 0))] == ["stroma"]


def test_a_coarser_level(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature([[[0, 0], [4, 0], [4, 4], [0, 4]]]))
    with AnnotationSource(path, Geometry((8, 8)), (Level((8, 8), None), Level((4, 4), None)), CLASSES) as source:
        assert source.read((slice(0, 4), slice(0, 4)), 1)[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]


@given(st.data())
def test_a_region_is_a_part_of_the_whole(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    numbers = st.floats(-5, 25, width=32)
    triangles = data.draw(st.lists(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=3), max_size=6))
    names = [data.draw(st.sampled_from(CLASSES)) for _ in triangles]
    folder = tmp_path_factory.mktemp("regions")
    path = geojson(folder / "a.geojson", *(feature([ring], name) for ring, name in zip(triangles, names, strict=True)))
    first, last = sorted(data.draw(st.tuples(st.integers(0, 18), st.integers(2, 20)).filter(lambda ends: ends[0] != ends[1])))
    with AnnotationSource(path, Geometry((20, 20)), (Level((20, 20), None),), CLASSES) as source:
        whole = source.read((slice(0, 20), slice(0, 20)))
        part = source.read((slice(first, last), slice(0, 20)))
    np.testing.assert_array_equal(part, whole[:, first:last])


def test_many_outlines(tmp_path: Path) -> None:
    squares = [feature([[[x, y], [x + 2, y], [x + 2, y + 2], [x, y + 2]]]) for x in range(0, 400, 8) for y in range(0, 400, 8)]
    path = geojson(tmp_path / "a.geojson", *squares)
    with AnnotationSource(path, Geometry((400, 400)), (Level((400, 400), None),), CLASSES) as source:
        assert source.read((slice(0, 400), slice(0, 400))).sum() == 4 * len(squares)
        assert source.read((slice(200, 216), slice(96, 112))).sum() == 16


def test_a_case_s_reference(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 5), np.uint8)).save(tmp_path / "a.png")
    case = Case("a", (tmp_path / "a.png",), geojson(tmp_path / "a.geojson", feature([SQUARE])), classes=CLASSES)
    with open_reference(case) as reference:
        assert (reference.channels, reference.dtype, reference.mask_format) == (1, np.uint8, "tiff")
        assert reference.held_bytes == 5 * 2 * 8
        assert next(reference.blocks()).sum() == 6


def test_unknown_names_are_all_reported(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson", feature([SQUARE], "fat"), feature([SQUARE], "Region*"), feature([SQUARE], "fat"))
    with pytest.raises(UnsuitableImage) as caught:
        drawn(path)
    assert caught.value.code == "annotation_classes_unknown"
    assert caught.value.message == (
        "reference has outlines of 'Region*' (1 outlines), 'fat' (2 outlines); "
        "allowed are 'background', 'tumour', 'stroma': rename them, or add them to data.classes"
    )
    many = geojson(tmp_path / "b.geojson", *(feature([SQUARE], f"class {number}") for number in range(11)))
    with pytest.raises(UnsuitableImage, match=r"'class 6' \(1 outlines\) and 3 more; allowed"):
        drawn(many)


def test_annotations_of_a_volume(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson")
    with pytest.raises(UnsuitableImage, match="annotations lie on slides; give a volume a reference of voxels"):
        AnnotationSource(path, Geometry((2, 3, 4)), (), CLASSES)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"features": 7}',
        '[{"geometry": 7}]',
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]}',
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0], [1], [2]]]}}]}',
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, NaN]]]}}]}',
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 1e300]]]}}]}',
        '{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, "one"], [2, 2]]]}}]}',
        "[" * 100_000,
        "<Annotations>",
        '<Annotations><Annotation><Regions><Region><Vertex X="a" Y="1"/></Region></Regions></Annotation></Annotations>',
        '<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>',
        '<!doctype a SYSTEM "file:///etc/passwd"><Annotations/>',
    ],
)
def test_broken_annotations(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError) as caught:
        drawn(tmp_path / "a.txt")
    assert caught.value.code == "annotations_broken"
    assert caught.value.message == (
        "the annotations are neither GeoJSON features, nor LabelMe's or COCO's JSON, nor Aperio's XML; export them again"
    )


def test_declarations_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes('<!DOCTYPE a [<!ENTITY b "c">]><Annotations/>'.encode("utf-16"))
    with pytest.raises(DataError, match="neither GeoJSON features, nor LabelMe's or COCO's JSON, nor Aperio's XML"):
        drawn(tmp_path / "a.xml")


def test_annotations_of_any_size(tmp_path: Path) -> None:
    path = geojson(tmp_path / "a.geojson")
    os.truncate(path, 2**29 + 1)
    with pytest.raises(ImageTooLarge, match=f"the annotations have {2**29 + 1} bytes, at most {2**29} are read; export them"):
        drawn(path)


def test_more_classes_than_there_are_labels(tmp_path: Path) -> None:
    classes = tuple(f"class {number}" for number in range(257))
    path = geojson(tmp_path / "a.geojson", feature([SQUARE], "class 255"), feature([SQUARE], "class 256"))
    with pytest.raises(UnsuitableImage, match=r"outlines of 'class 256' \(1 outlines\); allowed"):
        drawn(path, classes=classes)
