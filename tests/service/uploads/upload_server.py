"""A server of the uploads' routes alone, in a process of its own: `python upload_server.py STORE SOCKET SETTINGS`."""

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from imaging.errors import DataError
from service.errors import RequestError
from service.http.request_log import RequestLog, handle_error
from service.http.routes import uploads
from service.limits import ServiceLimits
from service.store import Store
from service.uploads.registry import Uploads

CHECKOUT = Path(__file__).parents[3]
LIMITS = {"max_upload_bytes": 3_000_000, "stall_timeout_s": 1, "min_bytes_per_s": 1000, "storage_reserve_bytes": 1}
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = {**TUS, "Content-Type": "application/offset+octet-stream"}
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
END = b"--edge--\r\n"


class Owners:
    """Takes the owner from headers; stands for what checks keys."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", []))
        state = scope.setdefault("state", {})
        if b"x-owner" in headers:
            state["owner"] = headers[b"x-owner"].decode()
        if b"x-max-stored" in headers:
            state["max_stored_bytes"] = int(headers[b"x-max-stored"])
        await self.app(scope, receive, send)


def create_api(store: Path, settings: dict[str, int]) -> FastAPI:
    limits = ServiceLimits(**{**LIMITS, **settings})
    api = FastAPI(redirect_slashes=False)
    api.add_middleware(Owners)
    api.add_middleware(RequestLog)
    for expected in (DataError, RequestError, RequestValidationError, HTTPException, OSError, ClientDisconnect):
        api.add_exception_handler(expected, handle_error)
    api.state.limits, api.state.uploads = limits, Uploads(Store(store), limits)
    api.include_router(uploads.router)
    api.router.routes.extend(uploads.other_methods())
    return api


@dataclass(frozen=True)
class UploadServer:
    """A running server and its store."""

    url: str
    store: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def uploads(self) -> list[Path]:
        return list((self.store / "uploads").iterdir())

    def memory_bytes(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def connect(self) -> socket.socket:
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port or 0), timeout=20)


@contextmanager
def running(store: Path, *, fsize: int = 0, **settings: int) -> Iterator[UploadServer]:
    """A server that listens before it is started, so that nobody has to wait for it."""
    log = store.parent / f"{store.name}.log"
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("ab") as out:
        command = [sys.executable, __file__, str(store), str(listening.fileno()), json.dumps(settings), str(fsize)]
        process = subprocess.Popen(
            command, pass_fds=[listening.fileno()], stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
        )
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        httpx.options(f"{url}/v1/uploads", timeout=30).raise_for_status()
        yield UploadServer(url, store, process, log)
    finally:
        process.kill()
        process.wait()


def begin(client: httpx.Client, size: int, **headers: str) -> str:
    """A new tus upload's address."""
    response = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size), **headers})
    assert response.status_code == 201, response.text
    return response.headers["location"]


def send(client: httpx.Client, url: str, offset: int, content: bytes, **headers: str) -> httpx.Response:
    return client.patch(url, content=content, headers={**PIECE, "Upload-Offset": str(offset), **headers})


def offset_of(client: httpx.Client, url: str) -> int:
    response = client.head(url, headers=TUS)
    assert response.status_code == 200
    return int(response.headers["upload-offset"])


def check_error(response: httpx.Response, status: int, code: str, **more: Any) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) == {"code", "message", "request_id"} | set(more)
    assert error["code"] == code
    assert all(error[name] == value for name, value in more.items())
    assert error["request_id"] == response.headers["x-request-id"]
    assert ("retry-after" in response.headers) == (status in (429, 503))
    assert "secret" not in response.text


def wait_until(condition: Any, timeout_s: float = 8) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def left(server: UploadServer) -> int:
    return len(server.uploads)


def check_still_serving(server: UploadServer, client: httpx.Client) -> None:
    """An upload works, the server's log has no error, and nothing that was begun can't be removed."""
    for folder in server.uploads:
        wait_until(lambda folder=folder: client.delete(f"/v1/uploads/{folder.name}").status_code in (204, 404))
    wait_until(lambda: not left(server))
    known = client.put("/v1/uploads", content=b"hello").json()
    assert known["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert client.delete(f"/v1/uploads/{known['id']}").status_code == 204
    assert server.log.read_text() == ""


def part(content: bytes, disposition: str = 'name="file"; filename="x"', more: bytes = b"") -> bytes:
    head_of_part = f"--edge\r\nContent-Disposition: form-data; {disposition}\r\n".encode() + more + b"\r\n"
    return head_of_part + content + b"\r\n"


def head(method: str, url: str, length: int, **headers: str) -> bytes:
    lines = [
        f"{method} {url} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {length}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def patch_head(url: str, length: int, **headers: str) -> bytes:
    return head("PATCH", url, length, **PIECE, **{"Upload-Offset": "0", **headers})


def received(client: httpx.Client, url: str) -> int:
    return int(client.get(url).json()["received"])


def is_written(server: UploadServer, url: str) -> bool:
    """Whether a request has the upload's file open."""
    for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if f"{url.rsplit('/', 1)[1]}/data" in str(file.readlink()):
                return True
    return False


def all_of(connection: socket.socket) -> bytes:
    answer = b""
    while b"request_id" not in answer and (more := connection.recv(4096)):
        answer += more
    return answer


def main(store: str, descriptor: str, settings: str, fsize: str) -> None:
    if int(fsize):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(fsize), int(fsize)))
    uvicorn.run(create_api(Path(store), json.loads(settings)), fd=int(descriptor), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
