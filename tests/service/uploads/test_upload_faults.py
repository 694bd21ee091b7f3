"""What goes wrong while a file comes: cut connections, kills, full disks, two at once; what is kept, what is dropped."""

import base64
import concurrent.futures
import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from upload_server import (
    END,
    FORM,
    PIECE,
    TUS,
    UploadServer,
    all_of,
    begin,
    check_error,
    head,
    is_written,
    left,
    offset_of,
    part,
    patch_head,
    received,
    running,
    send,
    wait_until,
)

from service.errors import OverQuota, StorageFull
from service.limits import ServiceLimits
from service.store import Store
from service.uploads.registry import Uploads

SHA = "sha256 " + base64.b64encode(hashlib.sha256(b"").digest()).decode()


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
@pytest.mark.parametrize("kind", ["put", "form", "chunked", "creation"])
def test_H04_a_cut_request_leaves_nothing(client: httpx.Client, server: UploadServer, percent: int, kind: str) -> None:
    content = part(bytes(200_000)) + END if kind == "form" else bytes(200_000)
    first = {
        "put": head("PUT", "/v1/uploads", len(content)),
        "form": head("POST", "/v1/uploads", len(content), **FORM),
        "chunked": b"PUT /v1/uploads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n",
        "creation": head("POST", "/v1/uploads", len(content), **PIECE, **{"Upload-Length": "200000"}),
    }[kind]
    with server.connect() as connection:
        connection.sendall(first + content[: len(content) * percent // 100])
        wait_until(lambda: left(server) == 1)
    wait_until(lambda: not left(server), timeout_s=5)


@pytest.mark.parametrize("percent", [0, 1, 50, 99, 100])
def test_H04_a_cut_piece_keeps_what_came(client: httpx.Client, percent: int, server: UploadServer) -> None:
    content = os.urandom(300_000)
    url, came = begin(client, len(content)), len(content) * percent // 100
    with server.connect() as connection:
        connection.sendall(patch_head(url, len(content)) + content[:came])
        if percent == 100:
            assert b" 204 " in connection.recv(1000)
        else:
            wait_until(lambda: is_written(server, url))
            time.sleep(0.2)
    wait_until(lambda: received(client, url) == came)
    wait_until(lambda: send(client, url, came, content[came:]).status_code == 204)
    assert client.get(url).json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_H04_a_cut_piece_with_a_checksum_is_dropped(client: httpx.Client, server: UploadServer) -> None:
    url = begin(client, 3_000_000)
    with server.connect() as connection:
        connection.sendall(patch_head(url, 3_000_000, **{"Upload-Checksum": SHA}) + bytes(1_500_000))
        wait_until(lambda: received(client, url) > 0)
    wait_until(lambda: received(client, url) == 0)


@pytest.mark.parametrize("kind", ["put", "form", "piece"])
def test_H03_a_stalled_body_is_given_up(client: httpx.Client, server: UploadServer, kind: str) -> None:
    url = begin(client, 1000)
    first = {
        "put": head("PUT", "/v1/uploads", 1000),
        "form": head("POST", "/v1/uploads", 1000, **FORM),
        "piece": patch_head(url, 1000),
    }
    with server.connect() as connection:
        connection.sendall(first[kind] + (part(b"x")[:-2] if kind == "form" else b"part"))
        began = time.monotonic()
        answer = all_of(connection)
        assert 0.5 < time.monotonic() - began < 10
    assert b" 408 " in answer
    assert b'"upload_stalled"' in answer
    assert b"no bytes arrived for 1 s" in answer
    wait_until(lambda: left(server) == 1)
    assert received(client, url) == (4 if kind == "piece" else 0)


@pytest.mark.parametrize("kind", ["put", "piece"])
def test_H03_a_trickle_is_given_up(client: httpx.Client, server: UploadServer, kind: str) -> None:
    url = begin(client, 1000)
    sent = 0
    with server.connect() as connection:
        connection.sendall(patch_head(url, 1000) if kind == "piece" else head("PUT", "/v1/uploads", 1000))
        connection.settimeout(0.1)
        answer = b""
        while not answer and sent < 100:
            connection.sendall(b"x")
            sent += 1
            try:
                answer = connection.recv(4096)
            except TimeoutError:
                continue
        connection.settimeout(5)
        answer += b"" if b"request_id" in answer else all_of(connection)
    assert b" 408 " in answer
    assert b"the body arrived at less than 1000 bytes a second" in answer
    assert 5 < sent < 40
    wait_until(lambda: left(server) == 1)
    if kind == "piece":
        assert sent - 2 <= received(client, url) <= sent


def test_H06_two_pieces_at_once(client: httpx.Client, server: UploadServer) -> None:
    url = begin(client, 10)
    with server.connect() as connection:
        connection.sendall(patch_head(url, 10) + b"hello")
        wait_until(lambda: is_written(server, url))
        check_error(send(client, url, 0, b"other"), 423, "upload_locked")
        check_error(client.delete(url), 423, "upload_locked")
        assert offset_of(client, url) == 0
        connection.sendall(b"world")
        assert b" 204 " in connection.recv(1000)
    check_error(send(client, url, 0, b"other"), 409, "upload_offset_conflict", field="Upload-Offset")
    assert client.get(url).json()["sha256"] == hashlib.sha256(b"helloworld").hexdigest()


def test_H06_the_same_piece_many_times_at_once(client: httpx.Client) -> None:
    url, content = begin(client, 2_000_000), os.urandom(2_000_000)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: send(client, url, 0, content).status_code, range(8)))
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 423}
    assert client.get(url).json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_quota(client: httpx.Client, server: UploadServer) -> None:
    key = {"X-Owner": "small", "X-Max-Stored": "1000"}
    over = {"limit": 1000}
    check_error(client.put("/v1/uploads", content=bytes(1001), headers=key), 413, "quota_exceeded", **over)
    check_error(client.put("/v1/uploads", content=iter([bytes(1001)]), headers=key), 413, "quota_exceeded", **over)
    check_error(
        client.post("/v1/uploads", content=part(bytes(1001)) + END, headers={**FORM, **key}), 413, "quota_exceeded", **over
    )
    check_error(client.post("/v1/uploads", headers={**TUS, **key, "Upload-Length": "1001"}), 413, "quota_exceeded", **over)
    assert not left(server)
    url = begin(client, 600, **key)
    check_error(client.put("/v1/uploads", content=bytes(401), headers=key), 413, "quota_exceeded", **over)
    assert client.put("/v1/uploads", content=bytes(401), headers={**key, "X-Owner": "other"}).status_code == 201
    assert client.put("/v1/uploads", content=bytes(400), headers=key).status_code == 201
    assert client.delete(url, headers=key).status_code == 204
    assert client.put("/v1/uploads", content=iter([bytes(600)]), headers=key).status_code == 201
    for folder in server.uploads:
        for owner in ("small", "other"):
            client.delete(f"/v1/uploads/{folder.name}", headers={"X-Owner": owner})


