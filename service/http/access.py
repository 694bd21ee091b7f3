"""Who may do what: every request needs a key that opens its route, unless the route is open or there are no keys at all."""

import ipaddress
import re
import time
from dataclasses import dataclass
from functools import cached_property

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import NoKey, NotAllowed, Refused, TooOften
from service.http.cors import Cors
from service.http.request_log import Boundary, refuse
from service.http.security_headers import SecurityHeaders, SoundFraming
from service.keys import Key, Keys, KeyScope
from service.limits import AccessSettings

LOCAL = "local"  # the owner of everything where there are no keys

_SCHEME = "Bearer "
_POLICY_VIOLATION = 1008  # WebSocket's code


@dataclass(frozen=True)
class Rule:
    """What one route takes; `needs` is None for a route that is open to everybody.

    `{}` stands for one part of the path, `*` at the end for the rest of it. Whoever may GET may HEAD.
    """

    methods: str
    path: str
    needs: KeyScope | None

    def covers(self, path: str) -> bool:
        """Whether a path is this route's."""
        if self.path.endswith("*"):
            rest = path.removeprefix(self.path[:-1])
            return rest != path and not {"", ".", ".."} & set(re.split(r"[/\\]", rest))
        return self._pattern.fullmatch(path) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.path).replace(r"\{\}", "[^/]+"))

    def takes(self, method: str) -> bool:
        """Whether the route has the method."""
        return ("GET" if method == "HEAD" else method) in self.methods.split() or method in self.methods.split()


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


def guarded(app: ASGIApp, keys: Keys, settings: AccessSettings) -> ASGIApp:
    """A whole server with everything around it that each request passes, outermost first."""
    return SecurityHeaders(Boundary(SoundFraming(Cors(Access(app, keys, settings), settings.cors_origins))))


class Access:
    """ASGI middleware: says whose a request is, or refuses it.

    What it lets in has `owner` (the key's ID, or `local`), `key`, `max_jobs` and `max_stored_bytes` in its state, the last
    three None where nothing was said, and `still_admitted`, for answers that last: whether it would be let in now. Without any
    key, everybody who reaches the address is `local` and may do everything. With keys, a route that `RULES` doesn't have is
    nobody's but an `admin`'s: one that was forgotten there is closed, not open.
    """

    def __init__(self, app: ASGIApp, keys: Keys, settings: AccessSettings) -> None:
        self.app = app
        self._keys = keys
        self._settings = settings
        self._buckets = Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; there are no WebSockets here."""
        if scope["type"] not in ("http", "lifespan"):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        try:
            if scope["type"] == "http" and not _is_open(scope):
                self._admit(scope)
        except (Refused, HTTPException) as error:
            await refuse(error, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        key = self._key_of(scope)
        state = scope.setdefault("state", {})
        state["owner"], state["key"] = key.id if key else LOCAL, key
        state["still_admitted"] = lambda: self._still_admits(key, scope)
        state["max_jobs"] = key.max_jobs if key else None
        state["max_stored_bytes"] = key.max_stored_bytes if key else None
        self._check_rate(state["owner"], key)
        if key:
            _check_scope(key, scope)
        else:
            _check_page(scope, self._settings.cors_origins)

    def _still_admits(self, key: Key | None, scope: Scope) -> bool:
        try:
            return self._key_of(scope) == key
        except NoKey:
            return False

    def _key_of(self, scope: Scope) -> Key | None:
        if not self._keys.required:
            return None
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        if not given:
            raise NoKey("key_required", "the route needs a key; send it as Authorization: Bearer KEY")
        key = self._keys.find(given[0].removeprefix(_SCHEME)) if given[0].startswith(_SCHEME) else None
        if key is None or len(given) > 1:
            raise NoKey("key_invalid", "the key isn't known, or no longer valid; ask whoever runs the server for one")
        return key

    def _check_rate(self, owner: str, key: Key | None) -> None:
        allowed = (key.requests_per_minute if key else None) or self._settings.requests_per_minute
        wait_s = self._buckets.take(owner, allowed)
        if wait_s:
            message = "more requests than the key may send in a minute; go on after the seconds of Retry-After"
            raise TooOften("rate_limited", message, limit=allowed, retry_s=wait_s)


class Buckets:
    """Token buckets: each owner has so many requests in store, and gets them back evenly over a minute."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float]] = {}  # requests, at what second

    def take(self, owner: str, per_minute: int) -> float:
        """Takes one request out; 0, or the seconds until there is one."""
        now_s = time.monotonic()
        left, since_s = self._left.get(owner, (per_minute, now_s))
        left = min(per_minute, left + (now_s - since_s) * per_minute / 60)
        enough = left >= 1
        self._left[owner] = (left - enough, now_s)
        return 0 if enough else (1 - left) * 60 / per_minute


def rules_of(path: str) -> list[Rule]:
    """The rules of a path; empty for one that isn't known."""
    return [rule for rule in RULES if rule.covers(path)]


def _is_open(scope: Scope) -> bool:
    return any(rule.needs is None and rule.takes(scope["method"]) for rule in rules_of(scope["path"]))


def _check_scope(key: Key, scope: Scope) -> None:
    rules = rules_of(scope["path"])
    if not rules:
        if "admin" not in key.scopes:
            raise HTTPException(404)
        return
    taken = [rule for rule in rules if rule.takes(scope["method"])]
    if not taken:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(" ".join(rule.methods for rule in rules).split()))})
    if not any(rule.needs in key.scopes for rule in taken):
        raise NotAllowed("scope_missing", f"the route needs a key with the scope {taken[0].needs}; ask for one, or use another")


def _check_page(scope: Scope, origins: tuple[str, ...]) -> None:
    """Where no key tells users from others, their browsers mustn't act for the pages of other sites.

    Such a page can send what has side effects without reading the answer, which browsers mark with its origin; or have its own
    name lead to this machine, and then the request says that name.
    """
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    ours = {*origins, f"http://{host}", f"https://{host}"}
    is_foreign = origin is not None and origin not in ours and scope["method"] not in ("GET", "HEAD", "OPTIONS")
    known = {each.split("://")[1] for each in origins}
    if is_foreign or (_came_by_loopback(scope) and host not in known and not _is_local(host)):
        raise NotAllowed(
            "page_not_allowed",
            "without keys, pages of other sites can't use the server; whoever runs it can name them in OVERTILE_CORS_ORIGINS",
        )


def _came_by_loopback(scope: Scope) -> bool:
    try:
        return ipaddress.ip_address((scope.get("server") or ("", 0))[0]).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    """Whether a Host header holds an address, a name without dots, or nothing: no name that another site could give out."""
    name = re.sub(r":[0-9]*$", "", host)
    return "." not in name or re.fullmatch(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]", name) is not None
