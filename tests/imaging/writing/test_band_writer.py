"""What all formats promise: the mask comes back as it was and where it was, whole or not at all."""

import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from configs.sections import ClassSection
from imaging.errors import DataError, UnsuitableImage
from imaging.open import open_image
from imaging.source import Geometry
from imaging.writing.band_writer import open_probability_writer, open_writer
from imaging.writing.formats import is_folder, suffix_of
from tests.imaging.affines import affine_of

CLASSES = [ClassSection(name=f"class {label}", colour=f"#{label:02x}0000") for label in range(256)]
SUITING = {(3, 4): "png or tiff or ome-zarr or geojson", (2, 3, 4): "tiff or nifti or ome-zarr"}
FILES_2D = ["png", "tiff", "ome-zarr", "geojson"]


def written(path, mask, geometry, format, bands=1, classes=CLASSES):
    with open_writer(path, geometry, format=format, classes=classes) as writer:
        for rows in np.array_split(np.arange(len(mask)), bands):
            writer.write(int(rows[0]), mask[rows[0] : rows[-1] + 1])
    return path


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays(np.uint8, st.tuples(*[st.integers(1, 40)] * 2)),
    bands=st.integers(1, 3),
    format=st.sampled_from(["png", "tiff", "ome-zarr"]),
    spacing=st.one_of(st.none(), st.tuples(*[st.floats(0.01, 5000)] * 2)),
    origin=st.one_of(st.none(), st.tuples(*[st.floats(-1e4, 1e4)] * 2)),
)
def test_what_is_written_is_read_2d(folder, mask, bands, format, spacing, origin):
    spacing = None if format == "png" else spacing
    origin = origin if spacing and format == "ome-zarr" else None
    geometry = Geometry(mask.shape, spacing, origin_um=origin)
    path = written(folder / f"mask{suffix_of(format)}", mask, geometry, format, min(bands, len(mask)))
    with open_image(path, labels=True) as source:
        np.testing.assert_array_equal(source.read(tuple(slice(0, size) for size in mask.shape))[0], mask)
        assert source.geometry == geometry


@settings(max_examples=15, deadline=None)
@given(mask=arrays(np.uint8, st.tuples(*[st.integers(2, 9)] * 3)), origin=st.tuples(*[st.floats(-1e4, 1e4)] * 3))
def test_a_zarr_volume_is_read_where_it_was(folder, mask, origin):
    geometry = Geometry(mask.shape, (2000.0, 0.5, 0.25), origin_um=origin)
    path = written(folder / "mask.ome.zarr", mask, geometry, "ome-zarr", 2)
    with open_image(path, labels=True) as source:
        np.testing.assert_array_equal(source.read(tuple(slice(0, size) for size in mask.shape))[0], mask)
        assert source.geometry == geometry


@pytest.mark.parametrize("shape", SUITING)
@pytest.mark.parametrize("format", ["png", "tiff", "nifti", "ome-zarr", "geojson", "dicom-seg"])
def test_a_format_that_does_not_suit_names_those_that_do(tmp_path, format, shape):
    suiting = SUITING[shape]
    if format in suiting.split(" or "):
        written(tmp_path / "mask", np.zeros(shape, np.uint8), Geometry(shape), format)
        return
    words = rf"a mask of the size \({str(shape)[1:-1]}\) can't be written as {format}; choose {suiting}$"
    with pytest.raises(UnsuitableImage, match=words) as caught:
        open_writer(tmp_path / "mask", Geometry(shape), format=format, classes=CLASSES)
    assert caught.value.code == "format_not_suitable"


def test_a_line_suits_no_format(tmp_path):
    with pytest.raises(UnsuitableImage, match="choose a 2D or 3D image"):
        open_writer(tmp_path / "mask", Geometry((3,)), format="png", classes=CLASSES)


def test_a_slide_too_large_for_png_is_told_what_suits(tmp_path):
    with pytest.raises(UnsuitableImage, match="choose tiff or ome-zarr or geojson"):
        open_writer(tmp_path / "mask", Geometry((100000, 100000)), format="png", classes=CLASSES)


