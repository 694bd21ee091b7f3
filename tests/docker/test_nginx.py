"""docker/nginx.conf, run by the real nginx before two real servers on loopback."""

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from fronts import HOST, Front, engine, free_port, front

from tests.debian import find_or_skip

JOB = "0123456789abcdef" * 2
MIB = 2**20


@pytest.fixture(scope="module")
def binary() -> str:
    return find_or_skip("nginx", "usr/sbin/nginx")


@pytest.fixture(scope="module")
def served(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    with engine(folder, "one") as one, engine(folder, "two") as two, front(folder, (one, two), binary) as running:
        yield running


def error_of(body: bytes) -> dict[str, str]:
    content = json.loads(body)["error"]
    assert isinstance(content, dict)
    return content


def test_an_upload_reaches_the_engine_while_it_is_sent(served: Front) -> None:
    path, piece, pieces = f"/v1/uploads/{'a' * 32}", bytes(MIB), 50
    connection = served.connection()
    connection.putrequest("PATCH", path)
    connection.putheader("Content-Length", str(len(piece) * pieces))
    connection.endheaders()
    connection.send(piece)
    until = time.monotonic() + 10
    while json.loads(served.ask("GET", path)[1])["bytes"] < MIB:  # the rest isn't sent yet
        assert time.monotonic() < until, "nothing of the upload reached the engine"
        time.sleep(0.02)
    for _ in range(pieces - 1):
        connection.send(piece)
    assert json.loads(connection.getresponse().read())["bytes"] == pieces * MIB
    connection.close()


def test_a_chunked_upload_passes(served: Front) -> None:
    connection = served.connection()
    connection.request("PATCH", f"/v1/uploads/{'b' * 32}", body=iter([b"12", b"345"]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["bytes"] == 5
    connection.close()


def test_the_pieces_of_an_upload_go_to_one_engine(served: Front) -> None:
    engines = {json.loads(served.ask("GET", f"/v1/uploads/{'c' * 32}")[1])["engine"] for _ in range(12)}
    others = {json.loads(served.ask("GET", "/headers")[1])["engine"] for _ in range(40)}
    assert len(engines) == 1
    assert others == {"one", "two"}


def test_events_arrive_one_by_one(served: Front) -> None:
    connection = served.connection()
    connection.request("GET", f"/v1/jobs/{JOB}/events")
    answer = connection.getresponse()
    assert answer.readline() == b"data: first\n"  # the second isn't written before the next line
    (served.folder / f"{JOB}.go").touch()
    assert answer.read() == b"\ndata: second\n\n"
    connection.close()


def test_a_part_of_a_result(served: Front) -> None:
    answer, body = served.ask("GET", f"/v1/jobs/{JOB}/results/mask", {"Range": "bytes=250-259"})
    assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 250-259/4096")
    assert body == bytes([250, 251, 252, 253, 254, 255, 0, 1, 2, 3])


HALVES = [b"", b"GET / HT", b"GET /readyz HTTP/1.1\r\nHost: overtile.example\r\nX-A: "]


def test_half_sent_headers_are_given_up_and_hinder_nobody(served: Front) -> None:
    with ThreadPoolExecutor(300) as clients:
        plain = [clients.submit(seconds_until_closed, served.plain, half) for half in HALVES * 80]
        secret = [clients.submit(seconds_until_closed, served.tls, half) for half in HALVES]
        dripping = clients.submit(seconds_until_closed, served.tls, b"GET / HTTP/1.1\r\n", dripping=True)
        time.sleep(1)
        began = time.monotonic()
        assert served.ask("GET", "/readyz")[0].status == 200
        assert time.monotonic() - began < 1
        seconds = [client.result() for client in [*plain, *secret, dripping]]
    assert min(seconds) > 4
    assert max(seconds) < 6.5  # 5 s, and what two busy cores take for hundreds of clients


def seconds_until_closed(connect: Callable[[], socket.socket], sent: bytes, *, dripping: bool = False) -> float:
    """How long the other side waits for the rest of a header; `dripping` sends a byte of it each half second."""
    with connect() as connection:
        began = time.monotonic()
        connection.sendall(sent)
        connection.settimeout(0.5 if dripping else 15)
        with suppress(OSError):  # closed between two bytes
            while not closed(connection):
                connection.sendall(b"X")
        return time.monotonic() - began


def closed(connection: socket.socket) -> bool:
    """Whether the other side closes; False where it has said nothing yet."""
    try:
        return drained(connection) in (b"", b"408")
    except TimeoutError:
        return False


def drained(connection: socket.socket) -> bytes:
    """The status with which the other side closes; nothing where it sends none."""
    came = b""
    try:
        while piece := connection.recv(4096):
            came += piece
    except (ConnectionResetError, ssl.SSLError):
        pass
    return came[9:12]


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Content-Length: 4", "Content-Length: 5"],
        ["Content-Length: -1"],
        ["Content-Length: 4,4"],
        ["Host: other.example"],
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(served: Front, lines: list[str]) -> None:
    request = "\r\n".join(["POST /headers HTTP/1.1", f"Host: {HOST}", *lines, "", "0\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n"])
    with served.tls() as connection:
        connection.sendall(request.encode())
        assert drained(connection) == b"400"


def test_a_header_of_a_megabyte_is_refused(served: Front) -> None:
    answer, _ = served.ask("GET", "/headers", {"X-Large": "x" * 20_000})
    assert answer.status == 400


def test_other_hosts_get_no_answer(served: Front) -> None:
    with pytest.raises(ssl.SSLError):
        served.tls("other.example")
    with served.plain() as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
        assert drained(plain) == b""


def test_another_host_on_a_connection_for_this_one(served: Front) -> None:
    with served.tls() as connection:
        connection.sendall(b"GET /headers HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
        assert drained(connection) == b""


def test_plain_http_is_sent_to_tls(served: Front) -> None:
    with served.plain() as plain:
        plain.sendall(f"POST /v1/jobs?a=b HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = plain.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 308")
    assert f"Location: https://{HOST}/v1/jobs?a=b\r\n" in answer


@pytest.mark.parametrize(("given", "kept"), [("a-request-1", True), ("x" * 65, False), ("a b", False), ("", False)])
def test_the_request_id_is_the_clients_where_it_is_one(served: Front, given: str, kept: bool) -> None:
    seen = dict(json.loads(served.ask("GET", "/headers", {"X-Request-ID": given})[1])["headers"])["x-request-id"]
    assert (seen == given) == kept
    assert seen.replace("-", "").isalnum()


def test_clients_cant_say_where_they_come_from(served: Front) -> None:
    false = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http", "Forwarded": "for=1.2.3.4"}
    seen = dict(json.loads(served.ask("GET", "/headers", false)[1])["headers"])
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"], seen["host"]) == ("127.0.0.1", "https", HOST)
    assert "forwarded" not in seen


def test_the_engines_own_errors_pass(served: Front) -> None:
    answer, body = served.ask("GET", "/refused")
    assert (answer.status, answer.headers["Retry-After"], error_of(body)) == (503, "7", {"code": "busy"})


def test_numbers_of_one_engine_stay_inside(served: Front) -> None:
    assert served.ask("GET", "/metrics")[0].status == 404


def test_more_requests_at_once_than_an_address_may_have(served: Front) -> None:
    job = "f" * 32
    with ExitStack() as open_ones:
        for _ in range(64):
            connection = served.connection()
            open_ones.callback(connection.close)
            connection.request("GET", f"/v1/jobs/{job}/events")
            assert connection.getresponse().readline() == b"data: first\n"
        answer, body = served.ask("GET", "/headers", {"X-Request-ID": "one-more"})
    (served.folder / f"{job}.go").touch()
    assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
    assert (error_of(body)["code"], error_of(body)["request_id"]) == ("too_many_connections", "one-more")


def test_no_engine_answers(binary: str, tmp_path: Path) -> None:
    with front(tmp_path, (free_port(), free_port()), binary) as alone:
        answer, body = alone.ask("GET", "/v1/models", {"X-Request-ID": "nobody"})
    assert (answer.status, answer.headers["Retry-After"], answer.headers["X-Request-ID"]) == (503, "5", "nobody")
    assert (error_of(body)["code"], error_of(body)["request_id"]) == ("unavailable", "nobody")
