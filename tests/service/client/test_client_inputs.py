"""The same folder of mixed files through predict, the client, and jobs over HTTP: equal masks, equal remarks."""

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from click.testing import Result
from PIL import Image
from servers import Server, wait_until
from typer.testing import CliRunner

import overtile
from imaging.open import open_image
from imaging.remarks import REMARKS
from tests.imaging.affines import affine_of
from tests.imaging.dicom_objects import write_series
from tests.phantom import draw_slide

DICOMDIR = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests" / "DICOMDIR"
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERTILE_KEY", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder as people have it: a series and volumes with strangers beside them, in folders of patients."""
    folder = tmp_path / "study"
    (folder / "p1").mkdir(parents=True)
    voxels = RANDOM.integers(0, 900, (18, 17, 16)).astype(np.int16)
    series = write_series(folder / "p1" / "ct", voxels, affine_of((0, 1, 2), (-1, -1, 1)))
    (series / "README.TXT").write_text("not an image")
    shutil.copy(DICOMDIR, series / "DICOMDIR")
    odd = folder / "p1" / "t1.nii"
    nib.Nifti1Image(voxels, np.eye(4)).to_filename(odd)
    content = bytearray(odd.read_bytes())
    struct.pack_into("<f", content, 112, float("nan"))
    odd.write_bytes(bytes(content) + b"padding")
    (folder / "p1" / "t1.json").write_text(json.dumps({"Modality": "MR"}))
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    return folder


def run(*words: Any) -> Result:
    return CliRunner().invoke(overtile.app, [str(word) for word in words])


def remarks_of(line: str) -> set[str]:
    return set(re.findall(r"\b([a-z]+(?:_[a-z]+)+)\b", line)) & set(REMARKS)


def pixels_of(path: Path) -> np.ndarray:
    with open_image(path, labels=True) as mask:
        return np.concatenate(list(mask.blocks()), axis=1)


def send(server: Server, files: list[Path], out: Path, name: str, **options: Any) -> tuple[Path, set[str]]:
    """Return the mask and the remarks of a job over HTTP whose files are sent as they are."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        uploads = [client.put("/v1/uploads", content=file.read_bytes()).json()["id"] for file in files]
        job = client.post("/v1/jobs", json={"uploads": uploads, "models": [name], "options": options}).json()["id"]
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] in ("done", "failed"), timeout_s=60)
        answer = client.get(f"/v1/jobs/{job}").json()
        assert answer["state"] == "done", answer
        result = answer["results"][0]
        out.mkdir(exist_ok=True)
        path = out / result["name"]
        path.write_bytes(client.get(f"/v1/jobs/{job}/results/{result['name']}").content)
        return path, set(answer["warnings"])


def test_a_folder_of_mixed_files_is_read_alike_everywhere(
    server: Server, bundles: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    local = run("predict", folder, "-b", bundles["volume"], "-o", tmp_path / "local", "--runtime", "torch")
    assert local.exit_code == 0, local.stderr
    remote = run("client", "submit", folder, "-o", tmp_path / "remote", "-m", "volume", "--url", server.url)
    assert remote.exit_code == 0, remote.stderr
    expected = {"ct.dcm": {"files_skipped"}, "t1.nii.gz": {"scaling_ignored", "trailing_data"}}
    skipped = "Skipped 4 files that are no images: "
    for told, out in ((local, tmp_path / "local"), (remote, tmp_path / "remote")):
        lines = " ".join(told.stderr.split()).replace(" -> ", "\n-> ").splitlines()
        assert lines[0].startswith(skipped)
        for name in ("Thumbs.db", "t1.json", "README.TXT", "DICOMDIR"):
            assert name in lines[0]
        remarks = {name: remarks_of(line) for line in lines for name in expected if f"/{name}" in line}
        assert remarks == expected
        assert sorted(path.name for path in out.iterdir()) == sorted([*expected, "ct_summary.json", "t1_summary.json"])
    files = {"ct.dcm": sorted((folder / "p1/ct").iterdir()), "t1.nii.gz": [folder / "p1/t1.nii"]}
    for name in expected:
        mask, remarks = send(server, files[name], tmp_path / "http", "volume")
        assert remarks == expected[name]
        np.testing.assert_array_equal(pixels_of(tmp_path / "local" / name), pixels_of(mask))
        np.testing.assert_array_equal(pixels_of(tmp_path / "local" / name), pixels_of(tmp_path / "remote" / name))


def test_a_table_gives_channels_and_strangers_among_uploads_are_skipped(
    server: Server, bundles: dict[str, Path], tmp_path: Path
) -> None:
    channels = draw_slide((72, 90), seed=0)[0]
    for name, channel in zip("rgb", channels, strict=True):
        Image.fromarray(channel).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "cases.csv").write_text("case,image\nslide,r.png;g.png;b.png\n")
    local = run("predict", tmp_path / "cases.csv", "-b", bundles["unet"], "-o", tmp_path / "local", "--runtime", "torch")
    assert local.exit_code == 0, local.stderr
    remote = run("client", "submit", tmp_path / "cases.csv", "-o", tmp_path / "remote", "-m", "unet", "--url", server.url)
    assert remote.exit_code == 0, remote.stderr
    together = ";".join(str(tmp_path / f"{name}.png") for name in "rgb")
    again = run("predict", together, "-b", bundles["unet"], "-o", tmp_path / "again", "--runtime", "torch")
    assert again.exit_code == 0, again.stderr
    files = [tmp_path / "notes.txt", *(tmp_path / f"{name}.png" for name in "rgb")]
    mask, remarks = send(server, files, tmp_path / "http", "unet")
    assert remarks == {"files_skipped"}
    expected = pixels_of(tmp_path / "local" / "slide.png")
    for path in (tmp_path / "remote" / "slide.png", tmp_path / "again" / "r.png", mask):
        np.testing.assert_array_equal(expected, pixels_of(path))


def test_a_tiff_stack_is_a_volume_everywhere(server: Server, bundles: dict[str, Path], tmp_path: Path) -> None:
    import tifffile

    stack = RANDOM.integers(0, 255, (2, 18, 17, 16)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", stack[0])
    for axes in (None, "ZYX"):
        given = ["--axes", axes] if axes else []
        words = (tmp_path / "plain.tif", "--spacing-um", "1000", *given)
        local = run("predict", *words, "-b", bundles["volume"], "-o", tmp_path / "local", "--runtime", "torch")
        remote = run("client", "submit", *words, "-o", tmp_path / "remote", "-m", "volume", "--url", server.url)
        assert (local.exit_code, remote.exit_code) == (0, 0), local.stderr + remote.stderr
        expected = pixels_of(tmp_path / "local" / "plain.tiff")
        assert expected.shape == (1, 18, 17, 16)
        np.testing.assert_array_equal(expected, pixels_of(tmp_path / "remote" / "plain.tiff"))
        query = f"model=volume&spacing_um=1000{f'&axes={axes}' if axes else ''}"
        direct = httpx.post(f"{server.url}/v1/segment?{query}", content=(tmp_path / "plain.tif").read_bytes(), timeout=60)
        (tmp_path / "direct.tiff").write_bytes(direct.content)
        np.testing.assert_array_equal(expected, pixels_of(tmp_path / "direct.tiff"))
    refused = httpx.post(f"{server.url}/v1/segment?model=volume&axes=QQQ", content=b"x", timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "parameter_invalid")
    assert "axes takes ZYX, CYX, CZYX, ZCYX, YXC or ZYXC" in refused.json()["error"]["message"]