ROWS_THAT_DO_NOT_FOLLOW = [
    (1, np.zeros((1, 4), np.uint8), "rows from 1 came, but rows from 0 are next"),
    (0, np.zeros((1, 5), np.uint8), r"rows \(1, 5\) of uint8 came, but \(rows, 4\) of uint8 are allowed"),
    (0, np.zeros((1, 4), np.int64), r"rows \(1, 4\) of int64 came"),
    (0, np.zeros(4, np.uint8), r"rows \(4,\) of uint8 came"),
    (0, np.zeros((), np.uint8), r"rows \(\) of uint8 came"),
    (0, np.zeros((4, 4), np.uint8), "rows 0 to 4 came, but the image ends at 3"),
    (0, np.full((1, 4), 2, np.uint8), "label 2 came, but only labels 0 to 1 have a class"),
]


@pytest.mark.parametrize(("start", "rows", "words"), ROWS_THAT_DO_NOT_FOLLOW)
def test_rows_that_do_not_follow_are_a_mistake_and_leave_nothing(tmp_path, start, rows, words):
    with (
        pytest.raises(ValueError, match=words),
        open_writer(tmp_path / "mask.png", Geometry((3, 4)), format="png", classes=CLASSES[:2]) as writer,
    ):
        writer.write(start, rows)
    assert names(tmp_path) == []


PROBABILITIES_THAT_DO_NOT_FOLLOW = [
    (1, np.zeros((2, 1, 4), np.float32), "rows from 1 came, but rows from 0 are next"),
    (0, np.zeros((3, 1, 4), np.float32), r"rows \(3, 1, 4\) of float32 came, but \(2, rows, 4\) of float32 are allowed"),
    (0, np.zeros((2, 1, 5), np.float32), r"\(2, rows, 4\) of float32 are allowed"),
    (0, np.zeros((2, 1, 4), np.float64), "of float64 came"),
    (0, np.zeros((2, 4, 4), np.float32), "rows 0 to 4 came, but the image ends at 3"),
    (0, np.full((2, 1, 4), 1.5, np.float32), "probabilities from 1.5 to 1.5 came, but 0 to 1 are allowed"),
    (0, np.full((2, 1, 4), -0.5, np.float32), "probabilities from -0.5 to -0.5 came"),
    (0, np.full((2, 1, 4), np.nan, np.float32), "probabilities from nan to nan came"),
]


@pytest.mark.parametrize(("start", "rows", "words"), PROBABILITIES_THAT_DO_NOT_FOLLOW)
def test_probabilities_that_do_not_follow_are_a_mistake_and_leave_nothing(tmp_path, start, rows, words):
    kind = {"format": "tiff", "classes": CLASSES[:2], "dtype": "uint8"}
    with (
        pytest.raises(ValueError, match=words),
        open_probability_writer(tmp_path / "mask.tiff", Geometry((3, 4)), **kind) as writer,
    ):
        writer.write(start, rows)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "format", "dtype", "suiting"),
    [
        ((3, 4), "png", "uint8", "tiff or ome-zarr"),
        ((3, 4), "geojson", "uint8", "tiff or ome-zarr"),
        ((3, 4), "tiff", "float16", "ome-zarr"),
        ((2, 3, 4), "nifti", "float16", "ome-zarr"),
        ((3, 4), "nifti", "uint8", "tiff or ome-zarr"),
    ],
)
def test_probabilities_that_a_format_can_not_hold_are_told_what_suits(tmp_path, shape, format, dtype, suiting):
    words = rf"{dtype} probabilities of the size \({str(shape)[1:-1]}\) can't be written as {format}; choose {suiting}$"
    with pytest.raises(UnsuitableImage, match=words) as caught:
        open_probability_writer(tmp_path / "p", Geometry(shape), format=format, classes=CLASSES[:2], dtype=dtype)
    assert caught.value.code == "format_not_suitable"


@pytest.mark.parametrize("format", FILES_2D)
def test_leaving_early_is_a_mistake_and_leaves_nothing(tmp_path, format):
    with (
        pytest.raises(ValueError, match="closed after 2 of 3 rows; write all of them"),
        open_writer(tmp_path / "mask", Geometry((3, 4)), format=format, classes=CLASSES) as writer,
    ):
        writer.write(0, np.zeros((2, 4), np.uint8))
    assert names(tmp_path) == []


