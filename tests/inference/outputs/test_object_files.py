"""Files of objects through the command line: numbers, table and outlines agree with each other and with the mask."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import zarr
from array_source import ArraySource
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.special import softmax
from shapely.geometry import shape as shapely_shape
from skimage.measure import regionprops_table
from small_bundles import make_bundle
from tifffile import TiffFile
from typer.testing import CliRunner

from configs import schema
from datasets.inputs import find_inputs
from imaging.open import open_image
from imaging.outlines.polygons import rasterise
from inference.objects.arrays import InMemory
from inference.objects.find import number_objects
from inference.outputs.image_files import image_files
from inference.outputs.object_files import FinishedRows, ObjectFiles, write_objects
from inference.predict import predict as predict_images
from inference.predictors.ensemble import load_ensemble
from inference.request import OutputRequest
from inference.segment import Segmentation
from models import bundle
from overtile import app
from tests.imaging.dicom_objects import write_series
from tests.phantom import write_pyramid_slide
from tests.service.servers import UNET, write_bundle

EXACT = ("model.norm=batch", "inference.tile_size=[48,48]", "inference.runtime=torch")
SHAPE = (90, 70)
Run = Callable[..., Path]


def predict(image: Path, folder: Path, out: Path, *options: str) -> Path:
    """Segment an image by the command line, and return the folder of its files."""
    result = CliRunner().invoke(app, ["predict", str(image), "-b", str(folder), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a slide of coarse noise at 0.5 micrometres, its first pixels as a picture, and two bundles."""
    home = tmp_path_factory.mktemp("objects")
    noise = np.random.default_rng(0).normal(size=(3, *SHAPE))
    smooth = ndimage.gaussian_filter(noise, (0, 3, 3))
    pixels = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    write_pyramid_slide(home / "slide.svs", pixels, spacing_um=0.5)
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(home / "picture.png")
    make_bundle(home / "bundle", 0, "unet", *EXACT)
    make_bundle(
        home / "instances",
        0,
        "unet",
        *EXACT,
        "data.instances=true",
        "inference.objects=watershed",
        "inference.object_sigma_px=0",
    )
    return home


@pytest.fixture(scope="module")
def files(home: Path) -> Path:
    """Segment the slide with its objects."""
    return predict(home / "slide.svs", home / "bundle", home / "masks", "--objects")


def pixels_of(path: Path) -> NDArray[Any]:
    with open_image(path, labels=True) as source:
        return source.read(tuple(slice(0, size) for size in source.shape))


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def features_of(path: Path) -> list[dict[str, Any]]:
    """Return the features of a file, after checking it as RFC 7946 and QuPath's QuPathTypeAdapters read it."""
    collection = json.loads(path.read_text())
    assert set(collection) == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    for feature in collection["features"]:
        assert set(feature) == {"type", "geometry", "properties"}
        assert feature["type"] == "Feature"
        check_geometry(**feature["geometry"])
        properties = feature["properties"]
        assert set(properties) == {"objectType", "classification", "measurements"}
        assert properties["objectType"] in ("detection", "annotation")
        assert set(properties["classification"]) == {"name", "color"}
        assert isinstance(properties["classification"]["name"], str)
        assert all(type(each) is int and 0 <= each <= 255 for each in properties["classification"]["color"])
        assert len(properties["classification"]["color"]) == 3
        assert all(type(name) is str and type(value) in (int, float) for name, value in properties["measurements"].items())
    return list(collection["features"])


def check_geometry(type: str, coordinates: Any) -> None:
    polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates, "Point": []}[type]
    for polygon in polygons:
        for ring in polygon:
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert all(len(position) == 2 for position in ring)
    shape = shapely_shape({"type": type, "coordinates": coordinates})
    assert shape.is_valid
    if type == "Polygon":
        assert shape.exterior.is_ccw
        assert not any(ring.is_ccw for ring in shape.interiors)


