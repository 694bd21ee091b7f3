"""Server process: `python -m service.server TAG HOST PORT [CERTIFICATE KEY]` serves a Bento by uvicorn with deadlines.

BentoML's own server runs the service in a child process, which survives a kill of its parent, and has no deadline for headers.
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
SPREAD_S = 0.5  # random addition, so that connections opened together aren't all closed at once
GRACE_S = 10  # for running requests when the server stops
MAX_HEADER_BYTES = 64 * 1024
_CHUNK_BYTES = 8 * 1024
_log = logging.getLogger("overtile.service")


class DeadlineProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol with a deadline for the headers of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the deadline for the first request's headers."""
        # asyncio sets it only for sockets with an explicit protocol; without it an answer's body is delayed by 40 ms
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to uvicorn, and start or cancel the deadline."""
        for chunk in self._chunks(data):
            if self._is_between_requests():
                self._start_deadline()
            super().data_received(chunk)
            if not self._is_between_requests():
                self._cancel_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline when the client leaves."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Send the answer to bytes that aren't HTTP, in the shape of all errors."""
        self._cancel_deadline()
        self._refuse(400, "request_invalid", "the request isn't valid HTTP/1.1; the connection is closed")

    def _chunks(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes of headers in small chunks: h11 checks its limit only on headers that are incomplete."""
        while data and self._is_between_requests() and not self.transport.is_closing():
            yield data[:_CHUNK_BYTES]
            data = data[_CHUNK_BYTES:]
        if data and not self.transport.is_closing():
            yield data

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S + random.uniform(0, SPREAD_S), self._close_slow)  # noqa: S311

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, "headers_stalled", "the headers took too long to arrive; send the request again without pauses")

    def _refuse(self, status: int, code: str, message: str) -> None:
        request_id = uuid.uuid4().hex
        body = json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()
        headers = [("content-type", "application/json"), ("x-request-id", request_id), ("content-length", str(len(body))),
                   ("connection", "close")]  # fmt: skip
        events = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase), h11.Data(data=body)
        with suppress(h11.LocalProtocolError):  # an answer has been started
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in (*events, h11.EndOfMessage())))
        self.transport.close()


class LifespanSplit:
    """ASGI app that sends requests to the routes, and start and stop of the service to BentoML."""

    def __init__(self, bentoml_app: ASGIApp, routes: ASGIApp) -> None:
        self._bentoml_app, self._routes = bentoml_app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a lifespan event on."""
        app = self._bentoml_app if scope["type"] == "lifespan" else self._routes
        await app(scope, receive, send)


def main() -> NoReturn:
    """Serve until SIGTERM or SIGINT; exit with 0, or with 3 if the server can't be started."""
    tag, host, port, *tls = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn replaces them, and raises the signal again at the end
    listener = listen(host, int(port))
    event_log.configure()
    app = load_app(tag)
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
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    event_log.finish()
    os._exit(0 if server.started else EXIT_START)  # threads that wait for an engine don't keep the process alive


def listen(host: str, port: int) -> socket.socket:
    """Return the listening socket; it is opened before the models are loaded, so that an error shows at once."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        print(f"{host}:{port} can't be listened on ({error.strerror}); choose another --port", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_START)
    # Connections inherit it. Without it, an answer's body waits until the client has acknowledged the headers: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def load_app(tag: str) -> ASGIApp:
    """Return the Bento's service as an ASGI app."""
    import bentoml
    from _bentoml_impl.loader import load
    from bentoml._internal.context import server_context

    # a Tag, because BentoML takes a text for a folder or module first, and would import `overtile`
    service: Any = load(bentoml.Tag.from_str(tag), standalone_load=True)
    server_context.service_type = "entry_service"
    server_context.service_name = service.name
    server_context.bento_name, server_context.bento_version = service.bento.tag.name, service.bento.tag.version
    from service.app import routes

    _log.info("BentoML %s", bentoml.__version__)
    return LifespanSplit(service.to_asgi(is_main=True), routes)


if __name__ == "__main__":
    main()
