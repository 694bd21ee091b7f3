"""What other programs' libraries find in the files: nibabel, tifffile, OpenSlide, Pillow, zarr."""

import json

import nibabel as nib
import numpy as np
import openslide
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from configs.sections import ClassSection
from imaging.open import open_image
from imaging.source import Geometry
from imaging.writing.band_writer import open_probability_writer, open_writer
from tests.imaging.affines import ORIENTATIONS, affine_of, rotation

CLASSES = [
    ClassSection(name=name, colour=colour)
    for name, colour in (("background", "#000000"), ("tumour", "#ff0000"), ("stroma", "#00ff00"))
]
LABELS = np.random.default_rng(0).integers(0, 3, (1300, 2100)).astype(np.uint8)
LEVELS = [LABELS, LABELS[::2, ::2], LABELS[::4, ::4]]


def written(path, mask, geometry, format, bands=1, classes=CLASSES):
    with open_writer(path, geometry, format=format, classes=classes) as writer:
        for rows in np.array_split(np.arange(len(mask)), bands):
            writer.write(int(rows[0]), mask[rows[0] : rows[-1] + 1])
    return path


def written_probabilities(path, probabilities, geometry, format, dtype):
    kind = {"format": format, "classes": CLASSES, "dtype": dtype}
    with open_probability_writer(path, geometry, **kind) as writer:
        for start in range(0, geometry.shape[0], 2):
            writer.write(start, probabilities[:, start : start + 2])
    return path


def probabilities_of(shape):
    drawn = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
    drawn.flat[:4] = (0, 1, 1 + 1e-6, -1e-6)  # what averaging leaves
    return drawn


def read_all(path):
    with open_image(path, labels=True) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))[0], source.geometry


def test_a_png_shows_colours_and_holds_labels(tmp_path):
    path = written(tmp_path / "mask.png", LABELS, Geometry(LABELS.shape), "png", bands=3)
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), LABELS)
        colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]])
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours[LABELS])


def test_a_tiffs_pyramid_is_seen_by_tifffile_openslide_and_our_reader(tmp_path):
    path = written(tmp_path / "mask.tiff", LABELS, Geometry(LABELS.shape, (0.5, 0.25)), "tiff", bands=7)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert len(tiff.series) == 1
        assert tiff.pages[0].tile == (512, 512)
        for level, labels in zip(tiff.series[0].levels, LEVELS, strict=True):
            np.testing.assert_array_equal(level.asarray(), labels)
    with openslide.OpenSlide(path) as slide:
        assert slide.level_dimensions == tuple(level.shape[::-1] for level in LEVELS)
        assert float(slide.properties["openslide.mpp-x"]) == 0.25
        assert float(slide.properties["openslide.mpp-y"]) == 0.5
        for number, labels in enumerate(LEVELS):
            pixels = np.asarray(slide.read_region((0, 0), number, labels.shape[::-1]))
            np.testing.assert_array_equal(pixels[..., 0], labels)
    with open_image(path) as source:
        assert [level.shape for level in source.levels] == [level.shape for level in LEVELS]
        assert [level.spacing_um for level in source.levels[:2]] == [(0.5, 0.25), (1.0, 0.5)]
        np.testing.assert_array_equal(source.read((slice(3, 300), slice(5, 525)), 2)[0], LEVELS[2][3:300, 5:525])


def test_a_tiff_of_a_volume_is_a_stack_with_levels(tmp_path):
    mask = np.stack([LABELS, LABELS[::-1]])
    path = written(tmp_path / "mask.tiff", mask, Geometry(mask.shape, (2000.0, 500.0, 250.0)), "tiff", bands=2)
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert series.axes == "ZYX"
        for number, level in enumerate(series.levels):
            np.testing.assert_array_equal(level.asarray(), mask[:, :: 2**number, :: 2**number])
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"PhysicalSize{axis}"] for axis in "ZYX"] == [2000, 500, 250]
        assert {pixels[f"PhysicalSize{axis}Unit"] for axis in "ZYX"} == {"µm"}
        assert tiff.pages.first.description.count("UUID=") == 1
        assert "00000000-0000-0000-0000-000000000000" in tiff.ome_metadata  # nothing of the time or the machine


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6)])
def test_probabilities_as_tiff_are_channels_with_names(tmp_path, shape):
    drawn = probabilities_of(shape)
    geometry = Geometry(shape, (0.5,) * len(shape))
    path = written_probabilities(tmp_path / "p.tiff", drawn, geometry, "tiff", "uint8")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == {2: "CYX", 3: "CZYX"}[len(shape)]
        np.testing.assert_array_equal(tiff.series[0].asarray(), np.rint(drawn.clip(0, 1) * 255))
        channels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
        assert [channel["Name"] for channel in channels] == ["background", "tumour", "stroma"]