def test_an_exception_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "mask.tiff"
    path.write_text("old")
    with (  # noqa: PT012
        pytest.raises(RuntimeError, match="stop"),
        open_writer(path, Geometry((3, 4)), format="tiff", classes=CLASSES) as writer,
    ):
        writer.write(0, np.zeros((3, 4), np.uint8))
        assert names(tmp_path) == ["mask.tiff"]
        raise RuntimeError("stop")
    assert names(tmp_path) == ["mask.tiff"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("format", [*FILES_2D, "nifti"])
def test_a_failure_while_the_file_is_made_leaves_nothing(tmp_path, format):
    shape = (1, 1, 1) if format == "nifti" else (1, 1)
    broken = Geometry(shape, ("x",) * len(shape), np.zeros((4, 4)))
    classes = [ClassSection.model_construct(name=name, colour="nonsense") for name in "ab"]
    with (
        pytest.raises((ValueError, TypeError)),
        open_writer(tmp_path / f"mask{suffix_of(format)}", broken, format=format, classes=classes) as writer,
    ):
        writer.write(0, np.ones(shape, np.uint8))
    assert names(tmp_path) == []


@pytest.mark.parametrize("format", FILES_2D)
def test_what_is_there_is_replaced(tmp_path, format):
    path, geometry = tmp_path / f"mask{suffix_of(format)}", Geometry((3, 4))
    first, second = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    written(path, first, geometry, format)
    before = {entry: entry.read_bytes() for entry in [path, *path.rglob("*")] if entry.is_file()}
    written(path, second, geometry, format)
    after = {entry: entry.read_bytes() for entry in [path, *path.rglob("*")] if entry.is_file()}
    assert before != after
    assert names(tmp_path) == [path.name]


def test_a_zarr_replaces_a_file(tmp_path):
    path = tmp_path / "mask.ome.zarr"
    path.write_text("old")
    assert written(path, np.ones((3, 4), np.uint8), Geometry((3, 4)), "ome-zarr").is_dir()
    assert names(tmp_path) == ["mask.ome.zarr"]


@pytest.mark.parametrize("format", FILES_2D)
def test_a_folder_of_other_things_is_not_replaced(tmp_path, format):
    (tmp_path / "mask").mkdir()
    (tmp_path / "mask" / "thesis.tex").write_text("years")
    with pytest.raises(
        DataError, match="the path of an output is a folder that isn't an OME-Zarr; choose another name"
    ) as caught:
        open_writer(tmp_path / "mask", Geometry((3, 4)), format=format, classes=CLASSES)
    assert caught.value.code == "out_not_replaceable"
    assert names(tmp_path / "mask") == ["thesis.tex"]


@pytest.mark.parametrize("format", FILES_2D)
def test_a_mask_may_be_read_by_whom_the_user_lets_read_files(tmp_path, format):
    path = written(tmp_path / "mask", np.ones((3, 4), np.uint8), Geometry((3, 4)), format)
    (tmp_path / "other").touch()
    allowed = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {allowed}


@pytest.mark.parametrize("format", [*FILES_2D, "nifti"])
def test_equal_masks_make_equal_files(tmp_path, format):
    shape = (2, 3, 4) if format == "nifti" else (3, 4)
    geometry = Geometry(shape, (1.0,) * len(shape), affine_of((0, 1, 2), (1, 1, 1)), (1, 1))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / f"mask{suffix_of(format)}", np.ones(shape, np.uint8), geometry, format)
    first, second = ([e for e in sorted((tmp_path / name).rglob("*")) if e.is_file()] for name in ("first", "second"))
    assert [e.name for e in first] == [e.name for e in second] != []
    assert [e.read_bytes() for e in first] == [e.read_bytes() for e in second]


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from configs.sections import ClassSection
from imaging.source import Geometry
from imaging.writing.band_writer import open_writer

shape, rows = (8000, 8000), np.zeros((500, 8000), np.uint8)
rows[100, 7:] = rows[:, ::900] = 1
classes = [ClassSection(name="a", colour="#000000"), ClassSection(name="b", colour="#ffffff")]
for format in ("png", "tiff", "ome-zarr", "geojson"):
    with open_writer(Path(sys.argv[1]) / format, Geometry(shape, (0.5, 0.5)), format=format, classes=classes) as writer:
        for start in range(0, shape[0], 500):
            writer.write(start, rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 45 * 1024, (format, grown)
"""


def test_a_mask_is_made_in_less_memory_than_it_has_pixels(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], env=environment, check=True)


def test_suffixes_and_folders():
    formats = ("png", "tiff", "nifti", "ome-zarr", "geojson", "dicom-seg")
    assert [suffix_of(format) for format in formats] == [".png", ".tiff", ".nii.gz", ".ome.zarr", ".geojson", ".dcm"]
    assert [format for format in formats if is_folder(format)] == ["ome-zarr"]
