"""Clients that put a service under load, and measurements of its answers, latency, memory, descriptors and threads."""

import hashlib
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
from kill_cycles import Service, command_of
from servers import descendants

MIB = 2**20
READY_EVERY_S = 0.02
SAMPLE_EVERY_S = 1.0
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}
ROLES = {"service.engine.main": "engine", "imaging.reader_process": "forkserver"}


@dataclass(frozen=True)
class State:
    """State of a process."""

    resident_bytes: int
    descriptors: int
    threads: int


@dataclass
class Calls:
    """Results of calls: the seconds of those that were answered with 200, and the errors of the others."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, seconds: float, error: str | None) -> None:
        """Add the result of a call."""
        with self.lock:
            if error is None:
                self.seconds.append(seconds)
            else:
                self.errors.append(error)


class SegmentClient:
    """Client that segments images over one connection."""

    def __init__(self, url: str, pictures: Sequence[bytes], model: str, calls: Calls, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, timeout=120, headers=headers)
        self._pictures, self._model, self._calls, self._number = pictures, model, calls, 0

    def call(self) -> None:
        """Send the next image, and receive its mask."""
        picture = self._pictures[self._number % len(self._pictures)]
        self._number += 1
        began = time.monotonic()
        try:
            answer = self._client.post("/v1/segment", params={"model": self._model}, content=picture)
            error = None if answer.status_code == 200 else f"{answer.status_code} {answer.text[:200]}"
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}"
        self._calls.note(time.monotonic() - began, error)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def closed_loop(url: str, pictures: Sequence[bytes], model: str, *, clients: int, seconds: float) -> float:
    """Return the calls per second of that many clients, each of which sends the next call when the last is answered."""
    calls, ends = Calls(), time.monotonic() + seconds

    def work() -> None:
        client = SegmentClient(url, pictures, model, calls)
        while time.monotonic() < ends:
            client.call()
        client.close()

    began = time.monotonic()
    _run_threads([work] * clients)
    if calls.errors:
        raise RuntimeError(f"{len(calls.errors)} calls failed: {calls.errors[0]}")
    return len(calls.seconds) / (time.monotonic() - began)


def open_loop(
    url: str, pictures: Sequence[bytes], model: str, *, clients: int, rate: float, seconds: float, key: str | None = None
) -> Calls:
    """Make `rate` calls per second, evenly distributed over the clients, however fast the server answers."""
    calls, began, every_s = Calls(), time.monotonic(), 1 / rate

    def work(number: int) -> None:
        client = SegmentClient(url, pictures, model, calls, key)
        for turn in range(number, round(seconds * rate), clients):
            time.sleep(max(0.0, began + turn * every_s - time.monotonic()))
            client.call()
        client.close()

    _run_threads([lambda number=number: work(number) for number in range(clients)])  # type: ignore[misc]
    return calls


@contextmanager
def flood_with_calls(url: str, pictures: Sequence[bytes], model: str, *, clients: int, key: str) -> Iterator[Calls]:
    """Make calls with one key for the duration of the context; each client sends the next when the last is answered."""
    calls, ended = Calls(), threading.Event()

    def work() -> None:
        client = SegmentClient(url, pictures, model, calls, key)
        while not ended.is_set():
            client.call()
        client.close()

    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(_in_thread(work, ended))
        yield calls


def _run_threads(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def processes_of(service: Service) -> dict[str, int]:
    """Return the process ids by role: the gateway, its engine, and the engine's fork server of readers."""
    if service.process is None:
        raise RuntimeError("the service isn't started")
    processes = {"gateway": service.process.pid}
    for child in sorted(descendants(service.process.pid), reverse=True):  # a reader is forked after its fork server
        words = command_of(child)
        processes.update({role: child for word, role in ROLES.items() if word in words})
    return processes


def state_of(process_id: int) -> State:
    """Return the present state of a process."""
    status = _status(process_id)
    return State(int(status["VmRSS"]) * 1024, len(list(Path(f"/proc/{process_id}/fd").iterdir())), int(status["Threads"]))


def peak_bytes(process_id: int) -> int:
    """Return the peak of the resident memory since `reset_peak`."""
    return int(_status(process_id)["VmHWM"]) * 1024


def reset_peak(process_id: int) -> None:
    """Reset the peak of the resident memory to its present value."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def _status(process_id: int) -> dict[str, str]:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return {key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if value.strip()}


@contextmanager
def sample_states(service: Service, every_s: float = SAMPLE_EVERY_S) -> Iterator[dict[str, list[State]]]:
    """Collect the states of each role's process for the duration of the context."""
    roles, ended = processes_of(service), threading.Event()
    states: dict[str, list[State]] = {role: [] for role in roles}

    def work() -> None:
        while not ended.wait(every_s):
            for role, process_id in roles.items():
                with suppress(OSError, KeyError):  # the process has ended, which shows as too few states
                    states[role].append(state_of(process_id))

    with _in_thread(work, ended):
        yield states


