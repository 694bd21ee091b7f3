"""What the server's processes open, connect to and start while all sorts of work come in: nothing but their own."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from audited import Audit, audited
from servers import run_python

from imaging.phantom import draw_slide, draw_volume, write_pyramid_slide
from tests.corpus.tiff_files import ROWS
from tests.service.test_jobs import finished, handed_over, uploaded

VOLUME = nib.Nifti1Image(draw_volume((6, 8, 8), seed=0)[0][0].transpose(), np.eye(4)).to_bytes()
STARTED = ("-m service.engine.main", "-m imaging.reader_process")
ASKED = f"file -b {os.path.realpath(sys.executable)}"  # by croniter, which DBOS imports: whether Python is one of 32 bits
READ_BY_PYTHON = ["/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/mime.types", "/usr/share/zoneinfo"]


@pytest.fixture(scope="module")
def audit(bento: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audit]:
    code = run_python(f"import bentoml\nprint(bentoml.bentos.get({bento!r}).path_of('src'))", environment)
    with audited(bento, code, environment, tmp_path_factory.mktemp("audited")) as running:
        yield running


@pytest.fixture(scope="module")
def worked(audit: Audit, picture: bytes, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The same server after work, refusals and hostile files."""
    with httpx.Client(base_url=audit.url, timeout=60) as client:
        work(client, picture, tmp_path_factory.mktemp("slides"))
        refusals(client)
        indices(client, tmp_path_factory)
    return audit


def work(client: httpx.Client, picture: bytes, folder: Path) -> None:
    write_pyramid_slide(folder / "slide.tif", draw_slide((260, 300), seed=1)[0], spacing_um=0.25)
    slide = (folder / "slide.tif").read_bytes()
    for model, content in (("unet", picture), ("volume", VOLUME), ("fine", slide)):
        client.post(f"/v1/segment?model={model}", content=content).raise_for_status()
        job = finished(client, handed_over(client, uploaded(client, content), models=[model])["id"])
        assert job["state"] == "done"
        for result in job["results"]:
            client.get(f"/v1/jobs/{job['id']}/results/{result['name']}").raise_for_status()
        client.delete(f"/v1/jobs/{job['id']}").raise_for_status()
    client.post("/v1/compare?models=unet,window", content=picture).raise_for_status()
    every = {"formats": ["png", "tiff", "geojson", "ome-zarr", "dicom-seg"], "options": {"uncertainty": True, "tissue": True}}
    handed_over(client, uploaded(client, picture), **every)
    for path in ("/docs", "/openapi.json", "/v1/models", "/metrics", "/docs/assets/swagger-ui.css"):
        client.get(path).raise_for_status()


def refusals(client: httpx.Client) -> None:
    for place in ("http://127.0.0.1:9/", "http://192.0.2.1/image", "file:///etc/passwd", "/etc/passwd", "gopher://[::1]/"):
        answers = [
            client.post("/v1/jobs", json={"uploads": [place], "models": ["unet"]}),
            client.post("/v1/uploads", data={"file": place}),
            client.post("/v1/uploads", content=f"file={place}", headers={"Content-Type": "application/x-www-form-urlencoded"}),
            client.post("/v1/segment?model=unet", content=place.encode()),
            client.post("/v1/segment", params={"model": place}, content=b"x"),
            client.post("/v1/models", json={"tag": place}),
            client.get("/v1/models", headers={"Host": "elsewhere", "X-Forwarded-For": place, "Forwarded": f"for={place}"}),
        ]
        assert all(answer.status_code < 500 for answer in answers)
        assert all(answer.status_code >= 400 for answer in answers[:-1])


def indices(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Files that are about others: by name, alone, as an upload's data is."""
    for row in ROWS:
        if row.id.startswith(("S13", "S15", "S03")):
            content = row.build(tmp_path_factory.mktemp("index")).read_bytes()
            assert client.post("/v1/segment?model=unet", content=content).status_code < 500
            upload = client.put("/v1/uploads", content=content).raise_for_status().json()["id"]
            assert client.post("/v1/jobs", json={"uploads": [upload], "models": ["unet"]}).status_code < 500


def test_x16_nobody_is_connected_to(worked: Audit) -> None:
    assert [each for each in worked.of("connect") if each[0] != "AF_UNIX"] == []
    assert worked.of("name") == []


def test_s13_only_what_is_the_servers_own_is_read(worked: Audit, bento_home: Path) -> None:
    roots = [*own_roots(worked), str(bento_home), *python_roots(), *READ_BY_PYTHON]
    read = {path for (path,) in worked.of("read")}
    assert any(path.startswith(str(worked.store)) for path in read), "the hook saw nothing"
    assert sorted(outside(read, roots)) == []


def test_x16_only_what_is_the_servers_own_is_written(worked: Audit) -> None:
    written = {path for (path,) in worked.of("write")}
    assert any(path.startswith(str(worked.store)) for path in written), "the hook saw nothing"
    assert sorted(outside(written, [*own_roots(worked), "/dev/null"])) == []


def test_x16_only_the_engine_and_the_reader_are_started(worked: Audit) -> None:
    started = [command for (command,) in worked.of("start") if command != ASKED]
    assert all(any(own in command for own in STARTED) for command in started), started
    assert {own for own in STARTED if any(own in command for command in started)} == set(STARTED)
    assert len(worked.processes) > 10  # gateway, engine, reader, and one of its children for each file


def own_roots(audit: Audit) -> list[str]:
    return [str(audit.store), str(audit.folder / "requests"), str(audit.folder / "hook"), str(audit.folder / "pipe")]


def python_roots() -> list[str]:
    known = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    return sorted({*known, *(os.path.realpath(each) for each in known)})


def outside(paths: set[str], roots: list[str]) -> set[str]:
    def is_in(path: str, root: str) -> bool:
        return path == root or path.startswith(root.rstrip("/") + "/")

    return {path for path in map(os.path.normpath, paths) if not any(is_in(path, root) for root in roots)}
