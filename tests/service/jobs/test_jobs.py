"""Jobs over HTTP: handed over, followed, fetched, called off, refused."""

import base64
import gzip
import hashlib
import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
from PIL import Image
from servers import Server, run_python, wait_until

JSON = {"content-type": "application/json"}


def uploaded(client: httpx.Client, content: bytes) -> str:
    response = client.put("/v1/uploads", content=content)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def handed_over(client: httpx.Client, *uploads: str, headers: dict[str, str] | None = None, **words: Any) -> dict[str, Any]:
    response = client.post("/v1/jobs", json={"uploads": list(uploads), "models": ["unet"], **words}, headers=headers)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    return dict(response.json())


def finished(client: httpx.Client, job_id: str, timeout_s: float = 60) -> dict[str, Any]:
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] in ("done", "failed", "cancelled"), timeout_s=timeout_s)
    return dict(client.get(f"/v1/jobs/{job_id}").json())


@pytest.fixture(scope="module")
def done(client: httpx.Client, picture: bytes) -> dict[str, Any]:
    answer = finished(client, handed_over(client, uploaded(client, picture))["id"])
    assert answer["state"] == "done", answer
    return answer


def test_a_job_gives_the_mask_that_the_direct_route_gives(client: httpx.Client, done: dict[str, Any], picture: bytes) -> None:
    result, summary = done["results"]
    assert (result["name"], summary["name"]) == ("mask.png", "mask_summary.json")
    assert summary["media_type"] == "application/json"
    assert (done["progress"], done["error"], done["position"]) == (1, None, None)
    assert done["created_at"] <= done["started_at"] <= done["finished_at"] < done["expires_at"]
    mask = client.get(f"/v1/jobs/{done['id']}/results/mask.png")
    assert mask.content == client.post("/v1/segment?model=unet", content=picture).content
    assert mask.headers["etag"] == f'"{hashlib.sha256(mask.content).hexdigest()}"' == f'"{result["sha256"]}"'
    digest = base64.b64encode(hashlib.sha256(mask.content).digest()).decode()
    assert mask.headers["content-digest"] == f"sha-256=:{digest}:"
    assert len(mask.content) == result["bytes"]


def test_parts_of_a_result(client: httpx.Client, done: dict[str, Any]) -> None:
    url = f"/v1/jobs/{done['id']}/results/mask.png"
    whole = client.get(url)
    part = client.get(url, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert "content-digest" not in part.headers
    assert part.headers["repr-digest"] == whole.headers["repr-digest"]
    beyond = client.get(url, headers={"range": "bytes=99999999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")
    assert beyond.json()["error"]["code"] == "range_not_satisfiable"
    assert client.get(url, headers={"range": "bytes=99999999-", "if-range": '"another"'}).status_code == 200
    for wrong in ("bytes=9-3", "bytes=a-", "bytes=-", "lines=1-2", "bytes"):
        refused = client.get(url, headers={"range": wrong})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "range_invalid")
    assert client.get(url, headers={"range": "bytes=0-1, 5-6"}).status_code == 206
    assert client.get(url, headers={"if-none-match": "*"}).status_code == 304
    assert client.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    assert client.get(url, headers={"if-none-match": '"another"'}).status_code == 200
    head = client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


def test_events_end_with_the_job(client: httpx.Client, picture: bytes) -> None:
    job = handed_over(client, uploaded(client, picture))
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    states = [json.loads(line)["state"] for line in lines]
    assert states[-1] == "done"
    assert states == sorted(states, key=["queued", "running", "done"].index)


def test_a_key_of_the_clients_own_is_accepted_once(client: httpx.Client, picture: bytes) -> None:
    upload = uploaded(client, picture)
    with ThreadPoolExecutor(16) as pool:
        jobs = list(pool.map(lambda _: handed_over(client, upload, headers={"idempotency-key": "once"}), range(16)))
    assert len({job["id"] for job in jobs}) == 1
    body = {"uploads": [upload], "models": ["window"]}
    conflict = client.post("/v1/jobs", json=body, headers={"idempotency-key": "once"})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert finished(client, jobs[0]["id"])["state"] == "done"


def test_several_models_and_formats(client: httpx.Client, picture: bytes) -> None:
    words = {"models": ["unet", "window"], "formats": ["png", "tiff"]}
    answer = finished(client, handed_over(client, uploaded(client, picture), **words)["id"])
    assert {each["name"] for each in answer["results"]} == {
        *("unet.png", "unet.tiff", "unet_summary.json"),
        *("window.png", "window.tiff", "window_summary.json"),
    }


def test_a_job_warns_of_an_image_that_the_model_is_uncertain_of(client: httpx.Client, picture: bytes) -> None:
    answers = {}
    for model in ("unet", "three"):  # three has a threshold that no image reaches
        job = handed_over(client, uploaded(client, picture), models=[model])
        answers[model] = finished(client, job["id"])["warnings"]
    assert answers == {"unet": [], "three": ["low_confidence"]}


def test_a_comparison_in_several_formats_is_of_two_models(client: httpx.Client, picture: bytes) -> None:
    words = {"models": ["unet", "window"], "options": {"kind": "compare"}}
    one, two = (
        finished(client, handed_over(client, uploaded(client, picture), **words, formats=formats)["id"])
        for formats in (["png"], ["png", "tiff"])
    )
    sums = [{each["name"]: each["sha256"] for each in answer["results"]} for answer in (one, two)]
    assert set(sums[1]) - set(sums[0]) == {"unet.tiff", "window.tiff"}
    agreement = [client.get(f"/v1/jobs/{answer['id']}/results/comparison.json").json()["agreement"] for answer in (one, two)]
    assert agreement[0] == agreement[1] < 1
    assert sums[0]["disagreement.png"] == sums[1]["disagreement.png"]


def test_channels_in_several_files(client: httpx.Client, picture: bytes) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(picture)))
    uploads = []
    for channel in range(3):
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., channel]).save(buffer, "png")
        uploads.append(uploaded(client, buffer.getvalue()))
    answer = finished(client, handed_over(client, *uploads)["id"])
    together = finished(client, handed_over(client, uploaded(client, picture))["id"])
    assert answer["results"][0]["sha256"] == together["results"][0]["sha256"]


