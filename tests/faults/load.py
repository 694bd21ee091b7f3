"""Clients that load a service, and what is watched meanwhile: answers, seconds, memory, descriptors, threads."""

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
    """What a process has."""

    resident_bytes: int
    descriptors: int
    threads: int


@dataclass
class Calls:
    """What calls gave: seconds of those that were answered with 200, and what was wrong with the others."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, seconds: float, error: str | None) -> None:
        """One call's."""
        with self.lock:
            if error is None:
                self.seconds.append(seconds)
            else:
                self.errors.append(error)


class Segmenting:
    """One client with a connection that it keeps."""

    def __init__(self, url: str, pictures: Sequence[bytes], model: str, calls: Calls, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url, timeout=120, headers=headers)
        self._pictures, self._model, self._calls, self._number = pictures, model, calls, 0

    def call(self) -> None:
        """One picture there, its mask back."""
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
        """Its connection."""
        self._client.close()


def closed_loop(url: str, pictures: Sequence[bytes], model: str, *, clients: int, seconds: float) -> float:
    """Calls a second that so many clients get who send the next as soon as the last is answered."""
    calls, ends = Calls(), time.monotonic() + seconds

    def work() -> None:
        client = Segmenting(url, pictures, model, calls)
        while time.monotonic() < ends:
            client.call()
        client.close()

    began = time.monotonic()
    _together([work] * clients)
    if calls.errors:
        raise RuntimeError(f"{len(calls.errors)} calls failed: {calls.errors[0]}")
    return len(calls.seconds) / (time.monotonic() - began)


def open_loop(
    url: str, pictures: Sequence[bytes], model: str, *, clients: int, rate: float, seconds: float, key: str | None = None
) -> Calls:
    """Calls at `rate` a second, whatever the server does: each client sends at its own moments, evenly spread."""
    calls, began, every_s = Calls(), time.monotonic(), 1 / rate

    def work(number: int) -> None:
        client = Segmenting(url, pictures, model, calls, key)
        for turn in range(number, round(seconds * rate), clients):
            time.sleep(max(0.0, began + turn * every_s - time.monotonic()))
            client.call()
        client.close()

    _together([lambda number=number: work(number) for number in range(clients)])  # type: ignore[misc]
    return calls


@contextmanager
def flooded(url: str, pictures: Sequence[bytes], model: str, *, clients: int, key: str) -> Iterator[Calls]:
    """By clients of one key who send the next as soon as the last is answered or refused, as long as the context lasts."""
    calls, ended = Calls(), threading.Event()

    def work() -> None:
        client = Segmenting(url, pictures, model, calls, key)
        while not ended.is_set():
            client.call()
        client.close()

    with ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(_beside(work, ended))
        yield calls


