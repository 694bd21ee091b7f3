"""Headers of every answer; which pages of other sites may read them; nothing of the client's in a header."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from guarded import bearer, client_of, error_of, send_raw

from service.http.security_headers import ALWAYS
from service.keys import SCOPES, Keys
from service.limits import AccessSettings

VIEWER = "https://viewer.example.org"
QUESTION = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,upload-offset"}
NOT_ALLOWED = {
    "code": "origin_not_allowed",
    "message": "pages of that site can't use the server; its operator can allow the site in OVERTILE_CORS_ORIGINS",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "keys.json"


@pytest.fixture(scope="module")
def token(path: Path) -> str:
    return Keys(path).add("everything", scopes=SCOPES)[1]


@pytest.fixture(scope="module")
def client(path: Path, token: str) -> Iterator[httpx.Client]:
    with client_of(path, AccessSettings(cors_origins=(VIEWER, "http://localhost:5173"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def closed_client(path: Path, token: str) -> Iterator[httpx.Client]:
    with client_of(path) as opened:
        yield opened


def cors_headers(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


def test_every_answer_has_them(client: httpx.Client, token: str) -> None:
    good = bearer(token)
    answers = {
        200: client.get("/v1/models", headers=good),
        401: client.get("/v1/models"),
        404: client.get("/livez/x", headers=good),
        405: client.put("/v1/models", headers=good),
        500: client.get("/v1/models?fail=1", headers=good),
        403: client.options("/v1/jobs", headers={"Origin": "https://evil.example", **QUESTION}),
        204: client.options("/v1/jobs", headers={"Origin": VIEWER, **QUESTION}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert {name: answer.headers[name] for name in ALWAYS} == ALWAYS
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert len(answer.headers["x-request-id"]) == 32
        assert answer.headers.get_list("x-request-id", split_commas=True) == [answer.headers["x-request-id"]]


def test_answers_arent_kept_unless_the_route_says_so(client: httpx.Client, token: str) -> None:
    assert client.get("/v1/models").headers["cache-control"] == "no-store"
    assert client.get("/v1/models", headers=bearer(token)).headers["cache-control"] == "no-store"
    assert client.get("/v1/models?cached=1", headers=bearer(token)).headers["cache-control"] == "max-age=60"
    assert "cache-control" not in client.get("/docs").headers


def test_pages_may_load_their_own_files_alone(client: httpx.Client) -> None:
    docs, viewer = (client.get(page, follow_redirects=False).headers["content-security-policy"] for page in ("/docs", "/"))
    assert "script-src 'self' 'unsafe-inline';" in docs
    assert "script-src 'self';" in viewer
    assert "img-src 'self' blob: data:;" in viewer
    assert viewer == client.get("/static/viewer.js").headers["content-security-policy"]
    assert "script-src" not in client.get("/v1/models").headers["content-security-policy"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", VIEWER, ""])
def test_no_page_of_another_site_by_default(closed_client: httpx.Client, token: str, origin: str) -> None:
    for answer in (
        closed_client.get("/v1/models", headers={"Origin": origin, **bearer(token)}),
        closed_client.get("/v1/models", headers={"Origin": origin}),
        closed_client.get("/livez", headers={"Origin": origin}),
        closed_client.options("/v1/jobs", headers={"Origin": origin, **QUESTION}),
    ):
        assert cors_headers(answer) == {}
    assert answer.status_code == 403
    assert error_of(answer) == NOT_ALLOWED


@pytest.mark.parametrize("origin", [VIEWER, "http://localhost:5173"])
def test_a_page_of_the_list(client: httpx.Client, token: str, origin: str) -> None:
    answered = client.options("/v1/uploads", headers={"Origin": origin, **QUESTION})
    assert answered.status_code == 204
    known = cors_headers(answered)
    assert known["access-control-allow-origin"] == origin
    assert {"authorization", "upload-offset", "upload-metadata", "idempotency-key"} <= set(
        known["access-control-allow-headers"].lower().split(", ")
    )
    assert {"PATCH", "DELETE", "PUT"} <= set(known["access-control-allow-methods"].split(", "))
    for answer in (
        client.get("/v1/models", headers={"Origin": origin, **bearer(token)}),
        client.get("/v1/models", headers={"Origin": origin}),  # the page may read why it is refused
        client.get("/v1/models?fail=1", headers={"Origin": origin, **bearer(token)}),
    ):
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["vary"] == "Origin"
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Location", "Upload-Offset", "ETag", "Content-Digest", "X-Request-ID", "X-Overtile-Label", "Retry-After"} <= {
            *exposed
        }
        assert "access-control-allow-credentials" not in answer.headers


ALMOST = ("https://viewer.example.org.evil.example", "https://viewer.example.or", "http://viewer.example.org", "null", "*",
          "https://viewer.example.org:443", "https://VIEWER.example.org", "https://a.viewer.example.org", "https://viewerxexample.org",
          f"{VIEWER}, {VIEWER}", f"{VIEWER}/")  # fmt: skip


@pytest.mark.parametrize("origin", ALMOST)
def test_a_page_that_is_almost_of_the_list(client: httpx.Client, token: str, origin: str) -> None:
    answer = client.get("/v1/models", headers={"Origin": origin, **bearer(token)})
    assert answer.status_code == 200
    assert cors_headers(answer) == {}
    assert answer.headers["vary"] == "Origin"
    refused = client.options("/v1/jobs", headers={"Origin": origin, **QUESTION})
    assert refused.status_code == 403
    assert cors_headers(refused) == {}
    assert error_of(refused) == NOT_ALLOWED


def test_two_origins_are_none(client: httpx.Client, token: str) -> None:
    headers = [("Origin", VIEWER), ("Origin", VIEWER), *bearer(token).items()]
    assert cors_headers(client.get("/v1/models", headers=headers)) == {}


def test_an_options_request_that_is_no_browsers_question_needs_a_key(client: httpx.Client, token: str) -> None:
    assert client.options("/v1/uploads").status_code == 401
    assert client.options("/v1/uploads", headers={"Origin": VIEWER}).status_code == 401
    assert client.options("/v1/uploads", headers=QUESTION).status_code == 401
    assert client.options("/v1/uploads", headers=bearer(token)).status_code == 200


INJECTED = (b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", b"a\rX-Evil: 1", b"a\r\n\r\nX-Evil: 1", b"\x00X-Evil: 1", b"a%0d%0aX-Evil: 1",
            "a\u560d\u560aX-Evil: 1".encode(), b"a\r\n X-Evil: 1", b"a; X-Evil: 1")  # fmt: skip


@pytest.mark.parametrize("name", [b"X-Request-ID", b"Origin", b"Access-Control-Request-Headers", b"Idempotency-Key", b"Host"])
@pytest.mark.parametrize("value", INJECTED)
def test_nothing_of_the_clients_becomes_a_header(client: httpx.Client, name: bytes, value: bytes) -> None:
    for line in (b"GET /v1/models", b"OPTIONS /v1/jobs"):
        more = b"Origin: x\r\nAccess-Control-Request-Method: GET\r\nConnection: close\r\n\r\n"
        answer = send_raw(client, line + b" HTTP/1.1\r\nHost: x\r\n" + name + b": " + value + b"\r\n" + more)
        assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
        assert b"x-evil" not in answer.lower()


def test_a_request_id_of_the_clients_is_kept_if_it_is_one(client: httpx.Client) -> None:
    for given, kept in (("abc-123", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False), ("a_b", False)):
        answer = client.get("/v1/models", headers={"X-Request-ID": given})
        assert (answer.headers["x-request-id"] == given) is kept
        error_of(answer)


LENGTHS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 0, 0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: +1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
)
EQUAL = (LENGTHS[2], LENGTHS[4])  # which h11 reads as one


@pytest.mark.parametrize("head", LENGTHS)
def test_two_lengths_arent_read_at_all(client: httpx.Client, token: str, head: bytes) -> None:
    """What follows on the connection is no second request."""
    start = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n".encode()
    second = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    answer = send_raw(client, start + head + second)
    statuses = [line.split(b" ")[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert statuses in ([b"400"], [b"501"]) or head in EQUAL
    assert answer.count(b"request_invalid") == (head in LENGTHS[:2])  # the others get no further than h11
