"""The Bento's service in this process: `python -m service.server TAG HOST PORT [CERTIFICATE KEY]`, by uvicorn with deadlines.

BentoML would serve it in a child process, which a kill of the parent leaves behind, and waits for headers for ever.
"""

import asyncio
import json
import logging
import os
import random
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NoReturn

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from service import event_log
from service.app import EXIT_START

HEADERS_S = 5.0  # from a request's first byte, or the connection's, to the end of its headers
SPREAD_S = 0.5  # more, at most: a thousand connections that were opened at once aren't closed at once, while others wait
GRACE_S = 10  # for requests that run when the server is told to stop
MOST_HEADER_BYTES = 64 * 1024
_PIECE_BYTES = 8 * 1024
_log = logging.getLogger("overtile.service")


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which closes a connection whose request doesn't get to the end of its headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request's headers are awaited."""
        # asyncio does so only for sockets that say their protocol. Else an answer's body waits 40 ms for its headers' receipt
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        for piece in self._pieces(data):
            if self._is_between_requests():
                self._await_headers()
            super().data_received(piece)
            if not self._is_between_requests():
                self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer of the same shape as every other error."""
        self._stop_waiting()
        self._refuse(400, "request_invalid", "the request isn't HTTP/1.1 as it should be; the connection is closed")

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Headers in small pieces: h11 takes any number of them, when they are whole the first time that it looks."""
        while data and self._is_between_requests() and not self.transport.is_closing():
            yield data[:_PIECE_BYTES]
            data = data[_PIECE_BYTES:]
        if data and not self.transport.is_closing():
            yield data

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S + random.uniform(0, SPREAD_S), self._too_slow)  # noqa: S311

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, "headers_stalled", "the request's headers took too long; send it again without pauses")

    def _refuse(self, status: int, code: str, message: str) -> None:
        request_id = uuid.uuid4().hex
        body = json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()
        headers = [("content-type", "application/json"), ("x-request-id", request_id), ("content-length", str(len(body))),
                   ("connection", "close")]  # fmt: skip
        events = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase), h11.Data(data=body)
        with suppress(h11.LocalProtocolError):  # an answer is on its way already
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in (*events, h11.EndOfMessage())))
        self.transport.close()


class OurRoutes:
    """Our own routes for every request; BentoML has the service's beginning and its end."""

    def __init__(self, bentoml_app: ASGIApp, routes: ASGIApp) -> None:
        self._bentoml_app, self._routes = bentoml_app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on."""
        await (self._bentoml_app if scope["type"] == "lifespan" else self._routes)(scope, receive, send)


def main() -> NoReturn:
    """Serves until SIGTERM or SIGINT; exit code 0 then, 3 where it can't start."""
    tag, host, port, *tls = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn's own take their place, and raise the signal again at the end
    listening = bound(host, int(port))
    event_log.configure()
    app = loaded(tag)
    certificate, key = tls or (None, None)
    config = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    event_log.finish()
    os._exit(0 if server.started else EXIT_START)  # threads that wait for an engine that is gone don't keep the process


def bound(host: str, port: int) -> socket.socket:
    """The listening socket, before anything is loaded: what is in the way is said at once."""
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024)
    except OSError as error:
        print(f"{host}:{port} can't be listened on ({error.strerror}); choose another --port", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_START)
    # Connections inherit it. asyncio sets it for sockets that it made itself alone; without it an answer's body, which is sent
    # after its headers, waits until the client has acknowledged those: 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def loaded(tag: str) -> ASGIApp:
    """The Bento's service as an ASGI app."""
    import bentoml
    from _bentoml_impl.loader import load
    from bentoml._internal.context import server_context

    # for BentoML a text may also be a folder, or a module: it would import `overtile` before it looks into its store
    service: Any = load(bentoml.Tag.from_str(tag), standalone_load=True)
    server_context.service_type = "entry_service"
    server_context.service_name = service.name
    server_context.bento_name, server_context.bento_version = service.bento.tag.name, service.bento.tag.version
    from service.app import routes

    _log.info("BentoML %s", bentoml.__version__)
    return OurRoutes(service.to_asgi(is_main=True), routes)


if __name__ == "__main__":
    main()
