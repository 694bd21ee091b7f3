"""ServerClock changes of a running server, by libfaketime: no job runs twice, expires early or ends before its start."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from kill_cycles import Service, wait_for_job, wait_until
from servers import png
from services import SMALL, hand_over, serving

from service.gateway import DISK_CHECK_S, SWEEP_S
from tests.debian import find_or_skip

LARGER = png(np.random.default_rng(0).integers(0, 256, (3, 800, 800), np.uint8))
DAY_S = 24 * 3600
LIBRARY = "libfaketimeMT.so.1"


@pytest.fixture(scope="module")
def library() -> str:
    return find_or_skip("libfaketime", f"usr/lib/*/faketime/{LIBRARY}")


class ServerClock:
    """ServerClock of the server; `set` moves it ahead of the machine's."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, ahead_s: int) -> None:
        part = self.file.with_suffix(".part")
        part.write_text(f"{ahead_s:+}s\n")
        part.replace(self.file)


@pytest.fixture
def clock(tmp_path: Path) -> ServerClock:
    return ServerClock(tmp_path / "clock")


@pytest.fixture
def service(packaged: Service, library: str, clock: ServerClock, tmp_path: Path) -> Iterator[Service]:
    faked = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock.file), "FAKETIME_CACHE_DURATION": "1"}
    real = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}  # what a set clock doesn't change, either
    with serving(packaged, tmp_path, **faked, **real) as running:
        yield running


def server_time(client: httpx.Client) -> float:
    """Return the time in the server's answers."""
    return parsedate_to_datetime(client.get("/livez").headers["date"]).timestamp()


@pytest.mark.parametrize("ahead_s", [365 * DAY_S, -3600, 13 * 365 * DAY_S], ids=["year", "hour back", "2039"])
def test_p11_a_clock_that_is_set_while_it_works(service: Service, clock: ServerClock, ahead_s: int) -> None:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        before = wait_for_job(client, hand_over(client, SMALL))
        waiting = client.put("/v1/uploads", content=SMALL).json()["id"]
        running = hand_over(client, LARGER, "window")
        wait_until(lambda: client.get(f"/v1/jobs/{running}").json()["state"] == "running", timeout_s=30)
        clock.set(ahead_s)
        wait_until(lambda: abs(server_time(client) - time.time() - ahead_s) < 60, timeout_s=10)
        if ahead_s == 365 * DAY_S:
            time.sleep(SWEEP_S + 2 * DISK_CHECK_S)  # what is over has gone then
        after = wait_for_job(client, running)
        check_times(before, after)
        assert client.get(f"/v1/uploads/{waiting}").json()["complete"]
        for job in (before, after):
            result = job["results"][0]
            assert client.get(f"/v1/jobs/{job['id']}/results/{result['name']}").status_code == 200
        results = service.folder / "store" / "jobs" / running / "results"
        assert {path.name for path in results.iterdir()} == {"mask.png", "mask_summary.json", "results.json"}
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"


def check_times(*jobs: dict[str, str]) -> None:
    for job in jobs:
        assert job["state"] == "done", job
        assert job["created_at"] <= job["started_at"] <= job["finished_at"] < job["expires_at"]