def test_the_files(home: Path, files: Path) -> None:
    names = {"slide.tiff", "slide_objects.tiff", "slide_objects.csv", "slide_objects.geojson", "slide_summary.json"}
    assert {path.name for path in files.iterdir()} == names
    summary = json.loads((files / "slide_summary.json").read_text())
    assert summary["classes"][1]["objects"] == len(table_of(files / "slide_objects.csv")) > 100
    assert "objects" not in summary["classes"][0]


def test_the_numbers_are_those_of_the_masks_objects(home: Path, files: Path) -> None:
    section = bundle.load(home / "bundle").config.inference
    expected = number_objects(pixels_of(files / "slide.tiff")[0].astype(np.uint8), section)
    with TiffFile(files / "slide_objects.tiff") as tiff:
        assert tiff.is_ome
        stored = tiff.asarray()
    assert stored.dtype == np.uint32
    assert np.array_equal(stored, expected)
    with open_image(files / "slide_objects.tiff", labels=True) as numbers:
        assert numbers.spacing_um == (0.5, 0.5)


def test_the_table_is_what_the_numbers_measure(home: Path, files: Path) -> None:
    numbers = pixels_of(files / "slide_objects.tiff")[0].astype(np.int64)
    image = np.moveaxis(pixels_of(home / "slide.svs"), 0, -1)
    names = ("label", "area", "centroid", "bbox", "equivalent_diameter_area", "eccentricity", "solidity")
    expected = regionprops_table(numbers, image, (*names, "intensity_mean", "intensity_std"))
    height, width = (expected[f"bbox-{axis + 2}"] - expected[f"bbox-{axis}"] for axis in (0, 1))
    columns = {
        "id": expected["label"],
        "area_px": expected["area"],
        "area_um2": expected["area"] / 4,
        "y_px": expected["centroid-0"],
        "x_px": expected["centroid-1"],
        "y_um": expected["centroid-0"] / 2,
        "x_um": expected["centroid-1"] / 2,
        "top_px": expected["bbox-0"],
        "left_px": expected["bbox-1"],
        "height_px": height,
        "width_px": width,
        "equivalent_diameter_px": expected["equivalent_diameter_area"],
        "equivalent_diameter_um": expected["equivalent_diameter_area"] / 2,
        "eccentricity": expected["eccentricity"],
        "solidity": expected["solidity"],
    }
    for number, channel in enumerate(("red", "green", "blue")):
        columns |= {f"mean_{channel}": expected[f"intensity_mean-{number}"]}
        columns |= {f"std_{channel}": expected[f"intensity_std-{number}"]}
    table = table_of(files / "slide_objects.csv")
    assert list(table[0]) == ["id", "class", *list(columns)[1:15], "mean_probability", *list(columns)[15:]]
    assert {row["class"] for row in table} == {"nucleus"}
    for name, values in columns.items():
        assert [float(row[name]) for row in table] == pytest.approx(values.tolist(), rel=1e-8, abs=1e-8), name
    assert all(0.5 <= float(row["mean_probability"]) <= 1 for row in table)


def test_the_mean_probability_is_that_of_the_class(home: Path, tmp_path: Path) -> None:
    out = predict(home / "slide.svs", home / "bundle", tmp_path, "--objects", "--probabilities", "uint8")
    numbers, probabilities = pixels_of(out / "slide_objects.tiff")[0], pixels_of(out / "slide_probabilities.tiff")
    means = ndimage.mean(probabilities[1] / 255, numbers, np.arange(1, numbers.max() + 1))
    written = [float(row["mean_probability"]) for row in table_of(out / "slide_objects.csv")]
    assert written == pytest.approx(means.tolist(), abs=0.5 / 255 + 1e-3)


