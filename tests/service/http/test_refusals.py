"""Every error of the table over a real socket: its status, its code, its exact keys; and the server goes on."""

import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest
from servers import COMPARE_MAX_PIXELS, MAX_BODY_BYTES, STALL_TIMEOUT_S, Server, png, wait_until

from tests.phantom import draw_slide, draw_volume, write_pyramid_slide

PICTURE = png(draw_slide((72, 90), seed=0)[0])
GREY = png(np.zeros((72, 90), np.uint8))
VOLUME = nib.Nifti1Image(draw_volume((6, 8, 8), seed=0)[0][0].transpose(), np.eye(4)).to_bytes()
LARGE = png(np.zeros((3, 101, 100), np.uint8))
SEGMENT, COMPARE = "/v1/segment?model=unet", "/v1/compare?models=unet,window"
USUAL = {"code", "message", "request_id"}

CASES = {  # url, body, headers, status, code, further keys
    "empty": (SEGMENT, b"", {}, 400, "body_empty", {}),
    "not an image": (SEGMENT, b"hello", {}, 415, "unsupported_format", {}),
    "cut picture": (SEGMENT, PICTURE[:2000], {}, 400, "picture_broken", {}),
    "channels": (SEGMENT, GREY, {}, 422, "channels_mismatch", {}),
    "dimension": (SEGMENT, VOLUME, {}, 422, "dimension_not_supported", {}),
    "dimension of a volume's model": ("/v1/segment?model=volume", PICTURE, {}, 422, "dimension_not_supported", {}),
    "mask format": (SEGMENT + "&format=nifti", PICTURE, {}, 422, "format_not_suitable", {}),
    "unknown model": ("/v1/segment?model=secret", PICTURE, {}, 404, "model_not_found", {"field": "model"}),
    "no model": ("/v1/segment", PICTURE, {}, 400, "parameter_missing", {"field": "model"}),
    "unknown format": (SEGMENT + "&format=secret", PICTURE, {}, 400, "parameter_invalid", {"field": "format"}),
    "unknown parameter": (SEGMENT + "&secret=1", PICTURE, {}, 400, "parameter_unknown", {}),
    "repeated parameter": (SEGMENT + "&model=window", PICTURE, {}, 400, "parameter_invalid", {"field": "model"}),
    "form": (SEGMENT, PICTURE, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "multipart_not_supported", {}),
    "encoding": (SEGMENT, gzip.compress(PICTURE), {"Content-Encoding": "gzip"}, 415, "content_encoding_not_supported", {}),
    "too large": (SEGMENT, bytes(MAX_BODY_BYTES + 1), {}, 413, "body_too_large", {"limit": MAX_BODY_BYTES}),
    "compare pixels": (COMPARE, LARGE, {}, 413, "image_too_large", {"limit": COMPARE_MAX_PIXELS}),
    "compare one": ("/v1/compare?models=unet", PICTURE, {}, 400, "parameter_invalid", {"field": "models"}),
    "compare same": ("/v1/compare?models=unet,unet", PICTURE, {}, 400, "parameter_invalid", {"field": "models"}),
    "compare none": ("/v1/compare", PICTURE, {}, 400, "parameter_missing", {"field": "models"}),
    "compare unknown": ("/v1/compare?models=unet,secret", PICTURE, {}, 404, "model_not_found", {"field": "models"}),
    "compare classes": ("/v1/compare?models=unet,three", PICTURE, {}, 422, "classes_differ", {"field": "models"}),
    "compare dimension": ("/v1/compare?models=unet,volume", PICTURE, {}, 422, "dimension_not_supported", {}),
    "no route": ("/v1/secret", PICTURE, {}, 404, "not_found", {}),
    "slash": ("/v1/segment/", PICTURE, {}, 404, "not_found", {}),
    "method": ("/livez", PICTURE, {}, 405, "method_not_allowed", {}),
}


def check_error(response: httpx.Response, status: int, code: str, more: dict[str, object]) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) == USUAL | set(more)
    assert {key: error[key] for key in more} == more
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


