"""Requests that no client library would send: slow, endless, ambiguous, or not HTTP at all."""

import selectors
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from servers import MAX_BODY_BYTES, STALL_TIMEOUT_S, Server
from wire import SECOND, Answer, all_from, answers_of, connect, probing, talk

HOST = b"Host: localhost\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
POST = b"POST /v1/segment?model=unet HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
CLOSED, NEXT = "closed", "next"  # the connection after the answer; or the second request on it is answered, too

ODD = {  # what is sent, the status, and what becomes of the connection
    "H01-longer-than-allowed": (POST + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1), 413, CLOSED),
    "H01-length-of-30-digits": (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400, CLOSED),
    "H01-chunk-without-digits": (CHUNKED + b"\r\nzz\r\n\r\n", 400, CLOSED),
    "H01-chunk-of-2-to-100": (CHUNKED + b"\r\n" + b"f" * 25 + b"\r\n\r\n", 400, CLOSED),
    "H01-chunk-of-2-to-64": (CHUNKED + b"\r\nffffffffffffffff\r\n\r\n", 408, CLOSED),
    "H01-shorter-than-said": (POST + b"Content-Length: 100000\r\n\r\nhello", 408, CLOSED),
    "H01-chunk-with-100-kb-of-words": (CHUNKED + b"\r\n5;a=" + b"b" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", 415, NEXT),
    "H11-length-and-chunked": (CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\nG", 400, CLOSED),
    "H11-chunked-and-length": (POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400, CLOSED),
    "H11-chunked-twice": (CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, CLOSED),
    "H11-chunked-by-another-name": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, CLOSED),
    "H11-two-lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, CLOSED),
    "H11-one-length-twice": (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab", 415, NEXT),
    "H11-length-below-0": (POST + b"Content-Length: -1\r\n\r\n", 400, CLOSED),
    "H11-length-with-a-sign": (POST + b"Content-Length: +2\r\n\r\nab", 400, CLOSED),
    "H11-length-in-hexadecimal": (POST + b"Content-Length: 0x2\r\n\r\nab", 400, CLOSED),
    "H11-length-of-nothing": (POST + b"Content-Length: \r\n\r\nab", 400, CLOSED),
    "H11-space-before-the-colon": (POST + b"Content-Length : 4\r\n\r\nabcd", 400, CLOSED),
    "H11-folded": (GET + b"X-A: a\r\n b\r\n\r\n", 200, NEXT),
    "H11-folded-length": (POST + b"Content-Length:\r\n 4\r\n\r\nabcd", 415, NEXT),
    "H11-bare-lf": (GET.replace(b"\r\n", b"\n") + b"\n", 200, NEXT),
    "H11-bare-cr": (b"GET /livez HTTP/1.1\r" + HOST + b"\r\n\r\n", 400, CLOSED),
    "H11-header-of-1-mb": (GET + b"X-A: " + b"a" * 2**20 + b"\r\n\r\n", 400, CLOSED),
    "H11-10000-headers": (GET + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n", 400, CLOSED),
    "H11-headers-in-two-halves": (GET + b"X-A: " + b"a" * 60_000 + b"\r\n\r\n", 200, NEXT),
    "H11-unknown-method": (b"FLY /livez HTTP/1.1\r\n" + HOST + b"\r\n", 405, NEXT),
    "H11-no-method": (b"G@T /livez HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "H11-connect": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H11-absolute": (b"GET http://elsewhere.example/v1/models HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H11-options-of-all": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H11-http-0.9": (b"GET /livez\r\n\r\n", 400, CLOSED),
    "H11-http-1.0": (b"GET /livez HTTP/1.0\r\n\r\n", 200, CLOSED),
    "H11-http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404, CLOSED),
    "H11-tls": (bytes.fromhex("16030100c8010000c40303") + bytes(197), 400, CLOSED),
    "H11-websocket": (
        b"GET /v1/models HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        200,
        NEXT,
    ),
    "H11-expects-to-go-on": (POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", 100, NEXT),
    "H11-expects-tea": (POST + b"Expect: tea\r\nContent-Length: 5\r\n\r\nhello", 415, NEXT),
    "H11-no-host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, CLOSED),
    "H11-two-hosts": (GET + HOST + b"\r\n", 400, CLOSED),
    "H12-cr-in-the-request-id": (GET + b"X-Request-ID: a\rX-Evil: 1\r\n\r\n", 400, CLOSED),
    "H12-nul-in-a-header": (GET + b"X-A: a\0b\r\n\r\n", 400, CLOSED),
    "H12-line-break-in-a-job": (b"GET /v1/jobs/a%0d%0aX-Evil:%201 HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H12-line-break-in-a-query": (b"GET /v1/models?a%0d%0aX-Evil:%201 HTTP/1.1\r\n" + HOST + b"\r\n", 400, NEXT),
    "H13-nul-in-the-path": (b"GET /liv\0ez HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "H13-nul-encoded": (b"GET /v1/jobs/%00 HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-no-hexadecimal": (b"GET /v1/jobs/%zz%ff HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-dots": (b"GET /docs/assets/../../../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-dots-encoded": (b"GET /docs/assets/%2e%2e%2f%2e%2e%2fetc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-dots-encoded-twice": (b"GET /v1/uploads/%252e%252e HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-semicolon": (b"GET /v1/models;a=1 HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-not-ascii": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400, CLOSED),
    "H13-60000-letters": (b"GET /v1/jobs/" + b"a" * 60_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
    "H13-wrong-method": (b"DELETE /v1/segment HTTP/1.1\r\n" + HOST + b"\r\n", 405, NEXT),
    "H13-slash": (b"GET /v1/models/ HTTP/1.1\r\n" + HOST + b"\r\n", 404, NEXT),
}


@pytest.fixture(scope="module")
def answered(server: Server) -> dict[str, list[Answer]]:
    """Return the answers to all requests, sent two at a time, since some wait for a deadline."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ODD, pool.map(lambda odd: talk(server.url, ODD[odd][0] + SECOND), ODD), strict=True))


@pytest.mark.parametrize("odd", ODD)
def test_odd_bytes(client: httpx.Client, answered: dict[str, list[Answer]], odd: str) -> None:
    request, status, after = ODD[odd]
    answers = answered[odd]
    assert answers[0].status == status if answers else odd == "H11-header-of-1-mb"  # sent on into a closed connection
    for answer in answers:
        assert answer.status in (100, 200) or answer.is_error_of_ours, answer
        assert b"evil" not in answer.headers.lower()
    alive = [answer for answer in answers if answer.body == b'{"status":"alive"}']
    own = 1 if status == 200 and b"/livez" in request else 0
    assert len(alive) == own + (after == NEXT)
    assert client.get("/readyz").status_code == 200


def test_h03_a_thousand_half_sent_headers(server: Server) -> None:
    opened: dict[socket.socket, float] = {}
    with ExitStack() as stack, probing(server.url) as probe:
        for _ in range(1000):
            connection = stack.enter_context(connect(server.url))
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: loc")
            opened[connection] = time.monotonic()
        lasted = [closed_at - opened[connection] for connection, closed_at in closings(list(opened), 10)]
    assert len(lasted) == 1000
    assert max(lasted) < 6
    assert probe.quantile(0.99) < 0.1, f"of {len(probe.seconds)}, the longest took {max(probe.seconds):.3f} s"


@pytest.mark.slow
def test_h03_headers_byte_by_byte(server: Server) -> None:
    with connect(server.url) as connection:
        began = time.monotonic()
        came = dripped(connection, GET + b"X-A: " + b"a" * 1000, 0.2) + all_from(connection)
        assert time.monotonic() - began < 6
    assert [answer.status for answer in answers_of(came)] == [408]


def test_h03_fifty_slow_bodies(server: Server, client: httpx.Client) -> None:
    with ThreadPoolExecutor(50) as pool, probing(server.url) as probe:
        done = list(pool.map(lambda number: slow_body(server.url, number), range(50)))
    for seconds, came in done:
        assert [(answer.status, answer.is_error_of_ours) for answer in answers_of(came)] == [(408, True)]
        assert b"upload_stalled" in came
        assert STALL_TIMEOUT_S - 0.5 < seconds < 2 * STALL_TIMEOUT_S + 1
    assert probe.quantile(0.99) < 0.1, f"of {len(probe.seconds)}, the longest took {max(probe.seconds):.3f} s"
    assert client.get("/readyz").status_code == 200


def slow_body(url: str, number: int) -> tuple[float, bytes]:
    """Send a body at one byte per second, and return the seconds until the answer, and the answer."""
    path = (b"POST /v1/segment?model=unet", b"PUT /v1/uploads", b"POST /v1/jobs")[number % 3]
    kind = b"Content-Type: application/json\r\n" if number % 3 == 2 else b""
    with connect(url) as connection:
        connection.sendall(path + b" HTTP/1.1\r\n" + HOST + kind + b"Content-Length: 100000\r\n\r\n")
        began = time.monotonic()
        came = dripped(connection, b" " * 60, 1)
        return time.monotonic() - began, came


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_h03_idle_connections_are_closed(server: Server, count: int) -> None:
    with ExitStack() as stack, probing(server.url) as probe:
        connections = [stack.enter_context(connect(server.url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(GET + b"\r\n")
        for connection in connections:
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        assert all(at - began < 7 for _, at in closings(connections, 10))
    assert probe.quantile(0.99) < 0.1


def closings(connections: list[socket.socket], within_s: float) -> list[tuple[socket.socket, float]]:
    """Return the connections that the server closed, and when."""
    closed: list[tuple[socket.socket, float]] = []
    deadline = time.monotonic() + within_s
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(0.1):
                if ended(connection := connections[connections.index(key.fileobj)]):  # type: ignore[arg-type]
                    selector.unregister(connection)
                    closed.append((connection, time.monotonic()))
    return closed


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(2**16) == b""
    except ConnectionError:
        return True


def dripped(connection: socket.socket, content: bytes, pause_s: float) -> bytes:
    """Send byte by byte until an error is answered, and return it."""
    connection.settimeout(pause_s)
    came = b""
    for byte in content:
        try:
            connection.sendall(bytes([byte]))
            came = connection.recv(2**16)
            break
        except TimeoutError:
            continue
    connection.settimeout(20)
    while b'"request_id"' not in came and (more := connection.recv(2**16)):
        came += more
    return came
