"""CORS: pages of the sites in an exact list may read the answers in a browser; without a list, none."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Forbidden
from service.http.request_log import send_error

METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
ALLOWED_HEADERS = (
    "Authorization, Content-Digest, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Range, Tus-Resumable, "
    "Upload-Checksum, Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, X-Request-ID"
)
EXPOSED_HEADERS = (
    "Accept-Ranges, Content-Digest, Content-Disposition, Content-Range, ETag, Location, Retry-After, Tus-Checksum-Algorithm, "
    "Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, "
    "X-Overtile-Label, X-Overtile-Seconds, X-Overtile-Warnings, X-Request-ID"
)
_MAX_AGE_S = 600
_PREFLIGHT_HEADERS = (
    (b"access-control-allow-methods", METHODS.encode()),
    (b"access-control-allow-headers", ALLOWED_HEADERS.encode()),
    (b"access-control-max-age", str(_MAX_AGE_S).encode()),
)


class Cors:
    """ASGI middleware that adds CORS headers, and answers preflight requests, which never carry a key.

    Args:
        app: the app inside.
        origins: allowed origins, compared letter by letter; cookies and other credentials of the browser are never allowed.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        origin = origins[0] if len(origins) == 1 and origins[0] in self._origins else None
        is_preflight = scope["method"] == "OPTIONS" and bool(origins) and "access-control-request-method" in headers

        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start" and self._origins:
                answer_headers = MutableHeaders(scope=message)
                answer_headers.add_vary_header("Origin")
                if origin:
                    answer_headers["Access-Control-Allow-Origin"] = origin
                    answer_headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS
            await send(message)

        if not is_preflight:
            await self.app(scope, receive, send_with_origin)
        elif origin:
            await send_with_origin({"type": "http.response.start", "status": 204, "headers": list(_PREFLIGHT_HEADERS)})
            await send_with_origin({"type": "http.response.body"})
        else:
            message = "pages of that site can't use the server; its operator can allow the site in OVERTILE_CORS_ORIGINS"
            await send_error(Forbidden("origin_not_allowed", message), scope, receive, send_with_origin)