def check_still_good(client: httpx.Client, good: bytes) -> None:
    assert client.post(SEGMENT, content=PICTURE).content == good


@pytest.fixture(scope="module")
def good(client: httpx.Client) -> bytes:
    return client.post(SEGMENT, content=PICTURE).raise_for_status().content


@pytest.mark.parametrize("case", CASES)
def test_refused_and_still_serving(client: httpx.Client, good: bytes, case: str) -> None:
    url, body, headers, status, code, more = CASES[case]
    check_error(client.post(url, content=body, headers=headers), status, code, more)
    check_still_good(client, good)


def test_wrong_method_says_which_are_right(client: httpx.Client) -> None:
    assert client.delete("/v1/models").headers["allow"] == "GET"


def test_too_large_in_chunks_is_refused_at_the_cap(client: httpx.Client, server: Server, good: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 2**16 + 2):
            yield bytes(2**16)

    check_error(client.post(SEGMENT, content=chunks()), 413, "body_too_large", {"limit": MAX_BODY_BYTES})
    check_still_good(client, good)
    wait_until(lambda: not list(server.folder.glob("overtile-request-*")), timeout_s=5)


def test_too_large_is_refused_before_the_body_is_sent(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(head(SEGMENT, MAX_BODY_BYTES + 1))
        assert b" 413 " in connection.recv(1000)


def test_wrong_spacing(client: httpx.Client, tmp_path: Path) -> None:
    write_pyramid_slide(tmp_path / "slide", draw_slide((260, 300), seed=1)[0], spacing_um=5.0)
    response = client.post("/v1/segment?model=fine", content=(tmp_path / "slide").read_bytes())
    check_error(response, 422, "spacing_mismatch", {})


def test_an_error_leaves_the_connection_open(server: Server) -> None:
    with httpx.Client(base_url=server.url, limits=httpx.Limits(max_connections=1)) as client:
        streams = []
        for body in (b"hello", PICTURE, b"", PICTURE):
            response = client.post(SEGMENT, content=body)
            streams.append(response.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(set(streams)) == 1


def test_a_stalled_body_is_given_up(server: Server, client: httpx.Client, good: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(head(SEGMENT, 1000) + b"part")
        began = time.monotonic()
        answer = connection.recv(1000)
        while b"request_id" not in answer:
            answer += connection.recv(1000)
        assert b" 408 " in answer
        assert b"upload_stalled" in answer
        assert STALL_TIMEOUT_S - 0.5 < time.monotonic() - began < STALL_TIMEOUT_S + 3
    check_still_good(client, good)


def test_a_client_that_leaves_while_sending_leaves_nothing(server: Server, client: httpx.Client, good: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(head(SEGMENT, len(PICTURE)) + PICTURE[:1000])
        wait_until(lambda: bool(list(server.folder.glob("overtile-request-*"))), timeout_s=5)
    wait_until(lambda: not list(server.folder.glob("overtile-request-*")), timeout_s=5)
    check_still_good(client, good)


def test_a_client_that_leaves_while_waiting_leaves_nothing(server: Server, client: httpx.Client, good: bytes) -> None:
    with connect(server) as connection:
        connection.sendall(head(SEGMENT, len(PICTURE)) + PICTURE)
    wait_until(lambda: not list(server.folder.glob("overtile-request-*")), timeout_s=10)
    check_still_good(client, good)


def test_the_log_has_nothing_of_the_clients(client: httpx.Client, server: Server) -> None:
    client.post("/v1/segment?model=geheim-model", content=b"geheim-body", headers={"X-Request-ID": "geheim name"})
    client.post("/geheim%0apath", content=b"", headers={"Content-Type": "geheim/type"})
    marker = client.get("/v1/models").headers["x-request-id"]
    wait_until(lambda: marker in server.log.read_text(), timeout_s=5)
    assert "geheim" not in server.log.read_text()
    assert "POST /v1/segment 404" in server.log.read_text()


def connect(server: Server) -> socket.socket:
    url = httpx.URL(server.url)
    return socket.create_connection((url.host, url.port or 0), timeout=30)


def head(url: str, length: int) -> bytes:
    return f"POST {url} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
