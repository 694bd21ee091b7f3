"""Two servers with one PostgreSQL and one store: fifty jobs, of which each is done once although a server is killed."""

import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from kill_cycles import Service, descendants, is_running, made_at, wait_for_job, wait_until
from postgres import postgres
from servers import png

JOBS = 50


@pytest.mark.timeout(600)
def test_two_servers_one_queue(tmp_path: Path) -> None:
    picture = png(np.random.default_rng(0).integers(0, 256, (3, 600, 600), np.uint8))
    with postgres() as url:
        first, second = (
            Service(tmp_path, OVERTILE_DATABASE_URL=url, OVERTILE_EXECUTOR=name, OVERTILE_ENGINE_TIMEOUT_S="30")
            for name in ("first", "second")
        )
        first.package()
        second.tag = first.tag
        first.start()
        second.start()
        with httpx.Client(base_url=first.url, timeout=60) as client:
            upload = client.put("/v1/uploads", content=picture).json()["id"]
            jobs = [client.post("/v1/jobs", json={"uploads": [upload], "models": ["window"]}).json()["id"] for _ in range(JOBS)]
        with httpx.Client(base_url=second.url, timeout=60) as client:
            wait_until(lambda: states(client, jobs)["done"] >= JOBS // 2, timeout_s=300)
            assert first.process is not None
            children = descendants(first.process.pid)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(10)
            before = {job: made_at(second, job) for job in jobs if is_made(second, job)}
            took_part = {client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs}
            assert "running" in took_part or "queued" in took_part
            wait_until(lambda: states(client, jobs)["done"] == JOBS, timeout_s=300)
            hashes = {wait_for_job(client, job)["results"][0]["sha256"] for job in jobs}
        assert len(hashes) == 1
        assert before == {job: made_at(second, job) for job in before}  # nothing was made anew
        wait_until(lambda: not any(map(is_running, children)), timeout_s=5)
        second.stop()


def test_a_name_is_one_servers(tmp_path: Path) -> None:
    with postgres() as url:
        first = Service(tmp_path, OVERTILE_DATABASE_URL=url, OVERTILE_EXECUTOR="same")
        first.package()
        first.start()
        other = Service(tmp_path, OVERTILE_DATABASE_URL=url, OVERTILE_EXECUTOR="same")
        other.tag = first.tag
        with pytest.raises(AssertionError, match="another server"):
            other.start()
        assert other.process is not None
        assert other.process.wait(10) == 3
        first.stop()


def states(client: httpx.Client, jobs: list[str]) -> dict[str, int]:
    known = {job["id"]: job["state"] for job in client.get("/v1/jobs?limit=1000").json()["jobs"]}
    time.sleep(0.2)
    return {state: sum(known[job] == state for job in jobs) for state in ("queued", "running", "done", "failed", "cancelled")}


def is_made(service: Service, job: str) -> bool:
    return (service.folder / "store" / "jobs" / job / "results" / "results.json").is_file()
