"""Declarations of data sets: classes with their values, ignored pixels and channels, in each layout and in references."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from configs import schema
from configs.schema import ConfigError
from datasets.case_checks import Examination, examine_cases, examine_dataset
from datasets.cases import read_cases
from datasets.labels.kinds import label_kind
from datasets.references import open_reference
from imaging.errors import DataError
from tests.datasets.declared_samples import SIZE, bids, coloured, decathlon, labels, nnunet, pairs, picture, slicer, slides


def examined(folder: Path, *overrides: str) -> Examination:
    """Examine a data set; with overrides of a config, as training does."""
    data = schema.load(Path("configs/histology_unet.yaml"), [f"data.path={folder}", *overrides]).data if overrides else None
    return examine_dataset(examine_cases(read_cases(folder, data)), {})


def codes(examination: Examination) -> list[str]:
    unimportant = {"spacing_missing", "groups_missing", "image_twice"}
    return [problem.code for problem in examination.problems if problem.code not in unimportant]


def read(folder: Path) -> NDArray[Any]:
    with open_reference(read_cases(folder)[0]) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))


def test_an_ignored_label_and_a_gap(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "blob": 1, "rim": 3, "ignore": 4}}, 0, 1, 3, 4)
    case = read_cases(folder)[0]
    assert (case.classes, case.ignore_label) == (("background", "blob", "rim"), 255)
    assert read(folder)[0, 0, ::6].tolist() == [0, 1, 2, 255]
    examination = examined(folder)
    assert examination.reports[0].label_counts == {0: 144, 1: 144, 2: 144}
    (gap,) = [problem for problem in examination.problems if problem.code == "labels_not_contiguous"]
    assert gap.value == "dataset.json declares the labels 0 (background), 1 (blob), 3 (rim)"
    assert codes(examination) == ["labels_not_contiguous"]


def test_plain_labels_with_an_ignored_one_above_them(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "blob": 1, "ignore": 2}}, 0, 1, 2)
    case = read_cases(folder)[0]
    assert (case.classes, case.class_values, case.ignore_label) == (("background", "blob"), None, 2)
    assert codes(examined(folder)) == []


def test_regions_are_channels(tmp_path: Path) -> None:
    regions = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    folder = nnunet(tmp_path, {"labels": regions, "regions_class_order": [1, 2]}, 0, 1, 2, 3)
    assert read(folder)[:, 0, ::6].tolist() == [[0, 1, 1, 255], [0, 0, 1, 255]]
    assert examined(folder).reports[0].label_counts == {0: 144, 1: 288, 2: 144}


def test_lists_without_a_common_label_are_classes(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "left": [1, 3], "right": [2]}}, 0, 1, 2, 3)
    assert read(folder)[0, 0, ::6].tolist() == [0, 1, 2, 1]


def test_a_value_that_is_not_declared_has_its_count(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "blob": 1, "rim": 3}}, 0, 1, 3, 9)
    problem = examined(folder).errors[0]
    assert (problem.case, problem.code, problem.value) == ("c0", "labels_unknown", "reference holds 9 (144 pixels)")
    assert problem.remedy == "allowed are 0 (background), 1 (blob), 3 (rim)"


def test_channels_that_are_not_declared(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "a": 1}, "channel_names": {"0": "T1", "1": "T2"}}, 0, 1)
    problem = examined(folder).errors[0]
    assert (problem.case, problem.code) == ("c0", "declaration_differs")
    assert problem.value == "dataset.json declares 2 channels (T1, T2), the image has 1"


def test_another_number_of_cases_than_declared(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "a": 1}, "numTraining": 9}, 0, 1)
    (problem,) = [problem for problem in examined(folder).notes if problem.code == "declaration_differs"]
    assert problem.value == "dataset.json declares 9 training cases, and 5 have a reference"


def test_a_config_that_reads_labels_otherwise(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "blob": 1, "ignore": 2}}, 0, 1, 2)
    classes = "data.classes=[{name: a, colour: '#000000'}, {name: b, colour: '#000000'}, {name: c, colour: '#000000'}]"
    (problem,) = [each for each in examined(folder, classes).notes if each.code == "declaration_differs"]
    assert problem.value == "dataset.json declares the labels 0, 1, and ignores 2, the config has 0, 1, 2"


def test_files_with_another_ending_than_declared(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, {"labels": {"background": 0, "a": 1}}, 0, 1)
    (folder / "imagesTr/c0_0000.json").write_text("{}")
    (folder / "imagesTr/README.txt").write_text("x")
    assert len(read_cases(folder)) == 5
    nnunet(tmp_path / "other", {"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}, 0, 1, ending=".png")
    with pytest.raises(DataError, match=r"file_ending is '\.nii\.gz', but no file of imagesTr/ ends so, such as c0_0000\.png"):
        read_cases(tmp_path / "other")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"labels": {"background": 0, "a": "x"}}, r"the label of 'a' is 'x'; give a whole number from 0 on, or a list"),
        ({"labels": {"background": 0, "a": [1, 1.5]}}, r"the label of 'a' is \[1, 1\.5\]"),
        ({"labels": 7}, "the labels are 7"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "two classes have one label"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "the class 'a' comes twice"),
        ({"labels": {"background": 0, "ignore": [2, 3]}}, r"the label 'ignore' is \[2, 3\]; give it one label"),
        ({"channel_names": {"0": "CT", "2": "PET"}}, "the channels are"),
    ],
)
def test_declarations_that_contradict_themselves(tmp_path: Path, description: dict[str, Any], message: str) -> None:
    nnunet(tmp_path, description, 0, 1)
    with pytest.raises(DataError, match=message):
        read_cases(tmp_path)


def test_modalities_and_labels_of_decathlon(tmp_path: Path) -> None:
    case = read_cases(decathlon(tmp_path))[0]
    assert case.classes == ("background", "liver")
    assert case.declaration is not None
    assert case.declaration.channels == ("CT",)
    assert examined(tmp_path).reports[0].label_counts == {0: 1024, 1: 1024}


def test_channels_and_labels_of_bids(tmp_path: Path) -> None:
    table = "index\tname\tcolor\n17\tleft\t#ff0000\n18\tamygdala\tn/a\n53\tright\tn/a\n"
    case = read_cases(bids(tmp_path, table=table))[0]
    assert case.classes == ("background", "left", "amygdala", "right")
    assert case.channels == ("FLAIR", "T1w")
    examination = examined(tmp_path)
    assert examination.reports[0].label_counts == {0: 256, 1: 128, 3: 128}
    assert codes(examination) == ["labels_not_contiguous"]  # the amygdala is in the table, and needs to be in no reference


def test_a_sidecar_that_names_ct(tmp_path: Path) -> None:
    bids(tmp_path, ("acq-low",))
    (tmp_path / "sub-01/anat/sub-01_acq-low.json").write_text('{"Modality": "CT"}')
    assert [case.channels for case in read_cases(tmp_path)] == [("CT",), ("acq-low",)]
    problem = examined(tmp_path).errors[0]
    assert (problem.code, problem.value) == (
        "declaration_differs",
        "most cases have the channels CT, except for sub-02 (acq-low)",
    )


def test_tables_that_disagree(tmp_path: Path) -> None:
    bids(tmp_path, table="index\tname\n17\tleft\n")
    (tmp_path / "derivatives/hand/sub-02/anat/sub-02_dseg.tsv").write_text("index\tname\n17\tright\n")
    with pytest.raises(DataError, match="label 17 is 'right', and 'left' elsewhere"):
        read_cases(tmp_path)
    (tmp_path / "derivatives/hand/sub-02/anat/sub-02_dseg.tsv").write_text("label\n17\n")
    with pytest.raises(DataError, match="isn't a table with the columns index and name"):
        read_cases(tmp_path)


def test_zero_and_255_by_value(tmp_path: Path) -> None:
    classes = "data.classes=[{name: a, colour: '#000000', value: 0}, {name: b, colour: '#000000', value: 255}]"
    examination = examined(pairs(tmp_path, *[labels(0, 255)] * 5), classes)
    assert codes(examination) == []
    assert examination.reports[0].label_counts == {0: 288, 1: 288}
    Image.fromarray(labels(0, 255, 7)).save(tmp_path / "labels/0.png")
    problem = examined(tmp_path, classes).errors[0]
    assert (problem.case, problem.code, problem.value) == ("0", "labels_unknown", "reference holds 7 (192 pixels)")


@pytest.mark.parametrize("palette", [False, True])
def test_colours_by_value(tmp_path: Path, palette: bool) -> None:
    """A palette is read by its colours only where classes have colours; their order differs from that of the indices."""
    pairs(tmp_path, *[labels(0)] * 5)
    for number in range(5):
        reference = coloured((255, 0, 0), (0, 0, 0), (0, 0, 255), palette=palette)
        (reference if palette else Image.fromarray(reference)).save(tmp_path / f"labels/{number}.png")
    entries = [f"{{name: c{index}, colour: '#000000', value: '{value}'}}" for index, value in enumerate(("#000000", "#0000FF"))]
    classes = f"data.classes=[{', '.join(entries)}]"
    examination = examined(tmp_path, classes, "data.ignore_label='#ff0000'")
    assert codes(examination) == []
    assert examination.reports[0].label_counts == {0: 192, 1: 192}
    problem = examined(tmp_path, classes).errors[0]
    assert (problem.code, problem.value) == ("labels_unknown", "reference holds #ff0000 (192 pixels)")
    assert problem.remedy == "allowed are #000000 (c0), #0000ff (c1)"


def test_colours_that_nobody_declared(tmp_path: Path) -> None:
    pairs(tmp_path, *[coloured((0, 0, 0), (255, 0, 0), (0, 255, 0))] * 5)
    examination = examined(tmp_path)
    (problem,) = [problem for problem in examination.problems if problem.code == "reference_colours"]
    assert problem.value == "the references hold colours: #000000 (background), #00ff00 (class_1), #ff0000 (class_2)"
    assert examination.errors == ()
    assert examination.reports[0].label_counts == {0: 192, 1: 192, 2: 192}


def test_colours_without_black_have_the_most_frequent_as_background(tmp_path: Path) -> None:
    pairs(tmp_path, *[coloured((255, 255, 255), (255, 255, 255), (255, 0, 0))] * 5)
    assert read(tmp_path)[0, 0, ::8].tolist() == [0, 0, 1]


def test_too_many_colours(tmp_path: Path) -> None:
    pairs(tmp_path, *[picture(number) for number in range(5)])
    problem = examined(tmp_path).errors[0]
    assert (problem.code, problem.value) == ("reference_channels", "reference has 3 channels, allowed is 1")
    assert problem.remedy == "save labels, or give each class its colour as value in data.classes"


@pytest.mark.parametrize(
    ("classes", "overrides", "message"),
    [
        (("value: 0", "value: '#ff0000'"), (), "some classes have a colour as value and others a label"),
        (("", "value: 0"), (), "value 0 belongs to c0 and to c1; give it to one class, or set head.kind to multi_label"),
        (("value: 0", "value: [3, 4]"), ("data.ignore_label=4",), "data.ignore_label: 4 is the label of c1"),
        (("value: 0", "value: 3"), ("data.ignore_label='#ff0000'",), "#ff0000 is a colour, and the classes have labels"),
        (("value: 0", "value: 3"), ("data.instances=true",), "value is the label of a class, but data.instances is true"),
        (("value: 0", "value: red"), (), "data.classes"),
        (("value: 0", "value: []"), (), "data.classes"),
    ],
)
def test_values_that_are_refused(classes: tuple[str, ...], overrides: tuple[str, ...], message: str) -> None:
    entries = ", ".join(f"{{name: c{index}, colour: '#000000'{value and ', '}{value}}}" for index, value in enumerate(classes))
    with pytest.raises(ConfigError, match=message):
        schema.load(Path("configs/histology_unet.yaml"), [f"data.classes=[{entries}]", *overrides])


@pytest.mark.parametrize("layers", [1, 2])
def test_segments_of_slicer(tmp_path: Path, layers: int) -> None:
    """The label of a segment differs from file to file; its name counts. Segments in two layers may overlap."""
    slicer(tmp_path, layers)
    cases = read_cases(tmp_path)
    assert set(cases[0].classes) == {"background", "liver", "tumour"}
    examination = examined(tmp_path)
    assert examination.errors == ()
    by_name = [{case.classes[label]: count for label, count in (report.label_counts or {}).items()}
               for case, report in zip(cases, examination.reports, strict=True)]  # fmt: skip
    tumour = 768 if layers == 2 else 512
    assert by_name == [{"background": 1024, "liver": 512, "tumour": tumour}] * 5
    data = schema.load(Path("configs/mri_unet.yaml"), [f"data.path={tmp_path}"]).data
    problem = examine_dataset(examine_cases(read_cases(tmp_path, data)), {}).errors[0]
    assert (problem.code, problem.value) == ("annotation_classes_unknown", "reference has segments 'liver', 'tumour'")


def test_what_qupath_ignores(tmp_path: Path) -> None:
    case = read_cases(slides(tmp_path, "Tumor", "Ignore*"))[0]
    assert (case.classes, case.ignore_label) == (("background", "Tumor"), 255)
    assert examined(tmp_path).reports[0].label_counts == {0: SIZE * SIZE - 72, 1: 36}
    classes = "data.classes=[{name: background, colour: '#ffffff'}, {name: Tumor, colour: '#ff0000'}]"
    problem = examined(tmp_path, classes).errors[0]
    assert problem.code == "annotation_classes_unknown"
    assert problem.remedy.endswith("or add them to data.classes, and set data.ignore_label for Ignore*")
    assert examined(tmp_path, classes, "data.ignore_label=200").errors == ()


def test_outlines_without_a_class(tmp_path: Path) -> None:
    problem = examined(slides(tmp_path, "Tumor", None)).errors[0]
    assert (problem.case, problem.code, problem.value) == ("0", "outlines_unclassified", "1 of 2 outlines have no class")
    assert "overtile plan --classes background,..,unclassified" in problem.remedy


def test_the_number_of_an_object_is_never_the_ignored_label(tmp_path: Path) -> None:
    slides(tmp_path, "Tumor", "Tumor")
    overrides = (
        "data.instances=true",
        "data.ignore_label=2",
        "data.classes=[{name: b, colour: '#ffffff'}, {name: Tumor, colour: '#ff0000'}]",
    )
    data = schema.load(Path("configs/histology_unet.yaml"), [f"data.path={tmp_path}", *overrides]).data
    with open_reference(read_cases(tmp_path, data)[0], numbered=True) as source:
        assert np.unique(source.read((slice(0, SIZE), slice(0, SIZE)))).tolist() == [0, 1, 3]


def test_collections_and_features_without_geometry(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "a/0.png")
    ring = [[2, 2], [8, 2], [8, 8], [2, 8], [2, 2]]
    other = [[[x + 10, y] for x, y in ring]]
    inner = {"type": "GeometryCollection", "geometries": [{"type": "MultiPolygon", "coordinates": [other]}]}
    parts = [{"type": "Polygon", "coordinates": [ring]}, {"type": "Point", "coordinates": [1, 1]}, inner]
    properties = {"classification": {"names": ["Tumor", "Positive"]}}
    features = [
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": parts}, "properties": properties},
        {"type": "Feature", "geometry": None, "properties": properties},
    ]
    (tmp_path / "a/0.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    case = read_cases(tmp_path / "a")[0]
    assert case.classes == ("background", "Tumor: Positive")
    with open_reference(case) as source:
        assert source.read((slice(0, SIZE), slice(0, SIZE))).sum() == 72


@pytest.mark.parametrize(
    ("cases", "is_objects"),
    [
        ([range(31), range(79), range(12), range(19)], True),  # few in the median case, but 78 over all
        ([range(79)], True),
        ([range(101), range(105), range(99)], True),  # without gaps, and another number in each
        ([[0, *range(2, 90, 2)], [0, *range(2, 90, 2)], [0, *range(2, 88, 2)]], False),  # FreeSurfer's have gaps
        ([range(30)] * 4, False),
        ([range(4), range(3), range(5)], False),
        ([range(4), range(13), range(8)], True),  # few objects
        ([range(4), [0, 2, 12], range(8)], False),
    ],
)
def test_labels_that_number_objects(cases: list[range], is_objects: bool) -> None:
    assert label_kind(cases).number_objects == is_objects


def test_255_beside_classes_is_asked_about(tmp_path: Path) -> None:
    examination = examined(pairs(tmp_path, *[labels(0, 1, 2, 255)] * 5))
    problem = examination.errors[0]
    assert (problem.code, problem.value) == (
        "ignore_label_unclear",
        "references hold 0, 1, 2, 255, and 255 often is the label of unlabelled pixels",
    )
    assert problem.remedy == "if it is, plan with --ignore 255; if it is a class, name all 4 with --classes"
    assert "ignore_label_unclear" not in codes(examined(pairs(tmp_path / "evenly", *[labels(0, 128, 255)] * 5)))
