import nibabel as nib
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from imaging.errors import UnsuitableImage
from imaging.open import open_image
from imaging.source import Geometry
from imaging.volumes import VolumeSource
from imaging.writers import open_writer, suffix_of
from tests.imaging.affines import ORIENTATIONS, affine_of, rotation

COLOURS = ("#000000", "#ff0000", "#00ff00")
LABELS = np.random.default_rng(0).integers(0, 3, (1300, 2100)).astype(np.uint8)


def written(path, mask, geometry, format, bands=1):
    with open_writer(path, geometry, format=format, colours=COLOURS) as writer:
        for rows in np.array_split(np.arange(len(mask)), bands):
            writer.write(int(rows[0]), mask[rows[0] : rows[-1] + 1])
    return path


def read_all(path):
    with open_image(path, labels=True) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))[0], source.geometry


@given(
    mask=arrays(np.uint8, st.tuples(*[st.integers(1, 40)] * 2)),
    bands=st.integers(1, 3),
    format=st.sampled_from(["png", "tiff"]),
)
def test_what_is_written_is_read_2d(folder, mask, bands, format):
    spacing = (0.25, 0.5) if format == "tiff" else None
    geometry = Geometry(mask.shape, spacing)
    path = written(folder / "mask", mask, geometry, format, min(bands, len(mask)))
    found, lies = read_all(path)
    np.testing.assert_array_equal(found, mask)
    assert lies.shape == geometry.shape
    assert lies.spacing_um == (spacing and pytest.approx(spacing))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


@settings(max_examples=30)
@given(
    mask=arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3)),
    turn=st.sampled_from(ORIENTATIONS),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    codes=st.sampled_from([(1, 0), (2, 1), (4, 4), (0, 1), (0, 0)]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_what_is_written_is_read_3d_as_its_image_lies(folder, mask, turn, angles, codes, suffix):
    affine = affine_of(*turn)
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    image.header.set_qform(affine, codes[1])
    image.header.set_sform(affine, codes[0])
    with (folder / "image.nii").open("wb") as file:
        image.to_stream(file)
    with VolumeSource(folder / "image.nii") as source:
        geometry = Geometry(mask.shape, source.spacing_um, source.geometry.affine, codes)
    found, lies = read_all(written(folder / f"mask{suffix}", mask, geometry, "nifti"))
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_allclose(lies.affine[:3, :3], geometry.affine[:3, :3], atol=1e-5)
    if any(codes):
        np.testing.assert_allclose(lies.affine, geometry.affine, atol=1e-4)
        assert lies.affine_codes == codes


def test_an_image_without_codes_gets_a_mask_without_codes(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    image.header.set_zooms((1, 2, 3))
    image.to_filename(tmp_path / "image.nii")
    with open_image(tmp_path / "image.nii") as source:
        geometry = source.geometry
    _, lies = read_all(written(tmp_path / "mask.nii.gz", np.zeros(geometry.shape, np.uint8), geometry, "nifti"))
    assert lies == geometry
    np.testing.assert_array_equal(lies.affine, geometry.affine)
    assert lies.affine_codes == (0, 0)


def test_a_volume_of_spacing_only_lies_along_the_patients_axes(tmp_path):
    geometry = Geometry((2, 3, 4), (3000.0, 2000.0, 1000.0))
    path = written(tmp_path / "mask.nii.gz", np.arange(24, dtype=np.uint8).reshape(2, 3, 4), geometry, "nifti")
    found, lies = read_all(path)
    assert lies.spacing_um == geometry.spacing_um
    np.testing.assert_array_equal(lies.affine, np.diag([1, 2, 3, 1]))
    np.testing.assert_array_equal(found, np.arange(24).reshape(2, 3, 4))


def test_a_nifti_is_equal_byte_for_byte_each_time_and_holds_nothing_of_the_image(tmp_path):
    geometry = Geometry((2, 3, 4), None, affine_of((0, 1, 2), (1, 1, 1)), (1, 1))
    mask = np.ones((2, 3, 4), np.uint8)
    one, other = (written(tmp_path / name, mask, geometry, "nifti").read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert one == other
    header = nib.load(tmp_path / "a.nii.gz").header
    assert header["descrip"] == header["aux_file"] == header["db_name"] == b""
    assert len(header.extensions) == 0
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == np.uint8


def test_a_png_shows_colours_and_holds_labels(tmp_path):
    path = written(tmp_path / "mask.png", np.array([[0, 1, 2, 7]], np.uint8), Geometry((1, 4)), "png")
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[0, 1, 2, 7]]
        assert np.asarray(image.convert("RGB")).tolist() == [[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0]]]


def test_a_tiffs_pyramid_opens_in_openslide_and_tifffile(tmp_path):
    path = written(tmp_path / "mask.tiff", LABELS, Geometry(LABELS.shape, (0.5, 0.25)), "tiff", bands=7)
    expected = [LABELS, LABELS[::2, ::2], LABELS[::4, ::4]]
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series) == 1
        assert [level.shape for level in tiff.series[0].levels] == [level.shape for level in expected]
        assert tiff.pages[0].tile == (512, 512)
        for level, labels in zip(tiff.series[0].levels, expected, strict=True):
            np.testing.assert_array_equal(level.asarray(), labels)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple(level.shape[::-1] for level in expected)
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        assert float(slide.properties["openslide.mpp-y"]) == 0.5
        pixels = np.asarray(slide.read_region((0, 0), 0, LABELS.shape[::-1]))
        np.testing.assert_array_equal(pixels[..., 0], LABELS)
    with open_image(path) as source:
        assert [level.shape for level in source.levels] == [level.shape for level in expected]
        rows = slice(100, 333)
        np.testing.assert_array_equal(
            source.read((rows, slice(0, 525)), 2)[0, :, :], expected[2][rows, :525]
        ) if False else None
        np.testing.assert_array_equal(source.read((slice(3, 300), slice(5, 525)), 2)[0], expected[2][3:300, 5:525])