def test_the_files_of_a_dicom_series(client: httpx.Client, tmp_path: Path) -> None:
    from tests.imaging.dicom_objects import write_series

    voxels = np.random.default_rng(0).integers(0, 1000, (20, 24, 16)).astype(np.int16)
    write_series(tmp_path, voxels, np.diag([2.0, 2.0, 3.0, 1.0]))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 16
    uploads = [uploaded(client, file.read_bytes()) for file in reversed(files)]  # their order says nothing
    answer = finished(client, handed_over(client, *uploads, models=["volume"], formats=["nifti", "dicom-seg"])["id"])
    assert answer["state"] == "done", answer
    assert {each["name"] for each in answer["results"]} == {"mask.nii.gz", "mask.dcm", "mask_summary.json"}
    mask = client.get(f"/v1/jobs/{answer['id']}/results/mask.nii.gz").content
    assert nibabel.Nifti1Image.from_bytes(gzip.decompress(mask)).shape in ((20, 24, 16), (24, 20, 16))


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b"{", 400, "json_invalid", None),
        (b"\xff\xfe{\x00}\x00", 400, "json_invalid", None),
        (b"[" * 200_000, 400, "json_invalid", None),
        (b'{"uploads": [], "models": ["unet"]}', 400, "parameter_invalid", "uploads"),
        (b'{"models": ["unet"]}', 400, "parameter_missing", "uploads"),
        (b'{"uploads": ["/etc/passwd"], "models": ["unet"]}', 400, "parameter_invalid", "uploads"),
        (b'{"uploads": ["http://127.0.0.1/"], "models": ["unet"]}', 400, "parameter_invalid", "uploads"),
        (b'{"uploads": ["%s"], "models": ["unet"]}', 404, "upload_not_found", None),
        (b'{"uploads": ["%s"], "models": ["none"]}', 404, "upload_not_found", None),
        (b'{"uploads": ["%s"], "models": ["unet"], "secret_field": 1}', 400, "field_unknown", None),
        (b'{"uploads": ["%s"], "models": ["unet"], "options": {"kind": "x"}}', 400, "parameter_invalid", "kind"),
        (
            b'{"uploads": ["%s"], "models": ["unet"], "options": {"spacing_um": [1e999]}}',
            400,
            "parameter_invalid",
            "spacing_um",
        ),
        (b'{"uploads": ["%s"], "models": ["unet"], "options": {"spacing_um": [NaN]}}', 400, "parameter_invalid", "spacing_um"),
        (b'{"uploads": ["%s"], "models": ["unet"], "formats": ["exe"]}', 400, "parameter_invalid", "formats"),
        (b" " * (2**20 + 1), 413, "body_too_large", None),
    ],
)
def test_h09_bodies_that_are_refused(client: httpx.Client, body: bytes, status: int, code: str, field: str | None) -> None:
    response = client.post("/v1/jobs", content=body.replace(b"%s", b"0" * 32), headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error.get("field")) == (status, code, field)
    assert "secret_field" not in response.text
    assert "passwd" not in response.text


