"""Files arrive whole over a real socket, by tus, by PUT and as a form; and what is known of them is right."""

import base64
import hashlib
import itertools
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upload_server import (
    CHECKOUT,
    LIMITS,
    PIECE,
    TUS,
    UploadServer,
    begin,
    check_error,
    offset_of,
    send,
)

from service.errors import Conflict, UnknownUpload
from service.http.forms import clean_filename
from service.limits import ServiceLimits
from service.store import Store, new_id
from service.uploads.registry import Uploads

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(Store(tmp_path / "store"), ServiceLimits(storage_reserve_bytes=1, upload_expires_s=3600))


def whole(client: httpx.Client, url: str) -> dict[str, object]:
    known: dict[str, object] = client.get(url).raise_for_status().json()
    return known


def digest(algorithm: str, content: bytes) -> str:
    return base64.b64encode(hashlib.new(algorithm, content).digest()).decode()


def put_into(uploads: Uploads, content: bytes, owner: str = "local") -> str:
    fresh = uploads.begin(owner, len(content))
    fresh.write(content)
    fresh.finish("name", None)
    fresh.release()
    return fresh.upload_id


def resume(uploads: Uploads, upload_id: str, offset: int, content: bytes) -> None:
    resumed = uploads.resume(upload_id, "local", offset)
    resumed.write(content)
    resumed.finish()
    resumed.release()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=5000), cuts=st.lists(st.integers(0, 5000), max_size=5))
def test_pieces_are_the_file(client: httpx.Client, content: bytes, cuts: list[int]) -> None:
    url = begin(client, len(content))
    places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    for start, stop in itertools.pairwise(places):
        assert offset_of(client, url) == start
        assert send(client, url, start, content[start:stop]).headers["upload-offset"] == str(stop)
    known = whole(client, url)
    assert known["sha256"] == hashlib.sha256(content).hexdigest()
    assert (known["bytes"], known["received"], known["complete"]) == (len(content), len(content), True)


STEPS = st.lists(st.tuples(st.integers(1, 99), st.none() | st.integers(0, 99), st.booleans()), max_size=5)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_what_counts_is_what_is_on_the_disk(uploads: Uploads, steps: list[tuple[int, int | None, bool]]) -> None:
    """Pieces come, the file gets shorter as after a failure of power, the server starts again."""
    content = CONTENT[:200]
    upload_id = uploads.create("local", len(content)).upload_id
    path = uploads._path(upload_id)  # there is no public way: it isn't complete
    for size, shorter, restart in [*steps, (200, None, False)]:
        offset = uploads.find(upload_id, "local").received_bytes
        resume(uploads, upload_id, offset, content[offset : offset + size])
        if shorter is not None:
            path.write_bytes(path.read_bytes()[:shorter])
        if restart:
            uploads = Uploads(uploads._store, uploads._limits)
    assert uploads.find(upload_id, "local").sha256 == hashlib.sha256(content).hexdigest()
    assert uploads.data_of(upload_id, "local").read_bytes() == content


def test_what_tus_is_told(client: httpx.Client) -> None:
    response = client.options("/v1/uploads")
    assert response.status_code == 204
    assert response.headers["tus-version"] == response.headers["tus-resumable"] == "1.0.0"
    assert response.headers["tus-extension"] == "creation,creation-with-upload,termination,checksum,expiration"
    assert response.headers["tus-max-size"] == str(LIMITS["max_upload_bytes"])
    assert response.headers["tus-checksum-algorithm"] == "sha256,sha1"