def test_a_zarr_is_ome_zarr_with_levels_places_and_colours(tmp_path):
    geometry = Geometry(LABELS.shape, (0.5, 0.25), origin_um=(10.0, -20.0))
    path = written(tmp_path / "mask.ome.zarr", LABELS, geometry, "ome-zarr", bands=3)
    group = zarr.open_group(path, mode="r")
    (multiscale,) = group.attrs["multiscales"]
    assert multiscale["version"] == "0.4"
    assert [axis["name"] for axis in multiscale["axes"]] == ["y", "x"]
    assert {axis["unit"] for axis in multiscale["axes"]} == {"micrometer"}
    for number, (dataset, labels) in enumerate(zip(multiscale["datasets"], LEVELS, strict=True)):
        np.testing.assert_array_equal(group[dataset["path"]][:], labels)
        scale, translation = dataset["coordinateTransformations"]
        assert scale == {"type": "scale", "scale": [0.5 * 2**number, 0.25 * 2**number]}
        assert translation == {"type": "translation", "translation": [10.0, -20.0]}
    meaning = group.attrs["image-label"]
    assert meaning["colors"][:2] == [
        {"label-value": 0, "rgba": [0, 0, 0, 0]},
        {"label-value": 1, "rgba": [255, 0, 0, 255]},
    ]
    assert meaning["properties"][2] == {"label-value": 2, "class": "stroma"}
    assert json.loads((path / "0" / ".zarray").read_text())["dimension_separator"] == "/"


