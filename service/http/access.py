"""Access control: every request needs a key with the scope of its route, unless the route is open or there are no keys.

The routes learn from this module who the owner of a request is, and the limits of the owner.
"""

import ipaddress
import re
import time
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Forbidden, NoKey, RequestError, TooOften
from service.http.cors import Cors
from service.http.request_log import RequestLog, send_error
from service.http.security_headers import FramingCheck, SecurityHeaders
from service.keys import Key, Keys, KeyScope
from service.limits import AccessSettings

LOCAL = "local"  # owner of everything on a server without keys

_SCHEME = "Bearer "
_POLICY_VIOLATION = 1008  # WebSocket's code


@dataclass(frozen=True)
class Rule:
    """Methods of a route, and the scope that they need; `needs` is None for a route that is open to everybody.

    In the path, `{}` stands for one segment, and `*` at the end for the rest. HEAD is allowed where GET is.
    """

    methods: str
    path: str
    needs: KeyScope | None

    def covers(self, path: str) -> bool:
        """Return whether the route has this path."""
        if self.path.endswith("*"):
            rest = path.removeprefix(self.path[:-1])
            return rest != path and not {"", ".", ".."} & set(re.split(r"[/\\]", rest))
        return self._pattern.fullmatch(path) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.path).replace(r"\{\}", "[^/]+"))

    def allows(self, method: str) -> bool:
        """Return whether the route has this method."""
        methods = self.methods.split()
        return method in methods or (method == "HEAD" and "GET" in methods)


RULES = (
    Rule("GET", "/livez", None),
    Rule("GET", "/readyz", None),
    Rule("GET", "/", None),
    Rule("GET", "/static/*", None),
    Rule("GET", "/docs", None),
    Rule("GET", "/docs/assets/*", None),
    Rule("GET", "/openapi.json", None),
    Rule("GET", "/metrics", "metrics"),
    Rule("GET", "/v1/models", "models"),
    Rule("POST", "/v1/models", "admin"),
    Rule("DELETE", "/v1/models/{}", "admin"),
    Rule("POST", "/v1/segment", "segment"),
    Rule("POST", "/v1/compare", "segment"),
    Rule("OPTIONS POST PUT", "/v1/uploads", "jobs"),
    Rule("HEAD PATCH GET DELETE", "/v1/uploads/{}", "jobs"),
    Rule("POST GET", "/v1/jobs", "jobs"),
    Rule("GET DELETE", "/v1/jobs/{}", "jobs"),
    Rule("GET", "/v1/jobs/{}/events", "jobs"),
    Rule("GET", "/v1/jobs/{}/results/{}", "jobs"),
)


def protect(app: ASGIApp, keys: Keys, settings: AccessSettings) -> ASGIApp:
    """Return an app inside all middleware that each request passes, outermost first."""
    return SecurityHeaders(RequestLog(FramingCheck(Cors(Access(app, keys, settings), settings.cors_origins))))


class Access:
    """ASGI middleware that identifies the owner of a request, or refuses it.

    It sets `owner` (the key's ID, or `local`), `key`, `max_jobs` and `max_stored_bytes` in the request's state, the last
    three None without a key or a limit, and `still_admitted`, a function for long answers that returns whether the request
    would be admitted now. Without keys, everybody who reaches the address is `local` and may do everything. With keys, only
    `admin` may use a route that is missing in `RULES`, so that a forgotten route is closed.
    """

    def __init__(self, app: ASGIApp, keys: Keys, settings: AccessSettings) -> None:
        self.app = app
        self._keys = keys
        self._settings = settings
        self._buckets = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; WebSockets are closed."""
        if scope["type"] not in ("http", "lifespan"):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        try:
            if scope["type"] == "http" and not is_open(scope["path"], scope["method"]):
                self._admit(scope)
        except (RequestError, HTTPException) as error:
            await send_error(error, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Check the request, and put its owner and the owner's limits into its state."""
        key = self._key_of(scope)
        owner = key.id if key else LOCAL

        def still_admitted() -> bool:
            try:
                return self._key_of(scope) == key
            except NoKey:
                return False

        scope.setdefault("state", {}).update(
            owner=owner,
            key=key,
            still_admitted=still_admitted,
            max_jobs=key.max_jobs if key else None,
            max_stored_bytes=key.max_stored_bytes if key else None,
        )
        limit = (key.requests_per_minute if key else None) or self._settings.requests_per_minute
        wait_s = self._buckets.take(owner, limit)
        if wait_s:
            message = "too many requests in a minute; wait for the seconds in Retry-After"
            raise TooOften("rate_limited", message, limit=limit, retry_s=wait_s)
        if key:
            _check_scope(key, scope)
        else:
            _check_page(scope, self._settings.cors_origins)

    def _key_of(self, scope: Scope) -> Key | None:
        if not self._keys.required:
            return None
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        if not headers:
            raise NoKey("key_required", "the route needs a key; send it as Authorization: Bearer KEY")
        key = self._keys.find(headers[0].removeprefix(_SCHEME)) if headers[0].startswith(_SCHEME) else None
        if key is None or len(headers) > 1:
            raise NoKey("key_invalid", "the key is unknown, expired or revoked; ask the server's operator for a valid one")
        return key