def test_outlines_are_exact_and_carry_the_table(files: Path) -> None:
    numbers = pixels_of(files / "slide_objects.tiff")[0]
    features, table = features_of(files / "slide_objects.geojson"), table_of(files / "slide_objects.csv")
    drawn = np.zeros(SHAPE, np.uint32)
    for feature in features:
        properties = feature["properties"]
        measurements = properties["measurements"]
        row = table[measurements["id"] - 1]
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == row.pop("class")
        assert {name: float(value) for name, value in row.items()} == measurements
        assert shapely_shape(feature["geometry"]).area == measurements["area_px"]
        rings = [np.array(ring[:-1], np.float64)[:, ::-1] for ring in feature["geometry"]["coordinates"]]
        drawn[rasterise(rings, (slice(0, SHAPE[0]), slice(0, SHAPE[1])))] = measurements["id"]
    assert len(features) == len(table)
    assert np.array_equal(drawn, numbers)


def test_smooth_outlines_are_close_to_the_exact_ones(home: Path, files: Path, tmp_path: Path) -> None:
    words = ("--objects", "--outlines", "smooth", "--object-type", "annotation")
    out = predict(home / "slide.svs", home / "bundle", tmp_path, *words)
    exact, smooth = (
        {feature["properties"]["measurements"]["id"]: feature for feature in features_of(folder / "slide_objects.geojson")}
        for folder in (files, out)
    )
    assert set(exact) == set(smooth)
    assert {feature["properties"]["objectType"] for feature in smooth.values()} == {"annotation"}
    assert (out / "slide_objects.csv").read_bytes() == (files / "slide_objects.csv").read_bytes()
    areas = [(shapely_shape(exact[each]["geometry"]).area, shapely_shape(smooth[each]["geometry"]).area) for each in exact]
    assert any(own != rough for rough, own in areas)
    for number, feature in smooth.items():
        outline = shapely_shape(exact[number]["geometry"])
        assert outline.buffer(1.5).covers(shapely_shape(feature["geometry"]))


def test_pictures_without_a_spacing_have_pixels_only(home: Path, tmp_path: Path) -> None:
    out = predict(home / "picture.png", home / "bundle", tmp_path, "--objects")
    assert {path.name for path in out.iterdir()} >= {"picture.png", "picture_objects.tiff"}  # PNG can't hold numbers
    first = table_of(out / "picture_objects.csv")[0]
    assert {name for name, value in first.items() if value == ""} == {"area_um2", "y_um", "x_um", "equivalent_diameter_um"}
    measurements = features_of(out / "picture_objects.geojson")[0]["properties"]["measurements"]
    assert set(measurements) == {name for name, value in first.items() if value} - {"class"}


def test_numbers_follow_the_formats_of_the_masks(home: Path, tmp_path: Path) -> None:
    formats = ("--format", "png", "--format", "geojson", "--format", "ome-zarr")
    out = predict(home / "slide.svs", home / "bundle", tmp_path, "--objects", *formats)
    assert {path.name for path in out.iterdir() if "_objects." in path.name} == {
        "slide_objects.tiff",
        "slide_objects.ome.zarr",
        "slide_objects.csv",
        "slide_objects.geojson",
    }
    array = zarr.open_group(out / "slide_objects.ome.zarr", mode="r")["0"]
    assert isinstance(array, zarr.Array)
    assert array.dtype == np.uint32
    assert np.array_equal(array[:], pixels_of(out / "slide_objects.tiff")[0])


def test_networks_that_know_objects_give_them_unasked(home: Path, tmp_path: Path) -> None:
    out = predict(home / "slide.svs", home / "instances", tmp_path / "default")
    numbers = pixels_of(out / "slide_objects.tiff")[0]
    mask = pixels_of(out / "slide.tiff")[0].astype(np.uint8)
    assert np.array_equal(numbers, number_objects(mask, bundle.load(home / "instances").config.inference))
    off = predict(home / "slide.svs", home / "instances", tmp_path / "off", "--no-objects")
    assert {path.name for path in off.iterdir()} == {"slide.tiff", "slide_summary.json"}
    assert (off / "slide.tiff").read_bytes() == (out / "slide.tiff").read_bytes()