def test_head_says_where_to_go_on(client: httpx.Client) -> None:
    name = base64.b64encode("schnitt ä.svs".encode()).decode()
    url = begin(client, 100, **{"Upload-Metadata": f"filename {name},other,third {name}"})
    response = send(client, url, 0, bytes(60))
    assert (response.status_code, response.content) == (204, b"")
    head = client.head(url, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("60", "100")
    assert head.headers["cache-control"] == "no-store"
    assert head.headers["tus-resumable"] == "1.0.0"
    assert head.headers["upload-metadata"] == f"filename {name}"
    expires_s = parsedate_to_datetime(head.headers["upload-expires"]).timestamp()
    assert abs(expires_s - time.time() - 24 * 3600) < 60
    known = whole(client, url)
    assert (known["received"], known["complete"], known["sha256"]) == (60, False, None)
    assert known["filename"] == "schnitt ä.svs"


def test_creation_with_upload(client: httpx.Client) -> None:
    part = client.post("/v1/uploads", content=CONTENT[:99], headers={**PIECE, "Upload-Length": str(len(CONTENT))})
    assert (part.status_code, part.headers["upload-offset"]) == (201, "99")
    assert send(client, part.headers["location"], 99, CONTENT[99:]).status_code == 204
    assert whole(client, part.headers["location"])["sha256"] == SHA256
    at_once = client.post("/v1/uploads", content=CONTENT, headers={**PIECE, "Upload-Length": str(len(CONTENT))})
    assert at_once.json()["sha256"] == SHA256


def test_termination(client: httpx.Client, server: UploadServer) -> None:
    url = begin(client, 100)
    assert client.delete(url, headers=TUS).status_code == 204
    assert not (server.store / "uploads" / url.rsplit("/", 1)[1]).exists()
    check_error(client.get(url), 404, "upload_not_found")
    check_error(client.delete(url), 404, "upload_not_found")
    check_error(send(client, url, 0, b"more"), 404, "upload_not_found")
    assert client.head(url, headers=TUS).status_code == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha1"])
def test_checksum(client: httpx.Client, algorithm: str) -> None:
    url = begin(client, len(CONTENT))
    wrong = send(client, url, 0, CONTENT[:500], **{"Upload-Checksum": f"{algorithm} {digest(algorithm, b'other')}"})
    check_error(wrong, 460, "checksum_mismatch")
    assert offset_of(client, url) == 0
    for start, stop in ((0, 500), (500, len(CONTENT))):
        piece = CONTENT[start:stop]
        right = send(client, url, start, piece, **{"Upload-Checksum": f"{algorithm} {digest(algorithm, piece)}"})
        assert right.status_code == 204
        if start == 0:
            wrong = send(client, url, 500, CONTENT[:9], **{"Upload-Checksum": f"{algorithm} {digest(algorithm, b'')}"})
            check_error(wrong, 460, "checksum_mismatch")
    assert whole(client, url)["sha256"] == SHA256


def test_a_creation_with_a_wrong_checksum_leaves_nothing(client: httpx.Client, server: UploadServer) -> None:
    before = set(server.uploads)
    headers = {**PIECE, "Upload-Length": "9", "Upload-Checksum": f"sha256 {digest('sha256', b'other')}"}
    check_error(client.post("/v1/uploads", content=b"something", headers=headers), 460, "checksum_mismatch")
    assert set(server.uploads) == before


def test_an_empty_piece_at_the_end_changes_nothing(client: httpx.Client) -> None:
    url = begin(client, 5)
    send(client, url, 0, b"hello")
    assert send(client, url, 5, b"").headers["upload-offset"] == "5"
    assert whole(client, url)["sha256"] == hashlib.sha256(b"hello").hexdigest()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Digest": f"sha-512=:AAAA:, sha-256=:{digest('sha256', CONTENT)}:"},
        {"X-Content-SHA256": SHA256.upper()},
        {"Content-Digest": f"sha-256=:{digest('sha256', CONTENT)}:", "X-Content-SHA256": SHA256},
        {"Content-Digest": "md5=:AAAA:"},
    ],
)
def test_put(client: httpx.Client, server: UploadServer, headers: dict[str, str]) -> None:
    response = client.put("/v1/uploads", content=CONTENT, headers=headers)
    assert response.status_code == 201
    known = response.json()
    assert response.headers["location"] == f"/v1/uploads/{known['id']}"
    assert (known["bytes"], known["received"], known["complete"], known["sha256"]) == (10240, 10240, True, SHA256)
    assert (server.store / "uploads" / known["id"] / "data").read_bytes() == CONTENT
    assert offset_of(client, response.headers["location"]) == len(CONTENT)
    assert client.get(response.headers["location"]).json() == known


def test_put_in_chunks(client: httpx.Client) -> None:
    response = client.put("/v1/uploads", content=(CONTENT[start : start + 1000] for start in range(0, len(CONTENT), 1000)))
    assert (response.status_code, response.json()["sha256"]) == (201, SHA256)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=3000), block=st.integers(1, 300))
def test_form(client: httpx.Client, content: bytes, block: int) -> None:
    """However it is cut on the way, and though it looks like a boundary."""
    content += b"\r\n--edge\r\n--ed\r\r\n"
    body = (
        b'--edge-1\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + content + b"\r\n--edge-1--\r\n"
    )
    chunks = (body[start : start + block] for start in range(0, len(body), block))
    response = client.post("/v1/uploads", content=chunks, headers={"Content-Type": "multipart/form-data; boundary=edge-1"})
    assert response.status_code == 201, response.text
    assert response.json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert response.json()["filename"] == "a.png"


def test_form_of_a_usual_client(client: httpx.Client) -> None:
    digest_header = {"X-Content-SHA256": SHA256}
    response = client.post("/v1/uploads", files={"file": ("bild 😀.png", CONTENT, "image/png")}, headers=digest_header)
    assert (response.status_code, response.json()["sha256"], response.json()["filename"]) == (201, SHA256, "bild 😀.png")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("slide.svs", "slide.svs"),
        ("a\x00b\nc\x1b[31m\u202egnp.exe", "abc[31mgnp.exe"),
        ("x" * 300, "x" * 255),
        ("../../etc/passwd", "../../etc/passwd"),
        ("\n\x00", None),
        ("", None),
    ],
)
def test_names_are_shown_and_no_more(name: str, kept: str | None) -> None:
    assert clean_filename(name) == kept


