"""Who may do what, over a real socket: every route with every way not to have a key."""

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from guarded import ROUTES, bearer, client_of, documented_routes, error_of, send_raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import wait_until
from starlette.routing import BaseRoute, Mount

from service.api import create_api
from service.gateway import Gateway
from service.http.access import LOCAL, RULES, rules_of
from service.keys import SCOPES, Keys
from service.limits import AccessSettings

CHECKOUT = Path(__file__).parents[3]
OPEN = {"/livez", "/readyz", "/docs", "/docs/assets/swagger-ui.css", "/openapi.json", "/", "/static/viewer.js"}
CLOSED = [(method, path) for method, path in ROUTES if path not in OPEN]
NO_KEY = {"code": "key_required", "message": "the route needs a key; send it as Authorization: Bearer KEY"}
BAD_KEY = {
    "code": "key_invalid",
    "message": "the key is unknown, expired or revoked; ask the server's operator for a valid one",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "keys.json"


@pytest.fixture(scope="module")
def token(path: Path) -> str:
    return Keys(path).add("everything", scopes=SCOPES, max_jobs=7, max_stored_bytes=8)[1]


@pytest.fixture(scope="module")
def wrong(path: Path, token: str) -> dict[str, list[str]]:
    """By name: what is sent as Authorization."""
    keys = Keys(path)
    expired = keys.add("expired", scopes=SCOPES, expires_at=datetime.now(UTC) - timedelta(seconds=1))[1]
    key, revoked = keys.add("revoked", scopes=SCOPES)
    keys.revoke(key.id)
    never = Keys(path.parent / "other.json").add("of another server", scopes=SCOPES)[1]
    return {
        "empty": [""],
        "no token": ["Bearer"],
        "another server's": [f"Bearer {never}"],
        "prefix": [f"Bearer {token[:-1]}"],
        "longer": [f"Bearer {token}0"],
        "id alone": [f"Bearer {token[:17]}"],
        "other case": [f"Bearer {token.upper()}"],
        "scheme in other case": [f"bearer {token}"],
        "two spaces": [f"Bearer  {token}"],
        "basic": [f"Basic {token}"],
        "bare": [token],
        "expired": [f"Bearer {expired}"],
        "revoked": [f"Bearer {revoked}"],
        "two headers": [f"Bearer {token}", f"Bearer {token}"],
        "two headers, one good": [f"Bearer {token}", f"Bearer {token[:-1]}"],
        "two in one": [f"Bearer {token}, Bearer {token}"],
    }


@pytest.fixture(scope="module")
def client(path: Path, token: str, wrong: dict[str, list[str]]) -> Iterator[httpx.Client]:
    with client_of(path, AccessSettings(requests_per_minute=100_000)) as opened:
        yield opened


def check_refused(response: httpx.Response, expected: dict[str, str]) -> None:
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    if response.request.method != "HEAD":
        assert error_of(response) == expected


@pytest.mark.parametrize(("method", "route"), CLOSED)
def test_no_route_without_a_good_key(
    client: httpx.Client, token: str, wrong: dict[str, list[str]], method: str, route: str
) -> None:
    check_refused(client.request(method, route), NO_KEY)
    check_refused(client.request(method, route, params={"key": token, "access_token": token, "authorization": token}), NO_KEY)
    check_refused(client.request(method, route, headers={"Cookie": f"Authorization={token}"}), NO_KEY)
    for values in wrong.values():
        check_refused(client.request(method, route, headers=[("Authorization", value) for value in values]), BAD_KEY)
    assert client.request(method, route, headers=bearer(token)).status_code == 200


@pytest.mark.parametrize(("method", "route"), CLOSED)
def test_each_route_needs_its_scope(client: httpx.Client, path: Path, method: str, route: str) -> None:
    needs = next(rule.needs for rule in rules_of(route) if rule.allows(method))
    assert needs is not None
    right, others = f"{needs} alone", f"all but {needs}"
    by_name = _tokens(path)
    assert client.request(method, route, headers=bearer(by_name[right])).status_code == 200
    refused = client.request(method, route, headers=bearer(by_name[others]))
    assert refused.status_code == 403
    if method != "HEAD":
        message = f"the route needs a key with the scope {needs}; use another key, or ask the server's operator for one"
        assert error_of(refused) == {"code": "scope_missing", "message": message}


_made: dict[Path, dict[str, str]] = {}


def _tokens(path: Path) -> dict[str, str]:
    """Two keys a scope, made once: with it alone, and with all others."""
    if path not in _made:
        keys = Keys(path)
        _made[path] = {
            name: keys.add(name, scopes=scopes)[1]
            for scope in SCOPES
            for name, scopes in (
                (f"{scope} alone", (scope,)),
                (f"all but {scope}", tuple(each for each in SCOPES if each != scope)),
            )
        }
        time.sleep(0.6)  # until the server has seen them
    return _made[path]


@pytest.mark.parametrize("route", sorted(OPEN))
def test_open_routes_take_anybody_and_whatever_key(client: httpx.Client, route: str) -> None:
    for headers in ({}, bearer("wrong"), {"Authorization": ""}):
        assert client.get(route, headers=headers).json()["owner"] is None
    check_refused(client.post(route), NO_KEY)


def test_the_rules_are_those_of_the_documentation() -> None:
    assert len(documented_routes()) > 15
    unknown = [(method, path) for method, path in ROUTES if not any(rule.allows(method) for rule in rules_of(path))]
    assert unknown == []
    listed = {(method, rule.path) for rule in RULES for method in rule.methods.split()}
    covered = {(method, rule.path) for method, path in ROUTES for rule in rules_of(path)}
    assert listed == covered
    assert {path for _, path in ROUTES if rules_of(path)[0].needs is None} == OPEN


def routes_of(router: APIRouter) -> Iterator[BaseRoute]:
    """The router's routes and those of the routers that it includes."""
    for route in router.routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else routes_of(included)


def test_every_route_of_the_app_has_its_rule(tmp_path: Path) -> None:
    api = create_api(Gateway({"OVERTILE_STORE": str(tmp_path / "store")}, {}))
    every = list(routes_of(api.router))
    routes = {(method, route.path) for route in every if isinstance(route, APIRoute) for method in route.methods or ()}
    routes |= {("GET", f"{route.path}/any") for route in every if isinstance(route, Mount)}
    assert routes >= {
        ("POST", "/v1/segment"),
        ("PATCH", "/v1/uploads/{upload_id}"),
        ("GET", "/docs"),
        ("GET", "/docs/assets/any"),
    }
    assert [route for route in routes if not any(rule.allows(route[0]) for rule in rules_of(route[1]))] == []


def test_a_route_without_a_rule_is_closed(client: httpx.Client, token: str, path: Path) -> None:
    check_refused(client.get("/v1/forgotten"), NO_KEY)
    refused = client.get("/v1/forgotten", headers=bearer(_tokens(path)["all but admin"]))
    assert refused.status_code == 404
    assert error_of(refused) == {"code": "not_found", "message": "there is no such route; /docs lists them all"}
    assert client.get("/v1/forgotten", headers=bearer(token)).status_code == 200


ODD_PATHS = ("/v1/models/", "//v1/models", "/V1/models", "/v1/models;x", "/v1/models%00", "/v1/models%0a", "/v1/%2e%2e/livez",
             "/livez/", "/static/../v1/models", "/static/%2e%2e/v1/models", "/static//v1/models", "/static/..%5cv1/models",
             "/static/", "/static", "/docs/assets/..%2f..%2fmetrics", "/docs/../metrics", "/schema.json", "/docs.json",
             "/healthz", "/%2e%2e%2fv1/models", "/%252e%252e/livez", "http://x/livez",
             "/v1/uploads/a/b", "/v1/jobs/a/results/b/c")  # fmt: skip


@pytest.mark.parametrize("target", ODD_PATHS)
def test_odd_paths_arent_open(client: httpx.Client, target: str) -> None:
    answer = send_raw(client, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_wrong_method_says_which_are_right(client: httpx.Client, token: str) -> None:
    check_refused(client.put("/v1/models"), NO_KEY)
    refused = client.put("/v1/uploads/1", headers=bearer(token))
    assert refused.status_code == 405
    assert refused.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert error_of(refused)["code"] == "method_not_allowed"


def test_routes_learn_whose_request_it_is(client: httpx.Client, token: str) -> None:
    known = client.get("/v1/models", headers=bearer(token)).json()
    assert known == {"owner": token.split("_")[1], "max_jobs": 7, "max_stored_bytes": 8}


def test_websockets_are_refused(client: httpx.Client, token: str) -> None:
    head = (
        f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    answer = send_raw(
        client, f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b" 101 " not in answer.split(b"\r\n")[0]


def test_a_refused_body_doesnt_spoil_the_connection(client: httpx.Client, token: str) -> None:
    for _ in range(2):
        check_refused(client.post("/v1/segment", content=bytes(100_000)), NO_KEY)
        assert client.get("/v1/models", headers=bearer(token)).status_code == 200


def test_the_log_says_whose_key_it_was_and_nothing_of_the_clients(
    client: httpx.Client, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "overtile.service"]

    with caplog.at_level(logging.INFO):
        client.get("/livez")  # in no line
        client.get("/v1/models", headers={**bearer(token), "X-Request-ID": "mine"})
        client.get("/v1/geheim?geheim=1", headers=bearer("geheim"))
        wait_until(lambda: len(lines()) == 2, timeout_s=5)  # a line is written when its answer is out
    ours = lines()
    assert [record.getMessage() for record in ours] == ["GET /v1/models 200", "GET - 401"]
    assert (vars(ours[0])["request_id"], vars(ours[0])["owner"]) == ("mine", token.split("_")[1])
    assert "geheim" not in str([vars(record) for record in ours])
    assert token not in caplog.text


@given(
    value=st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)), prefix=st.sampled_from([b"", b"Bearer "])
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_authorization_is_refused_and_nothing_else(client: httpx.Client, value: bytes, prefix: bytes) -> None:
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: "
    answer = send_raw(client, head + prefix + value + b"\r\n\r\n")
    assert answer.split(b" ", 2)[:2] in ([b"HTTP/1.1", b"401"], [b"HTTP/1.1", b"400"])


def test_without_keys_everybody_is_local_until_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with client_of(path) as client:
        local = {"owner": LOCAL, "max_jobs": None, "max_stored_bytes": None}
        assert client.get("/v1/forgotten").json() == local
        for method, route in CLOSED:
            assert client.request(method, route, headers=bearer("whatever")).status_code == 200
        assert client.get("/nowhere").json()["error"]["code"] == "not_found"
        key, token = Keys(path).add("first")
        time.sleep(0.6)
        check_refused(client.get("/v1/models"), NO_KEY)
        assert client.get("/v1/models", headers=bearer(token)).json()["owner"] == key.id
        path.unlink()
        time.sleep(0.6)
        check_refused(client.get("/v1/models"), NO_KEY)


def test_a_revoked_key_stops_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, token = Keys(path).add("short")
    with client_of(path) as client:
        assert client.get("/v1/models", headers=bearer(token)).status_code == 200
        code = f"from pathlib import Path\nfrom service.keys import Keys\nKeys(Path({str(path)!r})).revoke({key.id!r})"
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60)
        began = time.monotonic()
        while client.get("/v1/models", headers=bearer(token)).status_code == 200:
            assert time.monotonic() - began < 1
            time.sleep(0.02)
        check_refused(client.get("/v1/models", headers=bearer(token)), BAD_KEY)


def test_with_keys_the_key_alone_decides(client: httpx.Client, token: str) -> None:
    headers = {**bearer(token), "Host": "public.example", "Origin": "https://evil.example"}
    assert client.post("/v1/jobs", headers=headers).status_code == 200
