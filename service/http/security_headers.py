"""Security headers of every answer, and refusal of requests with an ambiguous length."""

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.request_log import send_error

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_NO_EMBEDDING = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_DATA = f"default-src 'none'; {_NO_EMBEDDING}"
_DOCS = (  # Swagger's page has inline scripts and styles
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    f"connect-src 'self'; {_NO_EMBEDDING}"
)
_VIEWER = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    f"connect-src 'self'; worker-src 'self' blob:; {_NO_EMBEDDING}"
)


class SecurityHeaders:
    """Outermost ASGI middleware, which adds the security headers to every answer.

    Cache-Control and Content-Security-Policy are added where the route sets none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(ALWAYS)
                headers.setdefault("Content-Security-Policy", policy_of(path))
                if path.startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)


def policy_of(path: str) -> str:
    """Return the Content-Security-Policy of a path."""
    if path == "/docs":
        return _DOCS
    return _VIEWER if path == "/" or path.startswith("/static/") else _DATA


class FramingCheck:
    """ASGI middleware that refuses a request whose length could be read in two ways, and closes its connection.

    A proxy that reads the length in the other way would take the rest for another client's request (request smuggling).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        lengths = [name for name, _ in scope.get("headers", ()) if name in (b"content-length", b"transfer-encoding")]
        if scope["type"] == "http" and len(lengths) > 1:
            await send_error(HTTPException(400, headers={"Connection": "close"}), scope, receive, send)
            return
        await self.app(scope, receive, send)