def test_nuclei_that_touch_are_apart(tmp_path: Path) -> None:
    """Check two discs that overlap: one piece of the mask, but two numbers, lines and features."""
    y, x = np.mgrid[:60, :80]
    mask = (np.hypot(y - 30, x - 25) < 15) | (np.hypot(y - 30, x - 51) < 15)
    assert ndimage.label(mask)[1] == 1
    config = schema.load(Path("configs/histology_unet.yaml"), ("data.instances=true", "inference.objects=watershed"))
    source = ArraySource(np.full((3, *mask.shape), 7, np.uint8), spacing_um=(0.5, 0.5))
    files = ObjectFiles.of(source, config, OutputRequest())
    probabilities = np.stack([1 - mask, mask]).astype(np.float16)
    rows: list[tuple[int, int]] = []
    finished = FinishedRows(
        source, InMemory(mask.astype(np.uint8)), InMemory(probabilities, 1), lambda done, total: rows.append((done, total))
    )
    counts = write_objects(files, finished, lambda ending: tmp_path / f"two{ending}", tmp_path)
    assert counts.tolist() == [0, 2]
    assert rows[-1] == (60, 60)
    assert {path.name for path in tmp_path.iterdir()} == {f"two{ending}" for ending in files.endings}
    numbers = pixels_of(tmp_path / "two_objects.tiff")[0]
    assert np.array_equal(numbers > 0, mask)
    assert {(int(numbers[30, 25]), int(numbers[30, 51]))} <= {(1, 2), (2, 1)}
    assert [float(row["mean_probability"]) for row in table_of(tmp_path / "two_objects.csv")] == [1, 1]
    assert len(features_of(tmp_path / "two_objects.geojson")) == 2


@pytest.mark.parametrize("name", ["slide_objects.csv", "slide_objects.tiff", "slide_summary.json"])
def test_folders_are_never_replaced(home: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "work").write_text("of years")
    words = ["predict", str(home / "slide.svs"), "-b", str(home / "bundle"), "-o", str(tmp_path), "--objects"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 3
    assert "the path of an output is a folder" in result.output
    assert [path.name for path in tmp_path.rglob("*")] == [name, "work"]


def test_the_estimate_counts_the_objects_disk(home: Path, tmp_path: Path) -> None:
    words = ["predict", str(home / "slide.svs"), "-b", str(home / "bundle"), "-o", str(tmp_path), "--dry-run"]
    without, with_objects = (CliRunner().invoke(app, [*words, *more]).output for more in ((), ("--objects",)))
    assert "slide_objects.csv" in with_objects
    assert "slide_objects.csv" not in without
    assert list(tmp_path.iterdir()) == []
    predictor = load_ensemble([bundle.load(home / "bundle")], torch.device("cpu"))
    with open_image(home / "slide.svs") as source:
        plain, full = (
            image_files(tmp_path, "slide", source, predictor, OutputRequest(objects=objects)).pixel_bytes
            for objects in (False, True)
        )
    assert plain == 2  # rows of the mask, and its file
    assert full - plain == 2 + 4 + 4 + 2  # the nucleus' probability, the numbers, their file, and the texts


def test_volumes_lie_in_the_world_of_their_affine(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", "deep", UNET, dimensions=3)
    affine = np.array([[0, 0, -2.0, 40], [0.75, 0, 0, -7], [0, 0.5, 0, 3], [0, 0, 0, 1]])
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(14, 18, 12)), 1.5) * 4000
    nib.Nifti1Image(voxels.astype(np.int16), affine).to_filename(tmp_path / "scan.nii.gz")
    out = predict(tmp_path / "scan.nii.gz", folder, tmp_path / "masks", "--objects")
    names = {"scan.nii.gz", "scan_objects.nii.gz", "scan_objects.csv", "scan_summary.json"}
    assert {path.name for path in out.iterdir()} == names
    image = nib.load(out / "scan_objects.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    assert np.allclose(image.affine, affine)
    numbers = np.asarray(image.dataobj)
    assert numbers.dtype == np.uint32
    table = table_of(out / "scan_objects.csv")
    assert numbers.max() == len(table) > 3
    for row in table:
        places = np.argwhere(numbers == int(row["id"]))
        centre = nib.affines.apply_affine(affine, places.mean(axis=0))
        assert [float(row[f"{axis}_mm"]) for axis in "xyz"] == pytest.approx(centre.tolist(), abs=1e-4)
        assert int(row["volume_px"]) == len(places)
        assert float(row["volume_mm3"]) == pytest.approx(len(places) * 0.75)
        ball_mm3 = np.pi / 6 * float(row["equivalent_diameter_mm"]) ** 3
        assert ball_mm3 == pytest.approx(len(places) * 0.75, rel=1e-6)
    check_boxes(table, pixels_of(out / "scan_objects.nii.gz")[0])


def test_detections_are_points(home: Path, tmp_path: Path) -> None:
    words = ("inference.objects=peaks", "inference.peak_radius_um=4", "inference.peak_threshold=0.45")
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, *words)
    out = predict(home / "slide.svs", tmp_path / "bundle", tmp_path / "masks", "--objects")
    table = table_of(out / "slide_objects.csv")
    assert list(table[0]) == ["id", "class", "y_px", "x_px", "y_um", "x_um", "score"]
    places = np.array([(float(row["y_um"]), float(row["x_um"])) for row in table])
    assert len(places) > 5
    distances = np.hypot(*(places[:, None] - places).transpose(2, 0, 1)) + np.eye(len(places)) * 100
    assert distances.min() > 4
    numbers = pixels_of(out / "slide_objects.tiff")[0]
    features = features_of(out / "slide_objects.geojson")
    assert len(features) == len(table) == numbers.max() == (numbers > 0).sum()
    for row, feature in zip(table, features, strict=True):
        y, x = float(row["y_px"]), float(row["x_px"])
        assert feature["geometry"] == {"type": "Point", "coordinates": [x + 0.5, y + 0.5]}
        assert numbers[int(y), int(x)] == int(row["id"]) == feature["properties"]["measurements"]["id"]
        assert float(row["score"]) == feature["properties"]["measurements"]["score"] >= 0.45
    summary = json.loads((out / "slide_summary.json").read_text())
    assert summary["classes"][1]["objects"] == len(table)