def test_a_zarr_without_a_spacing_claims_none(tmp_path):
    path = written(tmp_path / "mask.ome.zarr", LABELS[:3, :4], Geometry((3, 4)), "ome-zarr")
    (multiscale,) = zarr.open_group(path, mode="r").attrs["multiscales"]
    assert multiscale["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 1.0]}]


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6)])
def test_probabilities_as_zarr_are_channels_with_names(tmp_path, shape, dtype):
    drawn = probabilities_of(shape)
    geometry = Geometry(shape, (0.5,) * len(shape), origin_um=(7.0,) * len(shape))
    path = written_probabilities(tmp_path / "p.ome.zarr", drawn, geometry, "ome-zarr", dtype)
    group = zarr.open_group(path, mode="r")
    within = drawn.clip(0, 1)
    np.testing.assert_array_equal(group["0"][:], np.rint(within * 255) if dtype == "uint8" else within.astype(np.float16))
    (multiscale,) = group.attrs["multiscales"]
    assert multiscale["axes"][0] == {"name": "c", "type": "channel"}
    scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [1.0] + [0.5] * len(shape)
    assert translation["translation"] == [0.0] + [7.0] * len(shape)
    channels = group.attrs["omero"]["channels"]
    assert [(channel["label"], channel["color"]) for channel in channels][1] == ("tumour", "ff0000")
    assert channels[0]["window"]["end"] == (255 if dtype == "uint8" else 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("masks")


@settings(max_examples=60, deadline=None)
@given(
    mask=arrays(np.uint8, st.tuples(*[st.integers(1, 9)] * 3), elements=st.integers(0, 2)),
    turn=st.sampled_from(ORIENTATIONS),
    zooms=st.tuples(*[st.floats(0.1, 9)] * 3),
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    codes=st.sampled_from([(1, 0), (2, 1), (4, 4), (0, 1), (0, 0)]),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_a_nifti_lies_as_its_image_lies(folder, mask, turn, zooms, angles, codes, suffix):
    affine = affine_of(*turn, zooms)
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None)
    image.header.set_qform(affine, codes[1])
    image.header.set_sform(affine, codes[0])
    with (folder / "image.nii").open("wb") as file:
        image.to_stream(file)
    with open_image(folder / "image.nii") as source:
        geometry = Geometry(mask.shape, source.spacing_um, source.geometry.affine, codes)
    path = written(folder / f"mask{suffix}", mask, geometry, "nifti", min(2, len(mask)))
    found, lies = read_all(path)
    np.testing.assert_array_equal(found, mask)
    np.testing.assert_allclose(lies.affine[:3, :3], geometry.affine[:3, :3], atol=1e-4)
    np.testing.assert_allclose(lies.spacing_um, geometry.spacing_um, rtol=1e-5)
    if any(codes):
        np.testing.assert_allclose(nib.load(path).affine, geometry.affine, atol=1e-4)
        assert lies.affine_codes == codes


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_a_voxel_keeps_its_place_in_the_patient(tmp_path, turn):
    """By nibabel alone: the only marked voxel lies where it lay."""
    affine = affine_of(*turn)
    array = np.zeros((3, 4, 5), np.uint8)
    array[2, 1, 3] = 1
    nib.Nifti1Image(array, affine).to_filename(tmp_path / "image.nii")
    mask, geometry = read_all(tmp_path / "image.nii")
    found = nib.load(written(tmp_path / "mask.nii.gz", mask, geometry, "nifti"))
    np.testing.assert_array_equal(np.asarray(found.dataobj), array)
    np.testing.assert_allclose(found.affine, affine)


def test_a_nifti_is_made_slab_by_slab_in_the_files_order(tmp_path):
    """More than a slab, the file's last axis along each of ours in turn, both ways."""
    mask = np.random.default_rng(0).integers(0, 3, (350, 330, 310)).astype(np.uint8)
    for turn in (((0, 1, 2), (1, 1, -1)), ((2, 0, 1), (1, 1, 1)), ((1, 2, 0), (1, -1, -1))):
        geometry = Geometry(mask.shape, None, affine_of(*turn), (1, 1))
        found, _ = read_all(written(tmp_path / "mask.nii", mask, geometry, "nifti", 3))
        assert np.array_equal(found, mask)


def test_an_image_without_codes_gets_a_mask_without_codes(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    image.header.set_zooms((1, 2, 3))
    image.to_filename(tmp_path / "image.nii")
    with open_image(tmp_path / "image.nii") as source:
        geometry = source.geometry
    _, lies = read_all(written(tmp_path / "mask.nii.gz", np.zeros(geometry.shape, np.uint8), geometry, "nifti"))
    assert lies == geometry
    np.testing.assert_array_equal(lies.affine, geometry.affine)


def test_a_volume_of_spacing_only_lies_along_the_patients_axes(tmp_path):
    geometry = Geometry((2, 3, 4), (3000.0, 2000.0, 1000.0))
    mask = (np.arange(24) % 3).astype(np.uint8).reshape(2, 3, 4)
    found, lies = read_all(written(tmp_path / "mask.nii.gz", mask, geometry, "nifti"))
    assert lies.spacing_um == geometry.spacing_um
    np.testing.assert_array_equal(lies.affine, np.diag([1, 2, 3, 1]))
    np.testing.assert_array_equal(found, mask)


def test_a_nifti_holds_nothing_of_the_image(tmp_path):
    geometry = Geometry((2, 3, 4), None, affine_of((0, 1, 2), (1, 1, 1)), (1, 1))
    header = nib.load(written(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8), geometry, "nifti")).header
    assert header["descrip"] == header["aux_file"] == header["db_name"] == b""
    assert len(header.extensions) == 0
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == np.uint8


def test_a_long_nifti_is_of_version_2(tmp_path):
    mask = np.zeros((1, 2, 32768), np.uint8)
    mask[0, 1, -1] = 2
    path = written(tmp_path / "mask.nii.gz", mask, Geometry(mask.shape, (1e3,) * 3), "nifti")
    found = nib.load(path)
    assert isinstance(found, nib.Nifti2Image)
    np.testing.assert_array_equal(np.asarray(found.dataobj).transpose(), mask)


@pytest.mark.parametrize("turn", ORIENTATIONS[::7])
def test_probabilities_as_nifti_are_the_fourth_axis(tmp_path, turn):
    geometry = Geometry((3, 4, 5), None, affine_of(*turn), (1, 1))
    drawn = probabilities_of(geometry.shape)
    path = written_probabilities(tmp_path / "p.nii.gz", drawn, geometry, "nifti", "uint8")
    likeliest, _ = read_all(written(tmp_path / "m.nii.gz", drawn.argmax(0).astype(np.uint8), geometry, "nifti"))
    found = nib.load(path)
    np.testing.assert_allclose(found.affine, geometry.affine)
    np.testing.assert_allclose(np.sort(found.get_fdata(), axis=None), np.sort(drawn, axis=None), atol=1 / 510 + 1e-5)
    classes = nib.load(tmp_path / "m.nii.gz").get_fdata()
    np.testing.assert_array_equal(found.get_fdata().argmax(axis=-1), classes)
    np.testing.assert_array_equal(likeliest, drawn.argmax(0))