class Buckets:
    """Token buckets, one for each owner: a bucket has `per_minute` requests and refills evenly over a minute."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}  # requests left, and the time of the last one in seconds

    def take(self, owner: str, per_minute: int) -> float:
        """Take one request from the owner's bucket; return 0, or the seconds to wait if the bucket is empty."""
        now_s = time.monotonic()
        left, since_s = self._left.get(owner, (per_minute, now_s))
        left = min(per_minute, left + (now_s - since_s) * per_minute / 60)
        if left < 1:
            self._left[owner] = (left, now_s)
            return (1 - left) * 60 / per_minute
        self._left[owner] = (left - 1, now_s)
        return 0


def rules_of(path: str) -> list[Rule]:
    """Return the rules of a path; none for an unknown path."""
    return [rule for rule in RULES if rule.covers(path)]


def is_open(path: str, method: str) -> bool:
    """Return whether everybody may use a route."""
    return any(rule.needs is None and rule.allows(method) for rule in rules_of(path))


def owner_of(request: Request) -> str:
    """Return the owner of the request's uploads and jobs; `local` on a server without keys."""
    return str(getattr(request.state, "owner", LOCAL))


def is_still_admitted(request: Request) -> bool:
    """Return whether the request would be admitted now; its key may have been revoked or have expired."""
    return bool(getattr(request.state, "still_admitted", lambda: True)())


def max_stored_bytes_of(request: Request) -> int | None:
    """Return the owner's quota in bytes; None for no quota."""
    quota_bytes: int | None = getattr(request.state, "max_stored_bytes", None)
    return quota_bytes


def max_jobs_of(request: Request) -> int | None:
    """Return the most jobs that the owner may have waiting and running; None for no limit."""
    max_jobs: int | None = getattr(request.state, "max_jobs", None)
    return max_jobs


def _check_scope(key: Key, scope: Scope) -> None:
    rules = rules_of(scope["path"])
    if not rules:
        if "admin" not in key.scopes:
            raise HTTPException(404)
        return
    matches = [rule for rule in rules if rule.allows(scope["method"])]
    if not matches:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(" ".join(rule.methods for rule in rules).split()))})
    if not any(rule.needs in key.scopes for rule in matches):
        raise Forbidden(
            "scope_missing",
            f"the route needs a key with the scope {matches[0].needs}; use another key, or ask the server's operator for one",
        )


def _check_page(scope: Scope, origins: tuple[str, ...]) -> None:
    """Refuse requests that a page of another site makes a user's browser send, where no key distinguishes users.

    Such a page can send requests with side effects without reading the answer, and browsers then send its origin. Or it
    resolves its own name to this machine (DNS rebinding), and the Host header then has that name.
    """
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    own_origins = {*origins, f"http://{host}", f"https://{host}"}
    is_foreign = origin is not None and origin not in own_origins and scope["method"] not in ("GET", "HEAD", "OPTIONS")
    allowed_hosts = {each.split("://")[1] for each in origins}
    name = re.sub(r":[0-9]*$", "", host)
    # an address, a name without dots and an empty one can't belong to another site
    is_own_name = "." not in name or re.fullmatch(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]", name) is not None
    is_rebound = has_loopback_address(scope) and host not in allowed_hosts and not is_own_name
    if is_foreign or is_rebound:
        raise Forbidden(
            "page_not_allowed",
            "without keys, pages of other sites can't use the server; its operator can allow them in OVERTILE_CORS_ORIGINS",
        )


def has_loopback_address(scope: Scope) -> bool:
    """Return whether the request came to an address that only this machine can reach."""
    try:
        return ipaddress.ip_address((scope.get("server") or ("", 0))[0]).is_loopback
    except ValueError:
        return False
