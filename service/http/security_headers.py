"""Headers that every answer has, whoever made it; and requests whose own headers say two things about their length."""

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.request_log import refuse

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_NOTHING_ELSE = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_DATA = f"default-src 'none'; {_NOTHING_ELSE}"
_DOCS = (  # Swagger's page starts its script by a line in the page, and styles itself
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    f"connect-src 'self'; {_NOTHING_ELSE}"
)
_VIEWER = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; font-src 'self'; "
    f"connect-src 'self'; worker-src 'self' blob:; {_NOTHING_ELSE}"
)


class SecurityHeaders:
    """ASGI middleware, the outermost: a browser takes an answer for what it is said to be, and for nobody else's page.

    Cache-Control and Content-Security-Policy are set where the route set none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
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
    """What a page at the path may load."""
    if path == "/docs":
        return _DOCS
    return _VIEWER if path == "/" or path.startswith("/static/") else _DATA


class SoundFraming:
    """ASGI middleware: a request whose length could be read in two ways is refused, and its connection closed.

    A proxy in front that reads it in the other way would take the rest for somebody else's request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        lengths = [name for name, _ in scope.get("headers", ()) if name in (b"content-length", b"transfer-encoding")]
        if scope["type"] == "http" and len(lengths) > 1:
            await refuse(HTTPException(400, headers={"Connection": "close"}), scope, receive, send)
            return
        await self.app(scope, receive, send)