@dataclass(frozen=True)
class Drift:
    """Change of a process from the first third of its states to the last.

    Memory and threads are medians; descriptors are the fewest, since calls have some open.
    """

    memory: float
    descriptors: float
    threads: float
    first: State

    @classmethod
    def of(cls, states: Sequence[State], warm_up: float = 0.2) -> "Drift":
        """Return the drift, without the states of the warm-up, a share of all."""
        measured = states[int(len(states) * warm_up) :]
        third = max(1, len(measured) // 3)
        first, last = (_typical(part) for part in (measured[:third], measured[-third:]))
        return cls(
            last.resident_bytes / first.resident_bytes - 1,
            last.descriptors - first.descriptors,
            last.threads - first.threads,
            first,
        )


def _typical(states: Sequence[State]) -> State:
    return State(
        int(statistics.median_low(each.resident_bytes for each in states)),
        min(each.descriptors for each in states),
        int(statistics.median_low(each.threads for each in states)),
    )


@contextmanager
def watch_readiness(url: str, every_s: float = READY_EVERY_S) -> Iterator[Calls]:
    """Request /readyz repeatedly from another process; the calls are filled in at the end of the context."""
    calls = Calls()
    command = [sys.executable, str(Path(__file__).with_name("ready_watch.py")), url, str(every_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield calls
        finally:
            report = json.loads(process.communicate(timeout=60)[0])
            calls.seconds, calls.errors = report["seconds"], report["errors"]


@contextmanager
def _in_thread(work: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


class Generated:
    """File that is generated on the fly: the same MiB of noise again and again, each with its number in front."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self._noise = np.random.default_rng(seed).bytes(MIB)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` to `stop` in blocks of at most one MiB."""
        stop = self.size if stop is None else min(stop, self.size)
        while start < stop:
            number, within = divmod(start, MIB)
            block = number.to_bytes(8) + self._noise[8:]
            piece = block[within : min(MIB, within + stop - start)]
            yield piece
            start += len(piece)

    def sha256(self) -> str:
        """Return the digest of the whole file in hexadecimal."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def create_upload(client: httpx.Client, size: int) -> str:
    """Create a tus upload, and return its URL."""
    answer = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size)})
    answer.raise_for_status()
    return answer.headers["location"]


def upload_in_pieces(client: httpx.Client, file: Generated, piece_bytes: int) -> str:
    """Upload the file by tus in pieces, and return its URL."""
    place = create_upload(client, file.size)
    for start in range(0, file.size, piece_bytes):
        stop = min(start + piece_bytes, file.size)
        headers = {**PATCH, "Upload-Offset": str(start), "Content-Length": str(stop - start)}
        client.patch(place, headers=headers, content=file.blocks(start, stop)).raise_for_status()
    return place


def upload_at_once(client: httpx.Client, file: Generated) -> str:
    """Upload the file in a single request, and return its URL."""
    answer = client.put("/v1/uploads", headers={"Content-Length": str(file.size)}, content=file.blocks())
    answer.raise_for_status()
    return answer.headers["location"]


def upload_with_cuts(client: httpx.Client, file: Generated, cuts: Sequence[int]) -> str:
    """Upload the file by tus, closing the connection after these bytes and resuming at the offset from HEAD; return its URL."""
    place = create_upload(client, file.size)
    for cut in sorted(cuts):
        offset = offset_of(client, place)
        if cut > offset:
            _cut(str(client.base_url), place, offset, file, cut)
    offset = offset_of(client, place)
    headers = {**PATCH, "Upload-Offset": str(offset), "Content-Length": str(file.size - offset)}
    client.patch(place, headers=headers, content=file.blocks(offset)).raise_for_status()
    return place


def offset_of(client: httpx.Client, place: str) -> int:
    """Return the offset of an upload, once it no longer changes."""
    known = -1
    while True:
        offset = int(client.head(place, headers=TUS).headers["upload-offset"])
        if offset == known:
            return offset
        known = offset
        time.sleep(0.1)


def _cut(url: str, place: str, offset: int, file: Generated, cut: int) -> None:
    """Announce the rest of the file, send it up to `cut`, and close the socket."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.putrequest("PATCH", place)
    for name, value in {**PATCH, "Upload-Offset": str(offset), "Content-Length": str(file.size - offset)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    for block in file.blocks(offset, cut):
        connection.send(block)
    connection.close()
