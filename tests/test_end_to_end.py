"""All steps through the command line and HTTP: train, package, serve, predict, compare."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from imaging.open import open_image
from tests.phantom import draw_slide, write_pyramid_slide, write_slide_dataset

CHECKOUT = Path(__file__).parents[1]
# The fastest runtime may differ from run to run, and with it the bytes of the masks.
SMALL = (
    "trainer.max_steps=80",
    "trainer.validate_every_steps=40",
    "augment.probability=0.2",
    "inference.runtime=torch",
)
METHODS = {
    "unet": ("model.features=[8,16]", "sampling.patch_size=[64,64]"),
    "sliding_window": ("model.window=21", "model.convolutions=[{features: 12, kernel: 4}]", "trainer.batch_size=64"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    return write_slide_dataset(
        home / "data", cases=6, shape=(128, 128), splits=("train", "train", "val", *("test",) * 3)
    ).parent


@pytest.fixture(scope="module")
def bundles(home: Path, data: Path) -> dict[str, Path]:
    for method, overrides in METHODS.items():
        words = (f"configs/histology_{method}.yaml", f"data.path={data}", f"run.folder={home}", f"run.name={method}")
        done = overtile(home, "train", *words, *SMALL, *overrides)
        assert done.returncode == 0, done.stderr
    return {method: home / method / "bundle" for method in METHODS}


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "BENTOML_HOME": str(home / "bentoml"), "OVERTILE_STORE": str(home / "store")}


def overtile(home: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overtile", *map(str, words)]
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment(home), capture_output=True, text=True, timeout=280, check=False
    )


@contextmanager
def served(home: Path, tag: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "overtile", "serve", tag, "--port", str(port)]
    with (
        (home / "server.log").open("wb") as log,
        subprocess.Popen(command, cwd=CHECKOUT, env=environment(home), stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail("the server wasn't ready in 60 s")


def test_train_package_serve_http(home: Path, data: Path, bundles: dict[str, Path]) -> None:
    """The server returns the same bytes as `predict`, and both segment the phantom's nuclei."""
    packaged = overtile(home, "package", *bundles.values())
    assert packaged.returncode == 0, packaged.stderr
    tag = packaged.stderr.split(": built")[0]
    image = data / "images" / "case005.png"
    reference = np.asarray(Image.open(data / "references" / "case005.png")) > 0
    with served(home, tag) as url:
        assert {model["name"] for model in httpx.get(f"{url}/v1/models").json()["models"]} == set(METHODS)
        for method, bundle in bundles.items():
            predicted = overtile(home, "predict", image, "-b", bundle, "-o", home / f"masks_{method}")
            assert predicted.returncode == 0, predicted.stderr
            answer = httpx.post(f"{url}/v1/segment", params={"model": method}, content=image.read_bytes(), timeout=60)
            assert answer.status_code == 200
            assert answer.content == (home / f"masks_{method}" / "case005.png").read_bytes()
            mask = np.asarray(Image.open(home / f"masks_{method}" / "case005.png")) > 0
            assert 2 * (mask & reference).sum() / (mask.sum() + reference.sum()) > 0.8
        compared = httpx.post(
            f"{url}/v1/compare", params={"models": "unet,sliding_window"}, content=image.read_bytes(), timeout=60
        )
        assert 0.8 < compared.json()["agreement"] <= 1
        refused = httpx.post(f"{url}/v1/segment", params={"model": "unet"}, content=b"no image", timeout=60)
        assert refused.status_code == 415
        assert refused.json()["error"]["code"] == "unsupported_format"


