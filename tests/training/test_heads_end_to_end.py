"""Every kind of head through the command line: a few training steps, a bundle, and its prediction for an image."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, label
from typer.testing import CliRunner, Result

import overtile
from imaging.open import open_image
from models import bundle
from models.errors import BundleError
from service.packaging.package import check_servable
from tests.phantom import draw_slide, draw_volume, write_volume

SHAPE = (48, 48)
ENTRIES = [f"{{name: c{number}, colour: '#00000{number}'}}" for number in range(3)]
SMALL = ("trainer.max_steps=2", "trainer.batch_size=2", "sampling.patch_size=[32,32]", "model.features=[4,8]")
WINDOW = ("trainer.max_steps=2", "trainer.batch_size=4", "model.window=11", "model.convolutions=[{features: 4, kernel: 4}]")


def run(*words: object) -> Result:
    """Run the command line in this process, which is faster than a new one."""
    return CliRunner().invoke(overtile.app, [str(word) for word in words])


def start(*words: object) -> None:
    """Run the command line in a new process, which closes the files of a training when it ends."""
    subprocess.run([sys.executable, "-m", "overtile", *map(str, words)], check=True, timeout=240)


def classes(count: int) -> str:
    return f"data.classes=[{', '.join(ENTRIES[:count])}]"


def references(kind: str, mask: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
    """Return the files of a reference by the suffix after the case's name."""
    halves = np.where(np.arange(mask.shape[1]) < mask.shape[1] // 2, mask, 2 * mask).astype(np.uint8)
    if kind == "multi_label":
        return {"_a.png": mask * 255, "_b.png": np.roll(mask, 5, axis=1)}
    if kind == "regression":
        return {".png": (gaussian_filter(mask.astype(np.float32), 2) * 200).astype(np.uint8)}
    if kind == "unit_regression":
        return {".tif": gaussian_filter(mask.astype(np.float32), 2)}
    if kind == "objects":
        numbers = (40 * label(mask)[0]).astype(np.uint16)  # more than a byte holds
        numbers[:4] = 65535
        return {".png": numbers}
    if kind == "ordinal":
        halves[:4] = 255
        return {".png": halves}
    return {".png": mask if kind == "sigmoid" else halves}


def write_data(folder: Path, kind: str) -> Path:
    """Write two training cases, a validation case and a test case."""
    rows = ["case,image,reference,split"]
    for number, split in enumerate(("train", "train", "val", "test")):
        image, mask = draw_slide(SHAPE, number)
        (folder / "data").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1).copy()).save(folder / f"data/{number}.png")
        names = []
        for suffix, pixels in references(kind, mask).items():
            names.append(f"reference{number}{suffix}")
            if suffix == ".tif":
                tifffile.imwrite(folder / "data" / names[-1], pixels)
            else:
                Image.fromarray(pixels).save(folder / "data" / names[-1])
        rows.append(f"{number},{number}.png,{';'.join(names)},{split}")
    (folder / "data/cases.csv").write_text("\n".join(rows) + "\n")
    return folder / "data"


def trained(folder: Path, kind: str, *overrides: str, method: str = "unet") -> Path:
    """Train on data of a kind, and return the run's bundle."""
    data = write_data(folder, kind)
    small = SMALL if method == "unet" else WINDOW
    words = (f"data.path={data}", f"run.folder={folder}", "run.name=r", *small, *overrides)
    if kind == "unit_regression":
        start("train", f"configs/histology_{method}.yaml", *words)
    else:
        done = run("train", f"configs/histology_{method}.yaml", *words)
        assert done.exit_code == 0, done.output
    return folder / "r" / "bundle"


OF_CLASSES = [
    ("unet", "softmax", 3, "dice", ("loss.name=boundary",)),
    ("unet", "sigmoid", 2, "dice", ("loss.class_weights=balanced", "loss.border_weight=10")),
    ("unet", "multi_label", 3, "dice", ()),
    ("unet", "ordinal", 3, "quadratic_kappa", ("data.ignore_label=255", "loss.border_weight=10")),
    ("unet", "ordinal", 3, "quadratic_kappa", ("head.encoding=one_hot", "data.ignore_label=255", "loss.name=tversky")),
    ("unet", "ordinal", 3, "quadratic_kappa", ("head.encoding=cumulative", "data.ignore_label=255")),
    ("sliding_window", "sigmoid", 2, "dice", ("loss.name=focal", "loss.border_weight=10")),
]


