"""The summary of a mask: counts, units, shares and remarks, for slides, pictures and volumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bundles import make_bundle
from typer.testing import CliRunner

from imaging.open import open_image
from inference.regions.tissue import find_tissue
from overtile import app
from tests.phantom import write_pyramid_slide, write_volume
from tests.service.servers import UNET, write_bundle

EXACT = ("model.norm=batch", "inference.tile_size=[48,48]", "inference.runtime=torch")


def predict(image: Path, bundle: Path, out: Path, *options: str) -> dict[str, Any]:
    """Segment an image by the command line, and return its summary."""
    result = CliRunner().invoke(app, ["predict", str(image), "-b", str(bundle), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    return dict(json.loads((out / f"{image.name.partition('.')[0]}_summary.json").read_text()))


def labels_of(path: Path) -> Any:
    with open_image(path, labels=True) as mask:
        return mask.read(tuple(slice(0, size) for size in mask.shape))[0]


def test_pixels_areas_and_shares(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    summary = predict(tmp_path / "picture.png", tmp_path / "bundle", tmp_path / "out", "--spacing-um", "0.5")
    counts = np.bincount(labels_of(tmp_path / "out" / "picture.png").reshape(-1), minlength=2)
    assert 0 < counts[1] < 3000
    assert {name: summary[name] for name in ("image", "shape", "spacing_um", "remarks", "pixels")} == {
        "image": "picture.png",
        "shape": [60, 50],
        "spacing_um": [0.5, 0.5],
        "remarks": ["spacing_given"],
        "pixels": 3000,
    }
    assert (summary["area_um2"], summary["area_mm2"]) == (750.0, 0.00075)
    for label, (part, name) in enumerate(zip(summary["classes"], ("background", "nucleus"), strict=True)):
        assert part == {
            "name": name,
            "label": label,
            "pixels": counts[label],
            "area_um2": counts[label] / 4,
            "area_mm2": counts[label] / 4e6,
            "share_of_image": counts[label] / 3000,
        }
    bare = predict(tmp_path / "picture.png", tmp_path / "bundle", tmp_path / "bare")
    assert bare["spacing_um"] is None
    assert set(bare["classes"][1]) == {"name", "label", "pixels", "share_of_image"}


def test_shares_of_the_tissue(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT)
    pixels = np.full((3, 400, 600), 240, np.uint8)
    pixels[:, 100:200, 300:500] = np.array([150, 80, 160], np.uint8)[:, None, None]
    write_pyramid_slide(tmp_path / "slide.svs", pixels, spacing_um=0.5)
    summary = predict(tmp_path / "slide.svs", tmp_path / "bundle", tmp_path / "out", "--tissue", "--objects")
    with open_image(tmp_path / "slide.svs") as source:
        tissue = find_tissue(source).mask
    assert tissue.shape == (400, 600), "the slide is small enough for one pixel of tissue per pixel"
    labels = labels_of(tmp_path / "out" / "slide.tiff")
    counts = np.bincount(labels[tissue], minlength=2)
    area_mm2 = tissue.sum() * 0.25 / 1e6
    assert summary["tissue"] == pytest.approx(
        {
            "pixels": tissue.sum(),
            "share_of_image": tissue.mean(),
            "area_um2": tissue.sum() * 0.25,
            "area_mm2": area_mm2,
        }
    )
    assert "tiles_skipped" in summary["remarks"]
    nuclei = summary["classes"][1]
    assert [part["share_of_tissue"] for part in summary["classes"]] == (counts / counts.sum()).tolist()
    assert nuclei["objects"] > 0
    assert nuclei["objects_per_mm2_of_tissue"] == pytest.approx(nuclei["objects"] / area_mm2)
    assert nuclei["objects_per_mm2"] == pytest.approx(nuclei["objects"] / (400 * 600 * 0.25 / 1e6))


def test_volumes_are_in_millilitres(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", "deep", UNET, dimensions=3)
    voxels = np.random.default_rng(0).integers(0, 900, (12, 16, 14)).astype(np.int16)
    write_volume(tmp_path / "scan.nii.gz", voxels, (2000.0, 750.0, 500.0))
    summary = predict(tmp_path / "scan.nii.gz", bundle, tmp_path / "out", "--objects")
    part = summary["classes"][1]
    count = int((labels_of(tmp_path / "out" / "scan.nii.gz") == 1).sum())
    assert part["pixels"] == count
    assert part["volume_mm3"] == pytest.approx(count * 0.75)
    assert part["volume_ml"] == pytest.approx(count * 0.75 / 1000)
    assert part["objects"] >= 1
    assert not {"area_um2", "objects_per_mm2"} & set(part)


def test_maps_of_values_have_no_summary(tmp_path: Path) -> None:
    words = ("head.kind=regression", "data.classes=[{name: grade, colour: '#ffffff'}]")
    make_bundle(tmp_path / "bundle", 0, "unet", *EXACT, *words)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "picture.png")
    words = ["predict", str(tmp_path / "picture.png"), "-b", str(tmp_path / "bundle"), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["picture.tiff"]
    refused = CliRunner().invoke(app, [*words, "--objects"])
    assert refused.exit_code == 2
    assert "gives values and no probabilities of classes; leave --objects out" in refused.output
