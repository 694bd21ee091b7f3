"""Middleware that gives each request an ID and a log line, and turns unexpected exceptions into answers."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.errors import RequestError
from service.event_log import FIELDS, place_of
from service.http.error_responses import INTERNAL, ErrorResponse, error_response

REQUEST_ID_HEADER = "X-Request-ID"

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_PROBES = ("/livez", "/readyz")  # requested every few seconds
_log = logging.getLogger("overtile.service")


class RequestLog:
    """ASGI middleware that logs method, route pattern, status, seconds, request ID and owner, but nothing that clients send.

    It is used twice: the outer one, around the whole server, assigns the ID and writes the line; the inner one, around
    the routes, turns an exception into an answer before FastAPI does it in another shape.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an exception becomes an answer unless the answer has started."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        is_outer = "request_id" not in state
        header = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = state.setdefault("request_id", header if _REQUEST_ID.fullmatch(header) else uuid.uuid4().hex)
        start_s, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001  (the client gets a 500 for any bug)
            _log.error("request %s failed: %s", request_id, place_of(error))
            if not status:
                await _response(INTERNAL, request_id)(scope, receive, send_with_id)
        if is_outer:
            pattern, seconds = getattr(scope.get("route"), "path", "") or "-", time.monotonic() - start_s
            telemetry.REQUESTS.labels(_method(scope), pattern, status).inc()
            telemetry.REQUEST_SECONDS.labels(pattern).observe(seconds)
            trace_request(_method(scope), pattern, status, seconds, request_id)
            level = logging.DEBUG if status == 200 and pattern in _PROBES else logging.INFO
            values = (_method(scope), pattern, status, round(seconds, 3), request_id, state.get("owner", "-"))
            _log.log(level, "%s %s %d", *values[:3], extra=dict(zip(FIELDS, values, strict=True)))


def trace_request(method: str, pattern: str, status: int, seconds: float, request_id: str) -> None:
    """Record the span of a finished request."""
    end_ns = time.time_ns()
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": pattern,
        "http.response.status_code": status,
        "request_id": request_id,
    }
    span = telemetry.tracer().start_span(f"{method} {pattern}", attributes=attributes, start_time=end_ns - round(seconds * 1e9))
    span.end(end_ns)


async def send_error(error: RequestError | HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer to an error of a middleware inside `RequestLog`."""
    await _response(error_response(error), scope["state"]["request_id"])(scope, receive, send)


async def handle_error(request: Request, error: Exception) -> JSONResponse:
    """Return the answer to an expected exception; an exception handler of FastAPI."""
    answer = error_response(error)
    if answer is INTERNAL:
        raise error
    return _response(answer, request.state.request_id)


def _response(answer: ErrorResponse, request_id: str) -> JSONResponse:
    telemetry.ERRORS.labels(answer.code).inc()
    return JSONResponse(answer.body(request_id), answer.status, dict(answer.headers))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "OTHER"
