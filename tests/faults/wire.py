"""Raw bytes on a socket that HTTP libraries wouldn't send, and the answers."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

SECOND = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One answer on a connection."""

    status: int
    headers: bytes
    body: bytes

    @property
    def is_error_of_ours(self) -> bool:
        error = json.loads(self.body)["error"]
        assert {"code", "message", "request_id"} <= set(error) <= {"code", "message", "request_id", "field", "limit"}
        return f"x-request-id: {error['request_id']}".encode() in self.headers.lower()


def connect(url: str, timeout_s: float = 20) -> socket.socket:
    known = httpx.URL(url)
    return socket.create_connection((known.host, known.port or 0), timeout=timeout_s)


def talk(url: str, request: bytes) -> list[Answer]:
    """Send bytes, and return all answers until the server closes the connection."""
    with connect(url) as connection:
        with suppress(ConnectionError):  # it may close while there is more to send
            connection.sendall(request)
        return answers_of(all_from(connection))


def all_from(connection: socket.socket) -> bytes:
    came = bytearray()
    with suppress(ConnectionError):
        while block := connection.recv(2**16):
            came += block
    return bytes(came)


def answers_of(came: bytes) -> list[Answer]:
    """Yield the answers in a stream of bytes, by their lengths."""
    answers = []
    while came:
        head, _, rest = came.partition(b"\r\n\r\n")
        status = int(head[len(b"HTTP/1.1 ") :][:3])
        length = re.search(rb"\ncontent-length: ([0-9]+)", head.lower())
        size = int(length[1]) if length else 0
        answers.append(Answer(status, head, rest[:size]))
        came = rest[size:]
    return answers


@dataclass
class Probe:
    """Latencies of repeated requests, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * share)]


@contextmanager
def probing(url: str, every_s: float = 0.01) -> Iterator[Probe]:
    """Request /readyz repeatedly during the context, and check that each answer is 200."""
    probe, stop = Probe(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while not stop.wait(every_s):
                began = time.perf_counter()
                status = client.get("/readyz").status_code
                probe.seconds.append(time.perf_counter() - began if status == 200 else float("inf"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield probe
    finally:
        stop.set()
        thread.join()
