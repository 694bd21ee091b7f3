"""Which pages of other sites may read answers in a browser: those of an exact list, and none where there is no list."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import NotAllowed
from service.http.request_log import refuse

METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
SENT = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Range, Tus-Resumable, "
    "Upload-Checksum, Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, X-Request-ID"
)
READ = (
    "Accept-Ranges, Content-Digest, Content-Disposition, Content-Range, ETag, Location, Retry-After, Tus-Checksum-Algorithm, "
    "Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, "
    "X-Overtile-Label, X-Overtile-Seconds, X-Overtile-Warnings, X-Request-ID"
)
_KEEP_S = 600


class Cors:
    """ASGI middleware; a browser's question before a request (preflight) is answered here, as it never carries a key.

    Args:
        app: what is inside.
        origins: compared letter by letter; cookies and other credentials of the browser's are never allowed.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.getlist("origin")
        origin = given[0] if len(given) == 1 and given[0] in self._origins else None
        is_question = scope["method"] == "OPTIONS" and bool(given) and "access-control-request-method" in headers

        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start" and self._origins:
                _mark(MutableHeaders(scope=message), origin)
            await send(message)

        if not is_question:
            await self.app(scope, receive, send_with_origin)
        elif origin:
            await _agree(send_with_origin)
        else:
            message = "pages of that site may not use the server; whoever runs it can name the site in OVERTILE_CORS_ORIGINS"
            await refuse(NotAllowed("origin_not_allowed", message), scope, receive, send_with_origin)


def _mark(headers: MutableHeaders, origin: str | None) -> None:
    headers.add_vary_header("Origin")
    if origin:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = READ


async def _agree(send: Send) -> None:
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": SENT,
        "Access-Control-Max-Age": str(_KEEP_S),
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body"})
