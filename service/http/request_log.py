"""The outermost layer of our routes: a request id on every answer, one log line a request, and no exception beyond it."""

import logging
import re
import time
import traceback
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import prometheus
from service.errors import INTERNAL, Answer, Refused, answer_to
from service.tracing import tracer

REQUEST_ID_HEADER = "X-Request-ID"
FIELDS = ("method", "route", "status", "seconds", "request_id", "owner")  # of a request's log line

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_PROBES = ("/livez", "/readyz")  # asked every few seconds
_log = logging.getLogger("overtile.service")


class Boundary:
    """ASGI middleware; what it logs is ours: method, the route's own pattern, status, seconds, request id, whose key.

    One may stand in another: the outer one, around the whole server, gives the id and writes the line; the inner one,
    around our routes alone, turns an exception into an answer before a framework does it in its own way.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; every exception becomes an answer, unless one has begun."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        outer = "request_id" not in state
        request_id = state.setdefault("request_id", _request_id(Headers(scope=scope).get(REQUEST_ID_HEADER)))
        began, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001  (the one boundary: whatever a bug or a library raises, the client gets a 500)
            _log.error("request %s failed: %s", request_id, place_of(error))
            if not status:
                await _response(INTERNAL, request_id)(scope, receive, send_with_id)
        if outer:
            pattern, seconds = getattr(scope.get("route"), "path", "") or "-", time.monotonic() - began
            prometheus.REQUESTS.labels(_method(scope), pattern, status).inc()
            prometheus.REQUEST_SECONDS.labels(pattern).observe(seconds)
            trace_request(_method(scope), pattern, status, seconds, request_id)
            level = logging.DEBUG if status == 200 and pattern in _PROBES else logging.INFO
            told = (_method(scope), pattern, status, round(seconds, 3), request_id, state.get("owner", "-"))
            _log.log(level, "%s %s %d", *told[:3], extra=dict(zip(FIELDS, told, strict=True)))


def trace_request(method: str, pattern: str, status: int, seconds: float, request_id: str) -> None:
    """A span of a request that is over."""
    ended_ns = time.time_ns()
    facts: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": pattern,
        "http.response.status_code": status,
        "request_id": request_id,
    }
    span = tracer().start_span(f"{method} {pattern}", attributes=facts, start_time=ended_ns - round(seconds * 1e9))
    span.end(ended_ns)


async def refuse(error: Refused | HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer of a layer around the routes; `Boundary` stands around that layer."""
    await _response(answer_to(error), scope["state"]["request_id"])(scope, receive, send)


async def answer_error(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of every exception that is expected."""
    answer = answer_to(error)
    if answer is INTERNAL:
        raise error
    return _response(answer, request.state.request_id)


def place_of(error: BaseException) -> str:
    """`ValueError at inference/tiling/stitch.py:40`: the class and where, not the text, which may hold what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__} at {'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}"


def _response(answer: Answer, request_id: str) -> JSONResponse:
    prometheus.ERRORS.labels(answer.code).inc()
    return JSONResponse(answer.body(request_id), answer.status, dict(answer.headers))


def _request_id(given: str | None) -> str:
    return given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "OTHER"