def test_predict_takes_folders_and_slides_and_goes_on_after_a_bad_file(home: Path, bundles: dict[str, Path]) -> None:
    inputs = home / "inputs"
    inputs.mkdir()
    image, _ = draw_slide((600, 700), 3)
    write_pyramid_slide(inputs / "slide.svs", image)
    Image.fromarray(np.moveaxis(image, 0, -1)[:100, :90].copy()).save(inputs / "picture.jpg")
    Image.fromarray(image[0]).save(inputs / "grey.png")
    (inputs / "notes.txt").write_text("no image")
    done = overtile(home, "predict", inputs, "-b", bundles["unet"], "-o", home / "masks")
    assert done.returncode == 3
    assert (
        "grey.png: image has 1 channels, the model takes 3 (red, green, blue); send an image with those channels" in done.stderr
    )
    assert "Skipped 1 files that are no images: notes.txt" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (home / "masks").iterdir()} == {
        *("slide.tiff", "slide_summary.json"),
        *("picture.png", "picture_summary.json"),
    }
    with open_image(home / "masks" / "slide.tiff", labels=True) as mask, open_image(inputs / "slide.svs") as slide:
        assert mask.shape == slide.shape == (600, 700)
        assert mask.spacing_um == pytest.approx(slide.spacing_um)
        assert len(mask.levels) >= 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("predict", "{home}/none.png", "-b", "{unet}", "-o", "{home}/o1"), 3, "none.png"),
        (("predict", "{home}/empty", "-b", "{unet}", "-o", "{home}/o2"), 3, "the folders hold no images; give images, slides"),
        (("predict", "{data}/images", "{data}/images", "-b", "{unet}", "-o", "{home}/o3"), 3, "would have outputs of one name"),
        (
            ("predict", "{data}/images", "-b", "{data}", "-o", "{home}/o4"),
            2,
            "no bundle here; give the folder of a finished run, or",
        ),
        (
            ("predict", "{data}/images/case000.png", "-b", "{unet}", "-o", "{data}/images"),
            3,
            "the mask would replace the image",
        ),
        (
            ("predict", "{home}/inputs", "-b", "{unet}", "-o", "{home}/o5", "--spacing-um", "wide"),
            2,
            "--spacing-um 'wide': not a number, or one number per axis with commas between",
        ),
        (
            ("predict", "{home}/inputs", "-b", "{unet}", "-o", "{home}/o6", "--format", "exe"),
            2,
            "--format 'exe': not a format of masks; choose png, tiff, nifti, ome-zarr, dicom-seg, geojson",
        ),
        (("package", "{data}"), 2, "no bundle here; give the folder of a finished run, or its bundle/"),
        (("serve", "overtile:none"), 2, "no Bento overtile:none, or without its models; run overtile package BUNDLE first"),
        (
            ("serve", "--host", "0.0.0.0"),
            2,
            "0.0.0.0 can be reached by other machines, and there is no valid key; add one with: overtile keys add NAME",
        ),
        (
            ("compare", "{unet}", "{unet}", "--data", "{home}/empty", "-o", "{home}/r.html"),
            3,
            "no data set is recognised. It holds no images",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_refusals_say_what_to_do(
    home: Path, data: Path, bundles: dict[str, Path], words: tuple[str, ...], code: int, message: str
) -> None:
    (home / "empty").mkdir(exist_ok=True)
    done = overtile(home, *(word.format(home=home, data=data, **bundles) for word in words))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_writes_a_report(home: Path, data: Path, bundles: dict[str, Path]) -> None:
    done = overtile(
        home, "compare", bundles["unet"], bundles["sliding_window"], "--data", data, "-o", home / "new" / "report.html"
    )
    assert done.returncode == 0, done.stderr
    assert f"Report: {home / 'new' / 'report.html'}" in done.stderr
    report = (home / "new" / "report.html").read_text()
    assert "case003" in report
    assert "case000" not in report  # a training case


def test_training_cases_are_not_compared_on(home: Path, data: Path, bundles: dict[str, Path]) -> None:
    words = ("compare", bundles["unet"], bundles["sliding_window"], "--data", data, "--split", "val", "-o", home / "r.html")
    done = overtile(home, *words)
    assert done.returncode == 3
    assert "compare on cases that neither training nor validation saw" in done.stderr
    assert not (home / "r.html").exists()


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys, overtile; print(sorted({'torch', 'numpy', 'pydantic', 'bentoml', 'rich.progress'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    helped = subprocess.run(
        [sys.executable, "-m", "overtile", "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for name in ("demo", "train", "predict", "compare", "package", "serve"):
        assert f" {name} " in helped.stdout