@pytest.mark.parametrize(("method", "kind", "count", "score", "overrides"), OF_CLASSES)
def test_classes(method: str, kind: str, count: int, score: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    made = trained(tmp_path, kind, classes(count), f"head.kind={kind}", *overrides, method=method)
    manifest = json.loads((made / "manifest.json").read_text())
    assert set(manifest["validation"]) == {score}
    is_soft_label = kind == "ordinal" and not any("encoding" in override for override in overrides)
    assert (manifest["calibration"] is None) == is_soft_label  # whose mask a temperature would change
    done = run("predict", tmp_path / "data/3.png", "-b", made, "-o", tmp_path / "out", "--probabilities", "uint8")
    assert done.exit_code == 0, done.output
    mask = np.asarray(Image.open(tmp_path / "out/3.png"))
    assert mask.shape == SHAPE
    assert mask.max() < count
    with open_image(tmp_path / "out/3_probabilities.tiff") as probabilities:
        assert (probabilities.channels, probabilities.shape) == (count, SHAPE)
    if kind == "multi_label":
        refused = run("compare", made, made, "--data", tmp_path / "data", "-o", tmp_path / "report.html")
        assert refused.exit_code == 3
        assert "r has classes that overlap, but bundles are compared by masks with one class per pixel" in refused.output


@pytest.mark.parametrize(
    ("method", "kind"), [("unet", "regression"), ("unet", "unit_regression"), ("sliding_window", "regression")]
)
def test_values_are_written_as_a_map_and_other_commands_refuse_their_bundle(method: str, kind: str, tmp_path: Path) -> None:
    made = trained(tmp_path, kind, classes(1), f"head.kind={kind}", method=method)
    manifest = json.loads((made / "manifest.json").read_text())
    assert set(manifest["validation"]) == {"r2"}
    assert manifest["calibration"] is None
    done = run("predict", tmp_path / "data/3.png", "-b", made, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    with open_image(tmp_path / "out/3.tiff") as values:
        assert (values.shape, values.channels, values.dtype) == (SHAPE, 1, np.float32)
        assert len(np.unique(next(values.blocks()))) > 100
    if method == "unet" and kind == "regression":
        check_refusals(made, tmp_path)


def check_refusals(made: Path, folder: Path) -> None:
    image = folder / "data/3.png"
    refused = run("predict", image, "-b", made, "-o", folder / "out", "--probabilities", "uint8")
    assert refused.exit_code == 2
    assert "the bundle gives values and no probabilities of classes; leave --probabilities out" in refused.output
    refused = run("predict", image, "-b", made, "-o", folder / "out", "--uncertainty")
    assert refused.exit_code == 2
    assert "the bundle gives values and no probabilities of classes; leave --uncertainty out" in refused.output
    refused = run("predict", image, "-b", made, "-o", folder / "out", "--format", "png")
    assert refused.exit_code == 3
    assert "a map of values of the size (48, 48) can't be written as png; choose tiff" in refused.output
    refused = run("compare", made, made, "--data", folder / "data", "-o", folder / "report.html")
    assert refused.exit_code == 2
    assert "r gives values of c0 and no masks; overtile predict writes them as maps" in refused.output
    with pytest.raises(BundleError, match="r gives values of c0 and no masks"):
        check_servable([bundle.load(made)])
    refused = run("package", made)
    assert refused.exit_code == 2
    assert "r gives values of c0 and no masks" in refused.output


def test_a_map_of_values_has_the_geometry_of_its_volume(tmp_path: Path) -> None:
    spacing = (2000.0, 1000.0, 1500.0)
    rows = ["case,image,reference,split"]
    for number, split in enumerate(("train", "val")):
        image, mask = draw_volume((12, 16, 16), number)
        write_volume(tmp_path / f"{number}.nii", image[0], spacing)
        write_volume(tmp_path / f"r{number}.nii", gaussian_filter(mask.astype(np.float32), 1) * 100, spacing)
        rows.append(f"{number},{number}.nii,r{number}.nii,{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    words = (f"data.path={tmp_path}", f"run.folder={tmp_path}", "run.name=r", "trainer.max_steps=2", "trainer.batch_size=1")
    small = ("sampling.patch_size=[8,8,8]", "model.features=[4,8]", classes(1), "head.kind=regression")
    done = run("train", "configs/mri_unet.yaml", *words, *small)
    assert done.exit_code == 0, done.output
    done = run("predict", tmp_path / "1.nii", "-b", tmp_path / "r/bundle", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    with open_image(tmp_path / "1.nii") as image, open_image(tmp_path / "out/1.nii.gz") as values:
        assert values.geometry == image.geometry
        np.testing.assert_allclose(values.geometry.affine, image.geometry.affine)
        assert values.dtype == np.float32


def test_numbered_objects_with_weights_between_them(tmp_path: Path) -> None:
    overrides = ("data.instances=true", "data.ignore_label=65535", "loss.border_weight=10", "augment.mask_borders=true")
    made = trained(tmp_path, "objects", classes(2), *overrides)
    manifest = json.loads((made / "manifest.json").read_text())
    assert 0 < manifest["class_prior"][1] < 0.5


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        (
            "multi_label",
            (classes(3),),
            "reference has 2 files or layers, but head.kind softmax with 3 classes takes 1; for overlapping classes",
        ),
        (
            "softmax",
            (classes(3), "head.kind=multi_label"),
            "reference has 1 files or layers, but head.kind multi_label with 3 classes takes 2",
        ),
        (
            "multi_label",
            (classes(2),),
            "reference has 2 files for 2 classes; give one file with all labels, or a file for each",
        ),
        (
            "values",
            (classes(1), "head.kind=unit_regression"),
            "head.kind unit_regression takes 0 to 1; divide by the largest value",
        ),
        ("ordinal", (classes(3), "head.kind=ordinal"), "reference holds 255 (192 pixels); allowed are 0 .. 2"),
    ],
)
def test_references_that_do_not_fit_the_head(kind: str, overrides: tuple[str, ...], message: str, tmp_path: Path) -> None:
    data = write_data(tmp_path, "softmax" if kind == "values" else kind)
    done = run("train", "configs/histology_unet.yaml", f"data.path={data}", f"run.folder={tmp_path}", *SMALL, *overrides)
    assert done.exit_code == 3
    assert message in done.output.replace("\n", "")


def test_validation_values_are_checked_before_the_first_step(tmp_path: Path) -> None:
    data = write_data(tmp_path, "sigmoid")
    Image.fromarray(np.full(SHAPE, 2, np.uint8)).save(data / "reference2.png")
    words = (f"data.path={data}", f"run.folder={tmp_path}", "run.name=r", *SMALL, classes(1), "head.kind=unit_regression")
    done = run("train", "configs/histology_unet.yaml", *words)
    assert done.exit_code == 3
    assert "case 2: reference holds 2, head.kind unit_regression takes 0 to 1" in done.output.replace("\n", "")
    assert not (tmp_path / "r/checkpoints").exists()
