"""The demo: its message without a network, archives with another hash, and the split of the labelled field."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import demo_data
from datasets.cases import read_cases
from tests.phantom import draw_slide

CHECKOUT = Path(__file__).parents[1]


def run_demo(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overtile", "demo", "--folder", str(folder)]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=900, check=False
    )


def write_wheel(folder: Path, archive: demo_data.Archive) -> None:
    """A wheel of the archive's name and version with other contents."""
    folder.mkdir()
    metadata = f"{archive.name}-{archive.version}.dist-info"
    with zipfile.ZipFile(folder / f"{archive.name}-{archive.version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{metadata}/METADATA", f"Metadata-Version: 2.1\nName: {archive.name}\nVersion: {archive.version}\n")
        wheel.writestr(f"{metadata}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{metadata}/RECORD", "")


def test_offline(tmp_path: Path) -> None:
    process = run_demo(tmp_path / "demo", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path), PIP_CONFIG_FILE=os.devnull)
    assert process.returncode == 3
    assert "pip can't fetch histolytics==0.3.0; the demo needs the package index once" in process.stderr
    assert "Traceback" not in process.stderr


def test_an_archive_of_another_hash_is_deleted(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", demo_data.ARCHIVES[0])
    links = str(tmp_path / "wheels")
    process = run_demo(tmp_path / "demo", PIP_NO_INDEX="1", PIP_FIND_LINKS=links, PIP_CONFIG_FILE=os.devnull)
    assert process.returncode == 3
    assert "histolytics==0.3.0 has SHA-256" in process.stderr
    assert not list((tmp_path / "demo").rglob("*.whl"))
    assert not list((tmp_path / "demo").rglob("*.jpg"))


def test_the_right_half_is_held_out_and_every_pixel_is_used_once(tmp_path: Path) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    image, mask = draw_slide((demo_data.FIELD_PX, demo_data.FIELD_PX), 0)
    Image.fromarray(np.moveaxis(image, 0, -1).copy()).save(downloads / "hgsc_nest.jpg")
    np.savez(downloads / "hgsc_nest_inst_mask.npz", nuc_raster=mask.astype(np.int32))
    data = demo_data.write_data(downloads, tmp_path / "data")
    cases = read_cases(data)
    areas = dict.fromkeys(("train", "val", "test"), 0)
    for case in cases:
        assert case.reference is not None
        areas[case.split or ""] += np.asarray(Image.open(case.reference)).size
    assert areas["train"] + areas["val"] == areas["test"] == demo_data.FIELD_PX**2 // 2
    with Image.open(downloads / "hgsc_nest.jpg") as file:
        field = np.asarray(file.convert("RGB"))
    for case in cases:
        if case.split == "test":
            _, top, left = case.name.split("_")
            cut = field[int(top) :, int(left) :][: demo_data.HELD_OUT_PX, : demo_data.HELD_OUT_PX]
            assert int(left) >= demo_data.FIELD_PX // 2
            np.testing.assert_array_equal(np.asarray(Image.open(case.images[0])), cut)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_demo_and_its_second_run(tmp_path: Path) -> None:
    first = run_demo(tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"Report            {tmp_path / 'report.html'}" in first.stderr
    report = (tmp_path / "report.html").read_text()
    assert "Otsu" in report
    for name in ("slide_demo_unet.tiff", "slide_demo_sliding_window.tiff", "slide.png", "held_out.png"):
        assert (tmp_path / name).stat().st_size > 1000
    second = run_demo(tmp_path, PIP_NO_INDEX="1")
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("already trained") == 2