def test_quota_of_several_at_once(tmp_path: Path) -> None:
    """None says its length, so that only the end shows who was too many."""
    uploads = Uploads(Store(tmp_path / "store"), ServiceLimits(storage_reserve_bytes=1))
    first, second = (uploads.begin("a", None, max_stored_bytes=1000) for _ in range(2))
    first.write(bytes(600))
    second.write(bytes(600))
    with pytest.raises(OverQuota, match="the key may store 1000 bytes, and the upload would exceed them"):
        second.finish(None, None)
    second.release()
    first.finish(None, None)
    first.release()
    assert len(list((tmp_path / "store" / "uploads").iterdir())) == 1


def test_unfinished_uploads_are_counted(tmp_path: Path) -> None:
    with running(tmp_path / "store", max_unfinished_uploads=2) as server, httpx.Client(base_url=server.url) as client:
        first, _ = begin(client, 5), begin(client, 5)
        refused = client.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"})
        check_error(refused, 429, "too_many_uploads", limit=2)
        begin(client, 5, **{"X-Owner": "other"})
        send(client, first, 0, b"hello")
        begin(client, 5)


def test_P06_room_is_promised_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    free = os.statvfs(store.folder).f_bavail * os.statvfs(store.folder).f_frsize
    uploads = Uploads(store, ServiceLimits(storage_reserve_bytes=free // 4))
    begun = uploads.create("a", free // 2)
    for size in (free // 2, free * 2):
        with pytest.raises(StorageFull, match="the server's disk is full; try again later"):
            uploads.create("b", size)
    in_one = uploads.begin("b", free // 8)
    with pytest.raises(StorageFull):
        uploads.begin("b", free // 4)
    in_one.release()
    uploads.delete(begun.upload_id, "a")
    uploads.create("b", free // 2)


def test_P06_the_reserve_is_never_touched(tmp_path: Path) -> None:
    with running(tmp_path / "store", storage_reserve_bytes=2**60) as server, httpx.Client(base_url=server.url) as client:
        for body in (b"x", iter([b"x"])):
            check_error(client.put("/v1/uploads", content=body), 503, "storage_full")
        check_error(client.post("/v1/uploads", headers={**TUS, "Upload-Length": "5"}), 503, "storage_full")
        assert client.post("/v1/uploads", files={"file": b"x"}).headers["retry-after"] == "60"
        assert not left(server)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["/usr/bin/umount", "--lazy", str(place)], check=True)


def test_P06_a_disk_that_fills_up(small_disk: Path) -> None:
    with running(small_disk / "store") as server, httpx.Client(base_url=server.url) as client:
        url = begin(client, 1_500_000)
        check_error(client.put("/v1/uploads", content=(bytes(100_000) for _ in range(10))), 503, "storage_full")
        (small_disk / "others").write_bytes(bytes(1_000_000))
        check_error(send(client, url, 0, bytes(1_500_000)), 503, "storage_full")
        came = offset_of(client, url)
        (small_disk / "others").unlink()
        assert send(client, url, came, bytes(1_500_000 - came)).status_code == 204
        assert client.get(url).json()["sha256"] == hashlib.sha256(bytes(1_500_000)).hexdigest()
        assert left(server) == 1


def test_P06_the_disk_takes_no_more_of_a_block(tmp_path: Path) -> None:
    """A limit on the size of files stops a write in its middle, as a full disk does."""
    content = os.urandom(300_000)
    with running(tmp_path / "store", fsize=200_000) as server, httpx.Client(base_url=server.url) as client:
        check_error(client.put("/v1/uploads", content=content), 503, "storage_full")
        check_error(client.post("/v1/uploads", files={"file": content}), 503, "storage_full")
        assert not left(server)
        url = begin(client, len(content))
        check_error(send(client, url, 0, content), 503, "storage_full")
        assert offset_of(client, url) == 200_000
    with running(tmp_path / "store") as server, httpx.Client(base_url=server.url) as client:
        assert send(client, url, 200_000, content[200_000:]).status_code == 204
        assert client.get(url).json()["sha256"] == hashlib.sha256(content).hexdigest()


def test_P05_a_kill_while_a_piece_comes(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    with running(tmp_path / "store") as server, httpx.Client(base_url=server.url) as client:
        url = begin(client, len(content))
        assert send(client, url, 0, content[:500_000]).status_code == 204
        with server.connect() as connection, server.connect() as other:
            connection.sendall(patch_head(url, 2_500_000, **{"Upload-Offset": "500000"}) + content[500_000:2_000_000])
            other.sendall(head("PUT", "/v1/uploads", 3_000_000) + content[:2_000_000])
            wait_until(lambda: received(client, url) > 500_000 and left(server) == 2)
            server.process.kill()
            server.process.wait()
    with running(tmp_path / "store") as server, httpx.Client(base_url=server.url) as client:
        came = offset_of(client, url)
        assert 500_000 < came <= 2_000_000
        assert send(client, url, came, content[came:]).status_code == 204
        assert client.get(url).json()["sha256"] == hashlib.sha256(content).hexdigest()
    assert Uploads(Store(tmp_path / "store"), ServiceLimits()).sweep(time.time() + 61) == 1
    assert [path.name for path in server.uploads] == [url.rsplit("/", 1)[1]]


@pytest.mark.parametrize("kind", ["put", "form"])
def test_memory_stays_flat(tmp_path: Path, kind: str) -> None:
    block, count = bytes(2**20), 300 if kind == "put" else 100
    start, end = (part(b"")[:-2], b"\r\n" + END) if kind == "form" else (b"", b"")
    with running(tmp_path / "store", max_upload_bytes=2**30) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        before = server.memory_bytes()
        body = (chunk for chunk in (start, *[block] * count, end) if chunk)
        method = "POST" if kind == "form" else "PUT"
        response = client.request(method, "/v1/uploads", content=body, headers=FORM if kind == "form" else {})
        assert (response.status_code, response.json()["bytes"]) == (201, count * 2**20)
        assert server.memory_bytes() - before < 100 * 2**20
