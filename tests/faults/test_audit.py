"""Audit of the server under all kinds of work: its processes open, connect to and start only what is theirs.

All tests audit their servers (`tests/conftest.py`); this file has the work that could lead them astray.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from servers import start, stop, wait_until

from tests.audit.server_audit import SERVERS
from tests.audit.watch import ServerAudit
from tests.corpus.tiff_files import ROWS
from tests.phantom import draw_slide, draw_volume, write_pyramid_slide
from tests.service.jobs.test_jobs import finished, handed_over, uploaded

VOLUME = nib.Nifti1Image(draw_volume((6, 8, 8), seed=0)[0][0].transpose(), np.eye(4)).to_bytes()


@pytest.fixture(scope="module")
def client(bento: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("audited")
    settings = {"OVERTILE_STORE": str(folder / "store"), "OVERTILE_STORAGE_RESERVE_BYTES": "1"}
    process, url = start(bento, {**environment, **settings}, folder / "log")
    with httpx.Client(base_url=url, timeout=60) as opened:
        yield opened
    stop(process)


def test_x16_work(client: httpx.Client, picture: bytes, tmp_path: Path, audit: ServerAudit) -> None:
    write_pyramid_slide(tmp_path / "slide.tif", draw_slide((260, 300), seed=1)[0], spacing_um=0.25)
    slide = (tmp_path / "slide.tif").read_bytes()
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
    wait_until(lambda: set(audit.roles.values()) == set(SERVERS), timeout_s=5)
    assert len(audit.roles) > 10  # gateway, engine, reader, and one of its children for each file


def test_h08_addresses_in_the_place_of_images(client: httpx.Client) -> None:
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


def test_s13_files_that_are_about_others(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Check files that refer to others by name, uploaded alone."""
    for row in ROWS:
        if row.id.startswith(("S13", "S15", "S03")):
            content = row.build(tmp_path_factory.mktemp("index")).read_bytes()
            assert client.post("/v1/segment?model=unet", content=content).status_code < 500
            upload = client.put("/v1/uploads", content=content).raise_for_status().json()["id"]
            assert client.post("/v1/jobs", json={"uploads": [upload], "models": ["unet"]}).status_code < 500


@pytest.mark.parametrize(
    ("code", "report"),
    [
        ("import socket; socket.socket().connect_ex(('127.0.0.1', 9))", "connect ('127.0.0.1', 9)"),
        ("import socket; socket.getaddrinfo('localhost', 80)", "look up ('localhost', 80, 0, 0, 0)"),
        ("open('/etc/passwd')", "read /etc/passwd"),
        ("open('/etc/passwd', 'a')", "write /etc/passwd"),
        ("open('../beside', 'w')", "write {folder}/beside"),
        ("import sqlite3; sqlite3.connect('../beside')", "write {folder}/beside"),
        ("import subprocess; subprocess.run(['true'])", "start true"),
        ("import os; os.system('true')", "start (b'true',)"),
    ],
)
def test_violations_are_reported(tmp_path: Path, audit: ServerAudit, code: str, report: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    command = [sys.executable, "-c", code, "service.server"]  # by its name it is one
    environment = {**os.environ, "OVERTILE_STORE": str(own), "TMPDIR": str(own)}
    subprocess.run(command, cwd=own, env=environment, check=True, timeout=30)
    wait_until(lambda: bool(audit.violations), timeout_s=5)
    (line,) = audit.take_violations()
    assert line.endswith(f": {report.format(folder=tmp_path)}")
