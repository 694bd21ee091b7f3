"""Faulty files of the corpus over HTTP: refused with the code of their reader, and the server keeps working."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import MAX_BODY_BYTES, wait_until

from imaging.errors import BrokenImage, ImageTooLarge, UnsuitableImage
from tests.corpus.nifti_bytes import nifti
from tests.corpus.nifti_files import ROWS as VOLUMES
from tests.corpus.rows import Row
from tests.corpus.tiff_files import ROWS as SLIDES
from tests.imaging.dicom.test_dicom_whole_slide import FAULTS, slide
from tests.imaging.nifti.test_nifti_rows import KINDS as KINDS_OF_VOLUMES
from tests.imaging.test_slide_rows import KINDS as KINDS_OF_SLIDES
from tests.phantom import draw_slide, write_pyramid_slide

UNSUITABLE = ("channels_mismatch", "dimension_not_supported")  # sound, but for another model
KINDS = {**KINDS_OF_VOLUMES, **KINDS_OF_SLIDES, **dict.fromkeys(UNSUITABLE, UnsuitableImage), "image_too_large": ImageTooLarge}
OVER_HTTP = {  # where another check comes first, or a file has no neighbours
    "S01-empty": "body_empty",
    "S10-float-nan": "channels_mismatch",
    "S13-mrxs": None,  # without its folder, a picture
}
NOT_A_FILES = {"N25": "a model says nothing of the intensities that it takes, so none can be wrong for it"}
SECRETS = ("DOE", "JOHN", "1234567", "passwd", "secret")


def first_of_each(rows: list[Row]) -> list[Row]:
    """Return one row of each fault."""
    return list({row.id.split("-")[0]: row for row in reversed(rows)}.values())[::-1]


def parametrized(rows: list[Row]) -> Any:
    few = {row.id for row in first_of_each(rows)}
    return pytest.mark.parametrize(
        "row", [pytest.param(row, id=row.id, marks=[] if row.id in few else [pytest.mark.slow]) for row in rows]
    )


@pytest.fixture(scope="module")
def good(client: httpx.Client, picture: bytes) -> bytes:
    return client.post("/v1/segment?model=unet", content=picture).raise_for_status().content


@pytest.fixture(autouse=True)
def _still_serving(client: httpx.Client, picture: bytes, good: bytes) -> Iterator[None]:
    yield
    assert client.get("/readyz").status_code == 200
    assert client.post("/v1/segment?model=unet", content=picture).content == good


@parametrized(VOLUMES)
def test_volumes(client: httpx.Client, tmp_path: Path, row: Row) -> None:
    check(client, row.build(tmp_path).read_bytes(), "volume", OVER_HTTP.get(row.id, row.code))


@parametrized(SLIDES)
def test_slides(client: httpx.Client, tmp_path: Path, row: Row) -> None:
    check(client, row.build(tmp_path).read_bytes(), "unet", OVER_HTTP.get(row.id, row.code))


@pytest.mark.parametrize("fault", NOT_A_FILES)
def test_what_can_not_be_sent(fault: str) -> None:
    pytest.skip(NOT_A_FILES[fault])


def test_n26_channels_that_do_not_lie_alike(client: httpx.Client) -> None:
    files = [nifti(), nifti(dim=(3, 6, 5, 7, 1, 1, 1, 1))]
    assert code_of_job(client, files, "volume") == "channel_geometry_mismatch"
    assert code_of_job(client, [nifti(), nifti()], "volume") == "channels_mismatch"


def test_s12_resolutions(client: httpx.Client, tmp_path: Path, picture: bytes) -> None:
    write_pyramid_slide(tmp_path / "slide", draw_slide((260, 300), seed=1)[0], spacing_um=5.0)
    assert code_of_job(client, [(tmp_path / "slide").read_bytes()], "fine") == "spacing_mismatch"
    assert code_of_job(client, [picture], "fine") == "resolution_unknown"
    assert client.post("/v1/segment?model=fine&spacing_um=0.25", content=picture).status_code == 200
    for wrong in ("nan", "inf", "-1", "0", "1,2,3,4", "1e400", "x"):
        assert client.post(f"/v1/segment?model=fine&spacing_um={wrong}", content=picture).status_code in (400, 422)


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_s17_slides_of_dicom(client: httpx.Client, tmp_path: Path, number: int) -> None:
    edit, _, code = FAULTS[number]
    files = [path.read_bytes() for path in sorted(slide(tmp_path / "slide", edit=edit).iterdir())]
    assert code_of_job(client, files, "unet") == code


def code_of_job(client: httpx.Client, files: list[bytes], model: str) -> str:
    """Return the error code of a job of several files that fails."""
    uploads = [client.put("/v1/uploads", content=content).raise_for_status().json()["id"] for content in files]
    answer = client.post("/v1/jobs", json={"uploads": uploads, "models": [model]})
    if answer.status_code != 202:
        assert answer.status_code in (400, 413, 415, 422)
        return str(answer.json()["error"]["code"])
    job_id = answer.json()["id"]
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] in ("done", "failed"), timeout_s=60)
    return str(client.get(f"/v1/jobs/{job_id}").json()["error"]["code"])


def check(client: httpx.Client, content: bytes, model: str, code: str | None) -> None:
    """Send a file as a request and as a job, and check both answers."""
    directly = client.post(f"/v1/segment?model={model}", content=content)
    if len(content) > MAX_BODY_BYTES:
        assert_code(directly, "body_too_large", 413)
    else:
        check_answer(directly, code)
    uploaded = client.put("/v1/uploads", content=content)
    if not content:
        assert_code(uploaded, "body_empty", 400)
        return
    wanted = {"uploads": [uploaded.raise_for_status().json()["id"]], "models": [model]}
    accepted = client.post("/v1/jobs", json=wanted)
    if accepted.status_code != 202:
        check_answer(accepted, code)
        return
    check_end(client, accepted.json()["id"], code)


def check_answer(response: httpx.Response, code: str | None) -> None:
    if code is not None:
        assert_code(response, code, KINDS.get(code, BrokenImage).status)
    elif response.status_code != 200:
        assert response.status_code == 422
        assert response.json()["error"]["code"] in UNSUITABLE


def check_end(client: httpx.Client, job_id: str, code: str | None) -> None:
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] in ("done", "failed"), timeout_s=60)
    job = client.get(f"/v1/jobs/{job_id}")
    assert not any(secret in job.text for secret in SECRETS)
    error = job.json()["error"]
    assert error["code"] == code if code else error is None or error["code"] in UNSUITABLE


def assert_code(response: httpx.Response, code: str, status: int) -> None:
    assert (response.json()["error"]["code"], response.status_code) == (code, status)
    assert not any(secret in response.text for secret in SECRETS)