def test_h10_the_body_has_to_be_json(client: httpx.Client) -> None:
    for content_type in ("text/plain", "application/vnd.bentoml+pickle", "application/x-www-form-urlencoded"):
        response = client.post("/v1/jobs", content=b"{}", headers={"content-type": content_type})
        assert (response.status_code, response.json()["error"]["code"]) == (415, "content_type_not_supported")


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        ({"models": ["none"]}, 404, "model_not_found"),
        ({"models": ["unet", "unet"]}, 400, "parameter_invalid"),
        ({"models": ["volume"]}, 422, "dimension_not_supported"),
        ({"models": ["fine"]}, 422, "resolution_unknown"),
        ({"models": ["unet", "three"], "options": {"as_ensemble": True}}, 422, "classes_differ"),
        ({"models": ["unet"], "options": {"kind": "compare"}}, 422, "comparison_not_possible"),
        (
            {"models": ["unet", "window"], "formats": ["geojson"], "options": {"kind": "compare"}},
            422,
            "comparison_not_possible",
        ),
    ],
)
def test_jobs_that_cant_be_meant(client: httpx.Client, picture: bytes, words: dict[str, Any], status: int, code: str) -> None:
    response = client.post("/v1/jobs", json={"uploads": [uploaded(client, picture)], **words})
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_file_that_is_no_image_is_refused_before_a_job_is_accepted(client: httpx.Client, server: Server) -> None:
    response = client.post("/v1/jobs", json={"uploads": [uploaded(client, b"no image")], "models": ["unet"]})
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_format")
    records = [folder for folder in (server.folder.parent / "store" / "jobs").iterdir() if not (folder / "job.json").exists()]
    assert records == []


@pytest.mark.parametrize("job_id", ["0" * 32, "..", "x", "1" * 1000, "'; drop table", "%00"])
def test_h14_ids_that_are_nobodys(client: httpx.Client, job_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/results/mask.png")):
        response = client.request(method, f"/v1/jobs/{job_id}{path}")
        assert response.status_code == 404
        assert response.json()["error"]["code"] in ("job_not_found", "not_found")


def test_h15_results_before_and_beside(client: httpx.Client, done: dict[str, Any], big_picture: bytes) -> None:
    assert client.get(f"/v1/jobs/{done['id']}/results/..%2Fjob.json").status_code == 404
    unknown = client.get(f"/v1/jobs/{done['id']}/results/other.png")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "result_not_found")
    job = handed_over(client, uploaded(client, big_picture), models=["window"])
    early = client.get(f"/v1/jobs/{job['id']}/results/mask.png")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_finished")
    began = time.monotonic()
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 202
    assert finished(client, job["id"])["state"] == "cancelled"
    assert time.monotonic() - began < 10
    late = client.get(f"/v1/jobs/{job['id']}/results/mask.png")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "job_failed")
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_a_job_that_ended_while_it_was_to_be_called_off_stays(client: httpx.Client, picture: bytes) -> None:
    job = finished(client, handed_over(client, uploaded(client, picture))["id"])
    url = f"/v1/jobs/{job['id']}"
    kept = client.delete(f"{url}?keep=true")
    assert (kept.status_code, kept.json()["error"]["code"]) == (409, "job_finished")
    assert client.get(f"{url}/results/mask.png").status_code == 200
    wrong = client.delete(f"{url}?keep=perhaps")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "keep")
    assert client.delete(url).status_code == 204


def test_p10_a_result_that_was_changed_on_the_disk(client: httpx.Client, server: Server, picture: bytes) -> None:
    job = finished(client, handed_over(client, uploaded(client, picture))["id"])
    path = server.folder.parent / "store" / "jobs" / job["id"] / "results" / "mask.png"
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:-1] + b"x"):
        path.write_bytes(content)
        response = client.get(f"/v1/jobs/{job['id']}/results/mask.png")
        assert (response.status_code, response.json()["error"]["code"]) == (409, "result_damaged")
    path.unlink()
    assert client.get(f"/v1/jobs/{job['id']}/results/mask.png").status_code == 409


def test_jobs_are_listed_newest_first(client: httpx.Client, done: dict[str, Any]) -> None:
    jobs = client.get("/v1/jobs?limit=1000").json()["jobs"]
    assert done["id"] in [job["id"] for job in jobs]
    times = [job["created_at"] for job in jobs]
    assert times == sorted(times, reverse=True)
    assert all(job["state"] == "failed" for job in client.get("/v1/jobs?state=failed").json()["jobs"])
    wrong = client.get("/v1/jobs?limit=0")
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "limit")


def test_what_prometheus_reads(client: httpx.Client, done: dict[str, Any]) -> None:
    text = client.get("/metrics").text
    again = client.get("/metrics").text
    for name in ("requests_total", "jobs_finished_total", "tiles_total", "engine_memory_bytes", "jobs_waiting", "errors_total"):
        assert f"\novertile_{name}" in again
    assert 'route="/v1/jobs/{job_id}"' in again
    assert done["id"] not in text + again


@pytest.fixture(autouse=True)
def _still_serving(client: httpx.Client) -> Iterator[None]:
    yield
    assert client.get("/readyz").status_code == 200


def test_the_gateway_knows_no_torch_and_no_images(environment: dict[str, str], tmp_path: Path) -> None:
    heavy = ("torch", "nibabel", "tifffile", "openslide", "PIL", "pydicom", "cv2", "imagecodecs")
    code = f"import sys, service.gateway, service.server\nprint([name for name in {heavy} if name in sys.modules])"
    assert run_python(code, environment) == "[]"


def test_answers_dont_wait_for_acknowledgements(environment: dict[str, str]) -> None:
    code = """
import socket
from service.server import listen
with listen("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
    print(listening.accept()[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
"""
    assert run_python(code, environment) != "0"
