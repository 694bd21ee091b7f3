"""What the tests of access share: an app with the routes that docs/service.md lists, guarded, on a real socket."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from servers import wait_until
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from service.http.access import protect
from service.http.request_log import RequestLog, handle_error
from service.keys import Keys
from service.limits import AccessSettings

DOCS = Path(__file__).parents[2] / "docs/service.md"
BEYOND_THE_TABLE = (("GET", "/"), ("GET", "/static/viewer.js"), ("GET", "/docs/assets/swagger-ui.css"))


def documented_routes() -> list[tuple[str, str]]:
    """(method, path) of each line of the table, IDs and names filled in."""
    http = DOCS.read_text().split("\n## HTTP\n")[1].split("\n## ")[0]
    lines = re.findall(r"^    (GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) +((?:/\S* ?)+)", http, re.MULTILINE)
    paths = [(method, path.split("?")[0]) for method, several in lines for path in several.split()]
    return [(method, path.replace("ID", "0" * 32).replace("NAME", "mask.png")) for method, path in paths]


ROUTES = [*documented_routes(), *BEYOND_THE_TABLE]


def mirror() -> FastAPI:
    """Answers each route with what the guard says of the request; `/v1/forgotten` is in no table."""
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    api.add_middleware(RequestLog)
    api.add_exception_handler(HTTPException, handle_error)

    async def answer(request: Request) -> Response:
        if "fail" in request.query_params:
            raise ValueError(str(request.url))
        known = {name: getattr(request.state, name, None) for name in ("owner", "max_jobs", "max_stored_bytes")}
        return JSONResponse(known, headers={"Cache-Control": "max-age=60"} if request.query_params.get("cached") else None)

    for method, path in [*ROUTES, ("GET", "/v1/forgotten")]:
        api.add_api_route(path, answer, methods=[method])
    return api


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """The app's URL while it is served by uvicorn."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off", http="h11"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout_s=20)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@contextmanager
def client_of(
    path: Path, settings: AccessSettings | None = None, around: Callable[[ASGIApp], ASGIApp] = lambda app: app
) -> Iterator[httpx.Client]:
    """A client of the mirror, guarded by a file of keys."""
    app = around(protect(mirror(), Keys(path), settings or AccessSettings()))
    with serving(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


def send_raw(client: httpx.Client, request: bytes) -> bytes:
    """All that comes back for bytes on a new connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error without its request id, which is checked."""
    error = dict(response.json()["error"])
    assert error.pop("request_id") == response.headers["x-request-id"]
    return error