def test_files_are_their_users_alone(client: httpx.Client, server: UploadServer) -> None:
    folder = server.store / "uploads" / client.put("/v1/uploads", content=b"mine").json()["id"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"data": 0o600, "upload.json": 0o600}


def test_jobs_get_complete_files_of_their_owner(uploads: Uploads, tmp_path: Path) -> None:
    upload_id = put_into(uploads, b"content", owner="a")
    (tmp_path / "link").hardlink_to(uploads.data_of(upload_id, "a"))
    for asked, owner in ((upload_id, "b"), (new_id(), "a"), ("../keys", "a"), ("", "a")):
        with pytest.raises(UnknownUpload, match="there is no such upload; if it has expired"):
            uploads.data_of(asked, owner)
    begun = uploads.create("a", 5).upload_id
    with pytest.raises(Conflict, match="the upload isn't complete; send the rest of the file, and try again"):
        uploads.data_of(begun, "a")
    uploads.delete(upload_id, "a")
    assert (tmp_path / "link").read_bytes() == b"content"


def test_sweep(uploads: Uploads, tmp_path: Path) -> None:
    kept, old, busy = put_into(uploads, b"kept"), put_into(uploads, b"old"), uploads.create("local", 9).upload_id
    folder = tmp_path / "store" / "uploads"
    (folder / new_id()).mkdir()
    (folder / new_id() / "work").mkdir(parents=True)
    torn = folder / new_id()
    torn.mkdir()
    (torn / "data").write_bytes(b"came before a kill")
    resumed = uploads.resume(busy, "local", 0)
    now = time.time()
    assert uploads.sweep(now) == 0
    assert uploads.sweep(now + 61) == 3
    assert {path.name for path in folder.iterdir()} == {kept, old, busy}
    assert uploads.sweep(now + 3700, most=1) == 1
    assert uploads.sweep(now + 3700) == 1
    assert {path.name for path in folder.iterdir()} == {busy}
    resumed.release()
    assert uploads.sweep(now + 3700) == 1
    assert not list(folder.iterdir())


def test_an_expired_upload_is_unknown_before_it_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    upload_id = put_into(Uploads(store, ServiceLimits(storage_reserve_bytes=1)), b"old")
    time.sleep(1.1)
    with pytest.raises(UnknownUpload):
        Uploads(store, ServiceLimits(storage_reserve_bytes=1, upload_expires_s=1)).find(upload_id, "local")


def test_what_comes_later_lets_it_live_longer(uploads: Uploads) -> None:
    upload_id = uploads.create("local", 9).upload_id
    first = uploads.find(upload_id, "local").expires_at
    time.sleep(0.05)
    resume(uploads, upload_id, 0, b"more")
    assert uploads.find(upload_id, "local").expires_at > first


@pytest.mark.parametrize("broken", ["", "{", "[]", "{}", '{"owner": "local", "bytes": -1, "filename": null}', "\udcff"])
def test_a_broken_record_is_an_unknown_upload(uploads: Uploads, broken: str) -> None:
    upload_id = put_into(uploads, b"content")
    uploads._path(upload_id).with_name("upload.json").write_bytes(broken.encode("utf-8", "surrogateescape"))
    with pytest.raises(UnknownUpload):
        uploads.find(upload_id, "local")
    put_into(uploads, b"others are fine")


def test_a_file_longer_than_it_should_be_is_cut(uploads: Uploads) -> None:
    upload_id = uploads.create("local", 4).upload_id
    uploads._path(upload_id).write_bytes(b"goodbad")
    known = uploads.find(upload_id, "local")
    assert (known.received_bytes, known.sha256) == (4, hashlib.sha256(b"good").hexdigest())
    assert uploads.data_of(upload_id, "local").read_bytes() == b"good"


def test_the_gateway_imports_no_torch_and_no_image_library() -> None:
    code = (
        "import sys, service.uploads.registry, service.http.routes.uploads\n"
        "print({'torch', 'numpy', 'nibabel', 'tifffile', 'openslide', 'imagecodecs'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_error_is_documented(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    documented = {method: set(paths["/v1/uploads/{upload_id}"][method]["responses"]) for method in ("patch", "head", "delete")}
    assert {"204", "400", "404", "408", "409", "412", "413", "415", "423", "460", "500", "503"} <= documented["patch"]
    assert set(paths["/v1/uploads"]) == {"options", "post", "put"}
    assert set(paths["/v1/uploads"]["post"]["requestBody"]["content"]) == {"multipart/form-data", PIECE["Content-Type"]}
