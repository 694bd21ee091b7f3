"""Privacy: words that stand for patients' names, in every field of requests and files, must not appear elsewhere.

A file's own name is told to whoever sent it, as that job's; a request's ID is logged, where it is one. All else stays inside.
"""

import base64
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from servers import Server, wait_until

from service.http.request_log import FIELDS
from tests.corpus.nifti_bytes import extension, nifti
from tests.corpus.tiff_bytes import DESCRIPTION, XMP, page, tiff
from tests.imaging.dicom_objects import write_series
from tests.service.jobs.test_jobs import finished, handed_over, uploaded

WORD = "KANARI"
HOSTILE = f'{WORD}^JOHN \x1b[31m%s%n{{}}${{x}}"}}'  # escapes, format strings, the end of a JSON
MOST_LINE_BYTES = 8 * 1024
KEYS = {"time", "level", "logger", "message", *FIELDS}
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass
class Came:
    """All answers of the server, except those that may contain a name."""

    errors: list[httpx.Response] = field(default_factory=list)
    results: list[bytes] = field(default_factory=list)
    requests: int = 0


@pytest.fixture(scope="module")
def came(server: Server, picture: bytes, tmp_path_factory: pytest.TempPathFactory) -> Came:
    """Send everything, have it processed and deleted, and return the answers."""
    found = Came()
    hooks: Any = {"response": [lambda response: count(found, response)]}
    with httpx.Client(base_url=server.url, timeout=60, event_hooks=hooks) as client:
        errors(client, found, picture)
        for model, files in images(tmp_path_factory.mktemp("images"), picture).values():
            results(client, found, model, files)
        marker = client.get("/v1/models").headers["x-request-id"]
        wait_until(lambda: marker in server.log.read_text(), timeout_s=5)
        found.results.append(client.get("/metrics").content)
    return found


def count(found: Came, response: httpx.Response) -> None:
    found.requests += 1


def errors(client: httpx.Client, found: Came, picture: bytes) -> None:
    """Send requests with a word in each part, which are refused."""
    word, headers = {"word": WORD}, {"Content-Type": "application/json"}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/{WORD}", {}),
        ("GET", f"/v1/jobs/{WORD}", {}),
        ("GET", f"/v1/jobs/{'0' * 32}/results/{WORD}", {}),
        ("GET", f"/v1/uploads/{WORD}%0d%0aX-Evil: {WORD}", {}),
        ("DELETE", f"/v1/models/{WORD}", {}),
        ("POST", "/v1/models", {"json": {"tag": f"{WORD}:{WORD}"}}),
        ("POST", "/v1/models", {"json": {"tag": f"{WORD.lower()}:{WORD.lower()}"}}),
        ("GET", "/v1/models", {"params": {WORD: WORD}}),
        ("GET", "/v1/jobs", {"params": {"state": HOSTILE}}),
        ("POST", "/v1/segment", {"params": {"model": HOSTILE}, "content": picture}),
        ("POST", "/v1/segment", {"params": {"model": "unet", "format": WORD}, "content": picture}),
        ("POST", "/v1/segment", {"params": {"model": "fine", "spacing_um": WORD}, "content": picture}),
        ("POST", "/v1/segment", {"params": {"model": "unet"}, "content": HOSTILE.encode()}),
        ("POST", "/v1/segment", {"params": {"model": "unet"}, "content": b"x", "headers": {"Content-Encoding": WORD}}),
        ("POST", "/v1/compare", {"params": {"models": f"{WORD},unet"}, "content": picture}),
        ("POST", "/v1/uploads", {"headers": {**TUS, "Upload-Length": WORD}}),
        ("POST", "/v1/uploads", {"headers": {**TUS, "Upload-Length": "9", "Upload-Metadata": f"filename {WORD}!"}}),
        ("POST", "/v1/uploads", {"headers": {**TUS, "Upload-Length": "9", "Upload-Checksum": WORD}, "content": b"x"}),
        ("POST", "/v1/uploads", {"headers": {"Tus-Resumable": WORD}}),
        ("POST", "/v1/uploads", {"data": word, "files": {WORD: (f"{WORD}.svs", b""), "b": (WORD, b"x")}}),
        ("PUT", "/v1/uploads", {"content": b"x", "headers": {"Content-Digest": f"sha-256=:{WORD}:"}}),
        ("PUT", "/v1/uploads", {"content": b"x", "headers": {"X-Content-SHA256": WORD}}),
        ("POST", "/v1/jobs", {"json": {"uploads": [WORD], "models": [WORD], WORD: WORD}}),
        ("POST", "/v1/jobs", {"json": {"uploads": ["0" * 32], "models": [HOSTILE]}, "headers": {"Idempotency-Key": WORD}}),
        ("POST", "/v1/jobs", {"json": {}, "headers": {"Idempotency-Key": f"{WORD} {WORD}"}}),
        ("POST", "/v1/jobs", {"content": HOSTILE.encode(), "headers": headers}),
        ("POST", "/v1/jobs", {"content": b"{}", "headers": {"Content-Type": f"text/{WORD}"}}),
        ("POST", "/v1/jobs", {"content": WORD.encode() * 200_000, "headers": headers}),
    ]
    around = {"User-Agent": WORD, "Referer": WORD, "Cookie": WORD, "X-Request-ID": f"{WORD} {WORD}", "Authorization": WORD}
    for method, url, words in asked:
        response = client.request(method, url, **{**words, "headers": {**around, **words.get("headers", {})}})
        assert 400 <= response.status_code < 500, (method, url, response.text)
        found.errors.append(response)


