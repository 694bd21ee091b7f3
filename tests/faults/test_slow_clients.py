"""Clients that read slowly, send nonsense for long, or let the engine run out of memory: others aren't affected."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from kill_cycles import Service, command_of, descendants, wait_for_job
from servers import png

from disk.process import resident_bytes
from service.engine.errors import OutOfMemory, decode_error, encode_error
from service.http.access import rules_of
from service.http.forms import clean_filename
from service.jobs.runner import failure_of
from service.keys import Keys
from service.schemas import JobRequest, LoadRequest
from service.store import is_id

RANDOM = np.random.default_rng(0)
SMALL = png(RANDOM.integers(0, 256, (3, 90, 120), np.uint8))
MIB = 2**20


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as opened:
        yield opened


def gateway_of(service: Service) -> int:
    assert service.process is not None
    return service.process.pid


def test_h20_a_hundred_who_read_slowly(service: Service, client: httpx.Client) -> None:
    picture = png(RANDOM.integers(0, 256, (3, 1500, 1500), np.uint8))
    upload = client.put("/v1/uploads", content=picture).json()["id"]
    words = {"uploads": [upload], "models": ["unet"], "options": {"probabilities": "float16"}}
    job = wait_for_job(client, client.post("/v1/jobs", json=words).json()["id"])
    large = max(job["results"], key=lambda each: each["bytes"])
    before = resident_bytes(gateway_of(service))
    readers = []
    for _ in range(100):
        reader = socket.create_connection(("127.0.0.1", service.port))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(f"GET /v1/jobs/{job['id']}/results/{large['name']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        readers.append(reader)
    for reader in readers:
        assert b" 200 " in reader.recv(100)
    grown = resident_bytes(gateway_of(service)) - before
    assert client.post("/v1/segment?model=unet", content=SMALL).status_code == 200
    for reader in readers:
        reader.close()
    assert grown < 100 * MIB
    assert client.get("/readyz").status_code == 200


def test_p17_many_bad_inputs_in_a_row(service: Service, client: httpx.Client) -> None:
    bad = [b"no image", SMALL[:60], b"\x89PNG\r\n\x1a\n" + bytes(200), b"II*\x00" + bytes(50), b"GIF89a", bytes(348)]
    good = client.post("/v1/segment?model=unet", content=SMALL).content
    before = resources_of(service)
    for number in range(300):
        answer = client.post("/v1/segment?model=unet", content=bad[number % len(bad)])
        assert 400 <= answer.status_code < 500, answer.text
    assert client.post("/v1/segment?model=unet", content=SMALL).content == good
    after = resources_of(service)
    for (memory, files), (memory_after, files_after) in zip(before, after, strict=True):
        assert memory_after < memory * 1.05 + 8 * MIB
        assert files_after <= files + 2


def resources_of(service: Service) -> list[tuple[int, int]]:
    """Return the memory and descriptors of gateway and engine."""
    processes = [gateway_of(service), engine_of(service)]
    return [(resident_bytes(each), len(list(Path(f"/proc/{each}/fd").iterdir()))) for each in processes]


def engine_of(service: Service) -> int:
    (engine,) = [child for child in descendants(gateway_of(service)) if "service.engine.main" in command_of(child)]
    return engine


@pytest.mark.parametrize("take", [lambda: torch.empty(2**55), lambda: np.empty(2**60, np.uint8)], ids=["torch", "numpy"])
def test_p04_an_engine_without_memory(take: Callable[[], object]) -> None:
    """Check that the different errors of libraries have one code."""
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        take()
    error = decode_error(encode_error(raised.value))
    assert isinstance(error, OutOfMemory)
    assert failure_of(error)["code"] == "out_of_memory"


def test_x17_long_values_are_refused_soon(tmp_path: Path) -> None:
    long = "a" * MIB
    tries = {
        "id": lambda: is_id(long),
        "path": lambda: rules_of(f"/v1/jobs/{long}"),
        "path with many parts": lambda: rules_of("/" + "a/" * (MIB // 2)),
        "name": lambda: clean_filename(long),
        "token": lambda: Keys(tmp_path / "keys.json").find(f"ovt_{long}"),
        "job": lambda: JobRequest.model_validate_json('{"uploads": ["' + long + '"]}'),
        "tag": lambda: LoadRequest.model_validate({"tag": "a" * 60 + ":" + long}),
    }
    for name, check in tries.items():
        assert min(seconds_of(check) for _ in range(3)) < 0.05, name


def seconds_of(check: Callable[[], object]) -> float:
    began = time.perf_counter()
    with suppress(ValueError):
        check()
    return time.perf_counter() - began
