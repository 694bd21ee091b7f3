"""Every format through the command line: the masks are read back by other libraries and lie on the image's own geometry."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import nrrd
import numpy as np
import pytest
import shapely
import zarr
from numpy.typing import NDArray
from openslide import OpenSlide
from PIL import Image
from scipy.special import entr
from tifffile import TiffFile, imwrite

from configs.sections import ClassSection
from imaging.open import open_image
from imaging.source import Geometry
from imaging.voxels import to_file
from imaging.writing.band_writer import open_writer
from imaging.writing.formats import suffix_of
from tests.imaging.affines import affine_of, rotation
from tests.imaging.dicom_objects import write_enhanced, write_series, write_slide_level
from tests.phantom import draw_slide, draw_volume, write_pyramid_slide
from tests.service.servers import UNET, write_bundle

SHAPE = (260, 300)
SPACING_UM = 0.5
AFFINE = affine_of((2, 0, 1), (1, -1, -1), (1.0, 1.5, 2.5))
AFFINE[:3, :3] = rotation((0.2, -0.1, 0.3)) @ AFFINE[:3, :3]


@pytest.fixture(scope="module")
def slide() -> NDArray[np.uint8]:
    return draw_slide(SHAPE, seed=4)[0]  # (3, H, W)


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return draw_volume((12, 20, 24), seed=4, dtype=np.int16)[0][0]  # (D, H, W)


def write_zarr(folder: Path, pixels: NDArray[Any], spacing_um: tuple[float, ...], zarr_format: int) -> None:
    """Write an OME-Zarr with channels first and one level, as the specification requires."""
    names = "zyx"[-len(spacing_um) :]
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in names]
    scale: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0, *spacing_um]}]
    multiscales = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    root = zarr.create_group(folder, zarr_format=zarr_format)  # type: ignore[arg-type]
    array = root.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, *(64,) * len(spacing_um)))
    array[:] = pixels
    if zarr_format == 2:
        root.attrs["multiscales"] = [{"version": "0.4", **multiscales}]
    else:
        root.attrs["ome"] = {"version": "0.5", "multiscales": [multiscales]}


def write_flat(folder: Path, slide: NDArray[np.uint8]) -> None:
    pixels = np.moveaxis(slide, 0, -1).copy()  # (H, W, 3)
    write_pyramid_slide(folder / "aperio.svs", slide, spacing_um=SPACING_UM)
    Image.fromarray(pixels).save(folder / "picture.png")
    Image.fromarray(pixels).save(folder / "photograph.jpg")
    sizes = {"PhysicalSizeX": SPACING_UM, "PhysicalSizeY": SPACING_UM}
    imwrite(folder / "colours.ome.tif", pixels, ome=True, metadata={"axes": "YXS", **sizes}, photometric="rgb")
    imwrite(folder / "channels.ome.tif", slide.astype(np.uint16), ome=True, metadata={"axes": "CYX", **sizes})
    resolution = (1 / SPACING_UM, 1 / SPACING_UM)
    imwrite(folder / "fiji.tif", slide, imagej=True, metadata={"axes": "CYX", "unit": "um"}, resolution=resolution)
    for zarr_format in (2, 3):
        write_zarr(folder / f"zarr{zarr_format}.ome.zarr", slide, (SPACING_UM,) * 2, zarr_format)
    write_slide_level(folder / "dicom_slide.dcm", pixels[:64, :80], spacing_mm=SPACING_UM / 1000, series={})


def write_deep(folder: Path, volume: NDArray[np.int16]) -> None:
    stored = to_file(volume, AFFINE)  # (x, y, z)
    nib.Nifti1Image(stored, AFFINE).to_filename(folder / "nifti.nii.gz")
    space = {"space": "right-anterior-superior", "space directions": AFFINE[:3, :3].T, "space origin": AFFINE[:3, 3]}
    nrrd.write(str(folder / "nrrd.nrrd"), stored, space)
    write_series(folder / "series", stored, AFFINE)
    write_enhanced(folder / "enhanced.dcm", stored, AFFINE)
    sizes = {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.5, "PhysicalSizeZ": 2.5}
    imwrite(folder / "stack.ome.tif", volume.astype(np.uint16), ome=True, metadata={"axes": "ZYX", **sizes})
    write_zarr(folder / "deep.ome.zarr", volume[None], (2.5, 1.5, 1.0), 3)


def predict(folder: Path, bundle: Path, out: Path, *options: str) -> None:
    command = [sys.executable, "-m", "overtile", "predict", str(folder), "-b", str(bundle), "-o", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory, slide: NDArray[np.uint8]) -> tuple[Path, Path]:
    """The images' folder, and the masks'."""
    home = tmp_path_factory.mktemp("flat")
    (home / "images").mkdir()
    write_flat(home / "images", slide)
    predict(
        home / "images",
        write_bundle(home / "bundle", "flat", UNET),
        home / "masks",
        "--probabilities",
        "uint8",
        "--uncertainty",
    )
    return home / "images", home / "masks"


def test_several_formats_at_once(flat: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = flat
    (tmp_path / "images").mkdir()
    shutil.copy(images / "picture.png", tmp_path / "images")
    predict(tmp_path / "images", masks.parent / "bundle", tmp_path / "masks", "--format", "png", "--format", "geojson")
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"picture.png", "picture.geojson", "picture_summary.json"}
    assert (tmp_path / "masks" / "picture.png").read_bytes() == (masks / "picture.png").read_bytes()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, volume: NDArray[np.int16]) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("deep")
    (home / "images").mkdir()
    write_deep(home / "images", volume)
    bundle = write_bundle(home / "bundle", "deep", UNET, dimensions=3)
    predict(home / "images", bundle, home / "masks", "--probabilities", "uint8", "--uncertainty")
    return home / "images", home / "masks"


def labels_of(path: Path) -> tuple[Geometry, NDArray[Any]]:
    with open_image(path, labels=True) as source:
        return source.geometry, source.read(tuple(slice(0, size) for size in source.shape))[0]


FLAT = {
    "aperio.svs": "aperio.tiff",
    "picture.png": "picture.png",
    "photograph.jpg": "photograph.png",
    "colours.ome.tif": "colours.tiff",
    "channels.ome.tif": "channels.tiff",
    "fiji.tif": "fiji.tiff",
    "zarr2.ome.zarr": "zarr2.ome.zarr",
    "zarr3.ome.zarr": "zarr3.ome.zarr",
    "dicom_slide.dcm": "dicom_slide.tiff",
}
DEEP = {
    "nifti.nii.gz": "nifti.nii.gz",
    "nrrd.nrrd": "nrrd.nii.gz",
    "series": "series.dcm",
    "enhanced.dcm": "enhanced.dcm",
    "stack.ome.tif": "stack.tiff",
    "deep.ome.zarr": "deep.ome.zarr",
}


@pytest.mark.parametrize("image", FLAT)
def test_a_flat_image_s_mask_lies_on_it(flat: tuple[Path, Path], image: str) -> None:
    with open_image(flat[0] / image) as source:
        geometry, labels = labels_of(flat[1] / FLAT[image])
        assert labels.shape == geometry.shape == source.shape
        assert set(np.unique(labels)) <= {0, 1}
        assert geometry.spacing_um == (pytest.approx(source.spacing_um) if source.spacing_um else None)


@pytest.mark.parametrize("image", DEEP)
def test_a_volume_s_mask_lies_on_it(deep: tuple[Path, Path], image: str) -> None:
    with open_image(deep[0] / image) as source:
        geometry, labels = labels_of(deep[1] / DEEP[image])
        assert labels.shape == geometry.shape == source.shape
        assert geometry.spacing_um == pytest.approx(source.spacing_um)
        if source.geometry.affine is not None:
            np.testing.assert_allclose(geometry.affine, source.geometry.affine, atol=1e-4)


@pytest.mark.parametrize("image", [name for name in FLAT if name not in ("photograph.jpg", "dicom_slide.dcm")])
def test_equal_pixels_have_equal_masks_in_every_format(flat: tuple[Path, Path], image: str) -> None:
    np.testing.assert_array_equal(labels_of(flat[1] / FLAT[image])[1], labels_of(flat[1] / "picture.png")[1])


@pytest.mark.parametrize("image", DEEP)
def test_equal_voxels_have_equal_masks_in_every_format(deep: tuple[Path, Path], image: str) -> None:
    np.testing.assert_array_equal(labels_of(deep[1] / DEEP[image])[1], labels_of(deep[1] / "nifti.nii.gz")[1])


def test_tifffile_and_openslide_see_the_slide_s_mask_with_its_levels(flat: tuple[Path, Path]) -> None:
    expected = labels_of(flat[1] / "picture.png")[1]
    with TiffFile(flat[1] / "aperio.tiff") as tiff:
        np.testing.assert_array_equal(tiff.series[0].levels[0].asarray(), expected)
    with OpenSlide(flat[1] / "aperio.tiff") as opened:
        assert opened.dimensions == SHAPE[::-1]
        np.testing.assert_array_equal(np.asarray(opened.read_region((0, 0), 0, SHAPE[::-1]))[..., 0], expected)


def test_nibabel_sees_the_volume_s_mask_on_the_same_affine(deep: tuple[Path, Path]) -> None:
    for image in ("nifti.nii.gz", "nrrd.nii.gz"):
        mask = nib.load(deep[1] / image)
        np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-4)
        assert mask.shape == nib.load(deep[0] / "nifti.nii.gz").shape


@pytest.mark.parametrize("name", ["series", "enhanced"])
def test_highdicom_sees_a_segmentation_that_refers_to_its_series(deep: tuple[Path, Path], name: str) -> None:
    segmentation = highdicom.seg.segread(str(deep[1] / f"{name}.dcm"))
    with open_image(deep[0] / ("series" if name == "series" else "enhanced.dcm")) as source:
        affine = source.geometry.affine
        assert len({uid for _, _, uid in segmentation.get_source_image_uids()}) == len(source.geometry.files)
    voxels = segmentation.get_volume(combine_segments=True, relabel=False)
    lps = voxels.affine  # of (slice, row, column)
    corners = np.array([[0, 0, 0, 1], [*(size - 1 for size in voxels.spatial_shape), 1]], float)
    assert affine is not None
    inside = np.linalg.inv(affine) @ np.diag([-1, -1, 1, 1]) @ lps @ corners.T
    shape = np.array(nib.load(deep[0] / "nifti.nii.gz").shape)
    ends = sorted(np.round(inside[:3], 3).T.tolist())
    assert np.allclose(np.abs(np.array(ends[1]) - np.array(ends[0])), shape - 1, atol=1e-2)
    expected = labels_of(deep[1] / "nifti.nii.gz")[1]
    assert (voxels.array > 0).sum() == (expected > 0).sum()


@pytest.mark.parametrize("name", ["zarr2", "zarr3"])
def test_zarr_sees_levels_and_scales(flat: tuple[Path, Path], name: str) -> None:
    root = zarr.open_group(flat[1] / f"{name}.ome.zarr", mode="r")
    described = dict(root.attrs).get("ome", dict(root.attrs))["multiscales"][0]  # type: ignore[index, call-overload]
    first = described["datasets"][0]
    np.testing.assert_array_equal(np.squeeze(root[first["path"]][:]), labels_of(flat[1] / "picture.png")[1])
    assert first["coordinateTransformations"][0]["scale"][-2:] == [SPACING_UM, SPACING_UM]


@pytest.mark.parametrize("stem", ["aperio_probabilities.tiff", "zarr3_probabilities.ome.zarr"])
def test_probabilities_lie_beside_the_mask_and_agree_with_it(flat: tuple[Path, Path], stem: str) -> None:
    with open_image(flat[1] / stem) as source:
        probabilities = source.read(tuple(slice(0, size) for size in source.shape)).astype(int)
    labels = labels_of(flat[1] / "picture.png")[1]
    assert probabilities.shape == (2, *SHAPE)
    assert (np.abs(probabilities.sum(axis=0) - 255) <= 1).all()
    clear = np.abs(probabilities[0] - probabilities[1]) > 2
    np.testing.assert_array_equal(probabilities.argmax(axis=0)[clear], labels[clear])


@pytest.mark.parametrize("stem", ["aperio", "picture", "zarr3"])
def test_uncertainty_lies_beside_the_mask_too(flat: tuple[Path, Path], stem: str) -> None:
    with open_image(flat[1] / f"{stem}_uncertainty.tiff") as source:
        found = source.read(tuple(slice(0, size) for size in source.shape))[0]
    with open_image(flat[1] / "aperio_probabilities.tiff") as source:
        likely = source.read(tuple(slice(0, size) for size in source.shape))[0] / 255
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (entr(likely) + entr(1 - likely)) / np.log(2), atol=0.03)  # probabilities have 8 bits
    assert 0 <= found.min() < found.max() <= 1


def test_a_volumes_uncertainty_has_its_affine(deep: tuple[Path, Path]) -> None:
    mask, found = (nib.load(deep[1] / f"nifti{ending}.nii.gz") for ending in ("", "_uncertainty"))
    np.testing.assert_allclose(found.affine, mask.affine)
    assert found.shape == mask.shape
    assert found.get_data_dtype() == np.float32


def test_qupath_s_polygons_cover_what_the_mask_covers(tmp_path: Path, flat: tuple[Path, Path]) -> None:
    labels = labels_of(flat[1] / "picture.png")[1].astype(np.uint8)
    classes = [ClassSection(name="background", colour="#ffffff"), ClassSection(name="nucleus", colour="#ff0000")]
    path = tmp_path / f"mask{suffix_of('geojson')}"
    with open_writer(path, Geometry(SHAPE), format="geojson", classes=classes) as writer:
        writer.write(0, labels)
    polygons = shapely.from_geojson(path.read_text())
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons) == (labels > 0).sum()