def _together(works: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def processes_of(service: Service) -> dict[str, int]:
    """Role -> process: the gateway, its engine, and the engine's forkserver of readers."""
    if service.process is None:
        raise RuntimeError("the service isn't started")
    found = {"gateway": service.process.pid}
    for child in sorted(descendants(service.process.pid), reverse=True):  # a reader is forked after its forkserver
        words = command_of(child)
        found.update({role: child for word, role in ROLES.items() if word in words})
    return found


def state_of(process_id: int) -> State:
    """What the process has now."""
    status = _status(process_id)
    return State(int(status["VmRSS"]) * 1024, len(list(Path(f"/proc/{process_id}/fd").iterdir())), int(status["Threads"]))


def peak_bytes(process_id: int) -> int:
    """The most resident memory that it had since `forget_peak`."""
    return int(_status(process_id)["VmHWM"]) * 1024


def forget_peak(process_id: int) -> None:
    """Lets the peak begin anew at what the process has now."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def _status(process_id: int) -> dict[str, str]:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return {key: value.split()[0] for key, _, value in (line.partition(":") for line in lines) if value.strip()}


@contextmanager
def sampled(service: Service, every_s: float = SAMPLE_EVERY_S) -> Iterator[dict[str, list[State]]]:
    """Role -> its process's states, one after the other, as long as the context lasts."""
    roles, ended = processes_of(service), threading.Event()
    states: dict[str, list[State]] = {role: [] for role in roles}

    def work() -> None:
        while not ended.wait(every_s):
            for role, process_id in roles.items():
                with suppress(OSError, KeyError):  # gone: who looks at the states sees that there are too few
                    states[role].append(state_of(process_id))

    with _beside(work, ended):
        yield states


@dataclass(frozen=True)
class Drift:
    """How a process's last third differs from its first: by medians, and by the fewest descriptors: calls have some open."""

    memory: float
    descriptors: float
    threads: float
    first: State

    @classmethod
    def of(cls, states: Sequence[State], warm_up: float = 0.2) -> "Drift":
        """Of all states but the first share of them."""
        kept = states[int(len(states) * warm_up) :]
        third = max(1, len(kept) // 3)
        first, last = (_usual(part) for part in (kept[:third], kept[-third:]))
        return cls(
            last.resident_bytes / first.resident_bytes - 1,
            last.descriptors - first.descriptors,
            last.threads - first.threads,
            first,
        )


def _usual(states: Sequence[State]) -> State:
    return State(
        int(statistics.median_low(each.resident_bytes for each in states)),
        min(each.descriptors for each in states),
        int(statistics.median_low(each.threads for each in states)),
    )


@contextmanager
def watched(url: str, every_s: float = READY_EVERY_S) -> Iterator[Calls]:
    """GET /readyz again and again over one connection, from another process; what the answers took, when the context ends."""
    calls = Calls()
    command = [sys.executable, str(Path(__file__).with_name("ready_watch.py")), url, str(every_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield calls
        finally:
            told = json.loads(process.communicate(timeout=60)[0])
            calls.seconds, calls.errors = told["seconds"], told["errors"]


@contextmanager
def _beside(work: Callable[[], None], ended: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


class Generated:
    """A file that is nowhere: the same MiB of noise over and over, each with its number in front."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self._noise = np.random.default_rng(seed).bytes(MIB)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Its bytes from `start` to `stop`, a MiB at a time at most."""
        stop = self.size if stop is None else min(stop, self.size)
        while start < stop:
            number, within = divmod(start, MIB)
            block = number.to_bytes(8) + self._noise[8:]
            piece = block[within : min(MIB, within + stop - start)]
            yield piece
            start += len(piece)

    def sha256(self) -> str:
        """Hexadecimal."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def begun(client: httpx.Client, size: int) -> str:
    """A new tus upload's place."""
    answer = client.post("/v1/uploads", headers={**TUS, "Upload-Length": str(size)})
    answer.raise_for_status()
    return answer.headers["location"]


def sent_in_pieces(client: httpx.Client, file: Generated, piece_bytes: int) -> str:
    """The place of an upload that came by tus."""
    place = begun(client, file.size)
    for start in range(0, file.size, piece_bytes):
        stop = min(start + piece_bytes, file.size)
        headers = {**PATCH, "Upload-Offset": str(start), "Content-Length": str(stop - start)}
        client.patch(place, headers=headers, content=file.blocks(start, stop)).raise_for_status()
    return place


def sent_at_once(client: httpx.Client, file: Generated) -> str:
    """The place of an upload that came as one body."""
    answer = client.put("/v1/uploads", headers={"Content-Length": str(file.size)}, content=file.blocks())
    answer.raise_for_status()
    return answer.headers["location"]


def sent_with_cuts(client: httpx.Client, file: Generated, cuts: Sequence[int]) -> str:
    """The place of an upload whose connection was closed after these bytes, and that went on from where HEAD said."""
    place = begun(client, file.size)
    for cut in sorted(cuts):
        offset = offset_of(client, place)
        if cut > offset:
            _cut(str(client.base_url), place, offset, file, cut)
    offset = offset_of(client, place)
    headers = {**PATCH, "Upload-Offset": str(offset), "Content-Length": str(file.size - offset)}
    client.patch(place, headers=headers, content=file.blocks(offset)).raise_for_status()
    return place


def offset_of(client: httpx.Client, place: str) -> int:
    """Where to send on from; asked until nobody writes there any more."""
    known = -1
    while True:
        offset = int(client.head(place, headers=TUS).headers["upload-offset"])
        if offset == known:
            return offset
        known = offset
        time.sleep(0.1)


def _cut(url: str, place: str, offset: int, file: Generated, cut: int) -> None:
    """Announces the whole rest, sends it up to `cut`, and closes the socket."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.putrequest("PATCH", place)
    for name, value in {**PATCH, "Upload-Offset": str(offset), "Content-Length": str(file.size - offset)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    for block in file.blocks(offset, cut):
        connection.send(block)
    connection.close()