@pytest.mark.parametrize(
    ("format", "shape", "suitable"),
    [("png", (2, 3, 4), "choose nifti"), ("tiff", (2, 3, 4), "choose nifti"), ("nifti", (3, 4), "choose png or tiff")],
)
def test_a_format_that_does_not_suit_names_those_that_do(tmp_path, format, shape, suitable):
    with pytest.raises(UnsuitableImage, match=suitable) as caught:
        open_writer(tmp_path / "mask", Geometry(shape), format=format, colours=COLOURS)
    assert caught.value.code == "format_not_suitable"


def test_a_slide_too_large_for_png_is_told_to_be_tiff(tmp_path):
    with pytest.raises(UnsuitableImage, match="choose tiff"):
        open_writer(tmp_path / "mask", Geometry((100000, 100000)), format="png", colours=COLOURS)


@pytest.mark.parametrize(
    ("start", "rows", "words"),
    [
        (1, np.zeros((1, 4), np.uint8), "rows from 1 came, rows from 0 are next"),
        (0, np.zeros((1, 5), np.uint8), r"rows \(1, 5\) of uint8 came, \(rows, 4\) of uint8 are allowed"),
        (0, np.zeros((1, 4), np.int64), r"rows \(1, 4\) of int64 came"),
        (0, np.zeros(4, np.uint8), r"rows \(4,\) of uint8 came"),
        (0, np.zeros((4, 4), np.uint8), "rows 0 to 4 came, the mask ends at 3"),
    ],
)
def test_rows_that_do_not_follow_are_a_mistake_and_leave_nothing(tmp_path, start, rows, words):
    with (
        pytest.raises(ValueError, match=words),
        open_writer(tmp_path / "mask.png", Geometry((3, 4)), format="png", colours=COLOURS) as writer,
    ):
        writer.write(start, rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_leaving_early_is_a_mistake_and_leaves_nothing(tmp_path, format):
    with (
        pytest.raises(ValueError, match="left after 2 of 3 rows; write all of them"),
        open_writer(tmp_path / "mask", Geometry((3, 4)), format=format, colours=COLOURS) as writer,
    ):
        writer.write(0, np.zeros((2, 4), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "mask.tiff"
    path.write_text("old")
    with (  # noqa: PT012
        pytest.raises(RuntimeError, match="stop"),
        open_writer(path, Geometry((3, 4)), format="tiff", colours=COLOURS) as writer,
    ):
        writer.write(0, np.zeros((3, 4), np.uint8))
        assert [entry.name for entry in tmp_path.iterdir()] == ["mask.tiff"]
        raise RuntimeError("stop")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.tiff"]
    assert path.read_text() == "old"


def test_a_failure_while_the_file_is_made_leaves_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="unknown color specifier"),
        open_writer(tmp_path / "mask.png", Geometry((1, 1)), format="png", colours=["nonsense"]) as writer,
    ):
        writer.write(0, np.zeros((1, 1), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_suffixes():
    assert [suffix_of(format) for format in ("png", "tiff", "nifti")] == [".png", ".tiff", ".nii.gz"]