def test_detections_without_a_spacing_are_refused_before_the_network_runs(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, "inference.objects=peaks", "inference.peak_radius_um=4")
    words = ["predict", str(home / "picture.png"), "-b", str(tmp_path / "bundle"), "-o", str(tmp_path / "masks"), "--objects"]
    for more in ((), ("--dry-run",)):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 3
        assert "detections lie within a radius in micrometres" in result.output
    assert list((tmp_path / "masks").iterdir()) == []


@pytest.mark.parametrize("objects", ["components", "watershed", "peaks"])
def test_files_do_not_depend_on_the_memory(tmp_path: Path, objects: str) -> None:
    """Check that bands of one row, of some and of all give the same bytes, with holes filled in three classes."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(3, 80, 60)), (0, 2, 2))
    probabilities = softmax(noise * 20, axis=0).astype(np.float16)
    classes = "[{name: background, colour: '#000000'}, {name: a, colour: '#ff0000'}, {name: b, colour: '#00ff00'}]"
    words = (f"inference.objects={objects}", "inference.largest_hole_px=20", "inference.peak_radius_um=2")
    config = schema.load(Path("configs/histology_unet.yaml"), (f"data.classes={classes}", "loss.class_weights=null", *words))
    pixels = np.random.default_rng(2).normal(size=(3, 80, 60)).astype(np.float32)
    source = ArraySource(pixels, spacing_um=(0.5, 0.5))
    files = ObjectFiles.of(source, config, OutputRequest())
    assert files.keeps_every_class
    mask = InMemory(probabilities.argmax(axis=0).astype(np.uint8))
    written = []
    for rows in (1, 7, 64, None):
        (tmp_path / f"{rows}").mkdir()
        finished = FinishedRows(source, mask, InMemory(probabilities, 1), lambda *_: None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FinishedRows, "band_rows", rows)
            write_objects(files, finished, lambda ending, rows=rows: tmp_path / f"{rows}" / f"x{ending}", tmp_path)
        written.append({path.name: path.read_bytes() for path in (tmp_path / f"{rows}").iterdir()})
    assert written[0] == written[1] == written[2] == written[3]
    assert len(written[0]["x_objects.csv"].splitlines()) > 20


def test_little_memory_makes_small_bands() -> None:
    source = ArraySource(np.zeros((3, 4000, 2048), np.uint8))
    nothing = InMemory(np.zeros((4000, 2048), np.uint8))
    bands = [FinishedRows(source, nothing, nothing, lambda *_: None, free).band_rows for free in (0, 10**8, 10**9, None)]
    assert bands == [64, 488, None, None]


def test_a_plane_of_a_volume_keeps_its_header(tmp_path: Path) -> None:
    channels = ("data.channels=[T1]", "augment.stain=0")
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, *channels)
    affine = np.array([[0, -0.5, 0, 40], [0.25, 0, 0, -7], [0, 0, 3, 3], [0, 0, 0, 1.0]])
    pixels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 30)), 2) * 4000
    nib.Nifti1Image(pixels.astype(np.int16), affine).to_filename(tmp_path / "plane.nii.gz")
    out = predict(tmp_path / "plane.nii.gz", tmp_path / "bundle", tmp_path / "masks", "--objects")
    image = nib.load(out / "plane_objects.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    assert image.shape == (40, 30)
    assert np.allclose(image.affine, affine)
    table = table_of(out / "plane_objects.csv")
    assert np.bincount(np.asarray(image.dataobj).reshape(-1))[1:].tolist() == [int(row["area_px"]) for row in table]
    assert float(table[0]["area_um2"]) == pytest.approx(int(table[0]["area_px"]) * 250 * 500)
    assert len(features_of(out / "plane_objects.geojson")) == len(table)


def test_a_series_has_numbers_in_nifti(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", "deep", UNET, dimensions=3)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 24, 16)), 1.5) * 4000
    write_series(tmp_path / "series", voxels.astype(np.int16), affine)
    out = predict(tmp_path / "series", folder, tmp_path / "masks", "--objects")
    assert {path.name for path in out.iterdir()} == {
        "series.dcm",
        "series_objects.nii.gz",
        "series_objects.csv",
        "series_summary.json",
    }
    image = nib.load(out / "series_objects.nii.gz")
    assert isinstance(image, nib.Nifti1Image)
    numbers = np.asarray(image.dataobj)
    row = table_of(out / "series_objects.csv")[0]
    centre = nib.affines.apply_affine(image.affine, np.argwhere(numbers == 1).mean(axis=0))
    assert [float(row[f"{axis}_mm"]) for axis in "xyz"] == pytest.approx(centre.tolist(), abs=1e-4)


def test_progress_names_the_step(home: Path, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    predictor = load_ensemble([bundle.load(home / "bundle")], torch.device("cpu"))
    images = find_inputs([home / "picture.png"]).images
    request = OutputRequest(objects=True)
    (outcome,) = predict_images(images, predictor, tmp_path, request, lambda step, *counts: steps.append((str(step), *counts)))
    assert isinstance(outcome.result, Segmentation)
    assert f"{outcome.result.objects:,} objects" in outcome.result.text
    name = str(home / "picture.png")
    assert steps[-1] == (f"{name}: objects", 90, 90)
    assert {step for step, _, _ in steps} == {name, f"{name}: objects"}


def check_boxes(table: Sequence[dict[str, str]], numbers: NDArray[Any]) -> None:
    """Check the boxes of a volume's objects, whose axes are (superior, anterior, right) as for --region."""
    boxes = ndimage.find_objects(numbers.astype(np.int64))
    for row, box in zip(table, boxes, strict=True):
        assert [int(row[name]) for name in ("front_px", "top_px", "left_px")] == [side.start for side in box]
        sizes = [side.stop - side.start for side in box]
        assert [int(row[name]) for name in ("depth_px", "height_px", "width_px")] == sizes
    assert "eccentricity" not in table[0]