def images(folder: Path, picture: bytes) -> dict[str, tuple[str, list[bytes]]]:
    """Return a model and valid files for it, with words in all their fields for text."""
    word = WORD.encode()
    text, exif, stream = PngInfo(), Image.Exif(), io.BytesIO()
    text.add_text("Comment", WORD)
    text.add_itxt(WORD, WORD, zip=True)
    exif[0x010E] = WORD
    Image.open(io.BytesIO(picture)).save(stream, "png", pnginfo=text, exif=exif)
    fields = {"descrip": word, "aux_file": word, "intent_name": word}
    series = write_series(
        folder / "series", np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7), np.eye(4), edit=name_patient
    )
    return {
        "png": ("unet", [stream.getvalue()]),
        "tiff": ("unet", [tiff([page(**{f"t_{DESCRIPTION}": ("s", word + b"\0"), f"t_{XMP}": ("s", word + b"\0")})])]),
        "nifti": ("volume", [nifti(**fields)]),
        "nifti with an extension": ("volume", [nifti(extensions=b"\1\0\0\0" + extension(64, word), **fields)]),
        "dicom": ("volume", [path.read_bytes() for path in sorted(series.iterdir())]),
    }


def name_patient(index: int, dataset: Any) -> None:
    dataset.PatientName, dataset.PatientID, dataset.StudyDescription = f"{WORD}^JOHN", WORD, WORD
    dataset.InstitutionName = dataset.ReferringPhysicianName = dataset.SeriesDescription = WORD


def results(client: httpx.Client, found: Came, model: str, files: list[bytes]) -> None:
    """Fetch all results of the files, and delete the jobs."""
    if len(files) == 1:
        found.results.append(client.post(f"/v1/segment?model={model}", content=files[0]).raise_for_status().content)
    formats = ["png", "tiff", "geojson"] if model == "unet" else ["nifti", "tiff"]
    uploads = [named_upload(client, files[0]), *(uploaded(client, content) for content in files[1:])]
    job = handed_over(
        client, *uploads, models=[model], formats=formats, headers={"Idempotency-Key": f"{WORD}-{len(found.results)}"}
    )
    ended = finished(client, job["id"])
    assert ended["state"] == "done", ended["error"]
    for result in ended["results"]:
        answer = client.get(f"/v1/jobs/{job['id']}/results/{result['name']}")
        found.results += [answer.raise_for_status().content, str(answer.headers).encode()]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    for upload in uploads:
        assert client.delete(f"/v1/uploads/{upload}").status_code == 204


def named_upload(client: httpx.Client, content: bytes) -> str:
    name = base64.b64encode(f"{WORD}.svs".encode()).decode()
    headers = {**TUS, "Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name},{WORD} {name}"}
    created = client.post("/v1/uploads", headers=headers).raise_for_status().headers["location"]
    kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    client.patch(created, content=content, headers={**TUS, **kind}).raise_for_status()
    assert client.get(created).json()["filename"] == f"{WORD}.svs"
    return str(created.rsplit("/", 1)[1])


def has_word(content: bytes) -> bool:
    return WORD.encode() in content.upper() or base64.b64encode(WORD.encode()) in content


def test_x11_not_in_errors(came: Came) -> None:
    for response in came.errors:
        assert not has_word(response.content), response.text
        assert not has_word(str(response.headers).encode())


def test_x12_errors_say_nothing_of_the_inside(came: Came) -> None:
    inside = re.compile(r"/[a-z]+/[a-z]+/|\.py|Error|Exception|Traceback|pydantic|starlette|0x[0-9a-f]{6}|python")
    for response in came.errors:
        error = response.json()["error"]
        assert {"code", "message", "request_id"} <= set(error) <= {"code", "message", "request_id", "field", "limit"}
        assert not inside.search(error["code"] + error["message"]), error


def test_x11_not_in_results_and_metrics(came: Came) -> None:
    assert len(came.results) > 20
    assert not any(has_word(content) for content in came.results)


def test_x11_not_on_the_disk_afterwards(came: Came, server: Server) -> None:
    assert list(server.folder.iterdir()) == [] or not found_in(server.folder)
    assert found_in(server.folder.parent / "store") == []


def found_in(folder: Path) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if has_word(str(path).encode()) or (path.is_file() and has_word(path.read_bytes()))
    ]


def test_x10_the_log_has_a_line_an_event(came: Came, server: Server) -> None:
    lines = server.log.read_text().splitlines()
    assert not has_word(server.log.read_bytes())
    for told in map(json.loads, lines):
        assert {"time", "level", "logger", "message"} <= set(told) <= KEYS
    assert max(map(len, lines)) <= MOST_LINE_BYTES
    assert all(line.isprintable() for line in lines)
    assert len(lines) >= came.requests - sum("/readyz" in line for line in lines)
