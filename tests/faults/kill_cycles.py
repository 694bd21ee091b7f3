"""Kill the service (SIGKILL) at random moments under load, and count jobs that were lost, corrupted or done twice.

    PYTHONPATH=.:tests/service .venv/bin/python tests/faults/kill_cycles.py [--cycles 200] [--seed 0]

Each cycle kills all processes, the gateway alone, or the engine alone, while a client creates jobs and records the accepted
ones. At the end every accepted job has to be done, with the same bytes as in a run without kills.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from servers import (
    CHECKOUT,
    UNET,
    WINDOW,
    descendants,
    free_port,
    is_ready,
    is_running,
    package_code,
    png,
    run_python,
    wait_until,
    write_bundle,
)

KINDS = ("all", "gateway", "engine")
REMAINING_S = 2.0  # after a kill of the gateway, until none of its processes may run
READY_S = 60.0


@dataclass
class Counts:
    """Counts of a run, and the jobs or processes that violate a guarantee."""

    cycles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    accepted: int = 0
    unanswered: int = 0
    interrupted: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """True if nothing was lost, corrupted, done twice or left running."""
        return not (self.lost or self.torn or self.twice or self.different or self.left_over)


class Service:
    """Service of a Bento with one port and one store, which is started again after each kill."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        home = {"BENTOML_HOME": str(folder / "bentoml"), "OVERTILE_STORE": str(folder / "store")}
        limits = {"OVERTILE_STORAGE_RESERVE_BYTES": "1", "OVERTILE_REQUESTS_PER_MINUTE": "1000000"}
        (folder / "requests").mkdir(parents=True, exist_ok=True)
        own = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "requests")}
        self.environment = {**os.environ, **home, **limits, **own, **settings}
        self.process: subprocess.Popen[bytes] | None = None
        self.tag = "overtile"

    def package(self) -> None:
        """Package two small bundles."""
        bundles = [
            write_bundle(self.folder / "bundles" / name, name, model)  # type: ignore[arg-type]
            for name, model in (("unet", UNET), ("window", WINDOW))
        ]
        self.tag = run_python(package_code(*bundles), self.environment)

    def start(self) -> None:
        code = f"from service.launch import serve\nserve({self.tag!r}, port={self.port})"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=CHECKOUT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self.has_ended or is_ready(self.url), timeout_s=READY_S)
        assert not self.has_ended, (self.folder / "log").read_text()[-3000:]

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self, kind: str, counts: Counts) -> None:
        """Kill processes, and start the service again unless it restarts them itself."""
        assert self.process is not None
        children = descendants(self.process.pid)
        if kind == "engine":
            engines = [child for child in children if "service.engine.main" in command_of(child)]
            for engine in engines:
                os.kill(engine, signal.SIGKILL)
            wait_until(lambda: not any(map(is_running, engines)) and is_ready(self.url), timeout_s=READY_S)
            return
        for victim in [*children, self.process.pid] if kind == "all" else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.process.wait(10)
        deadline = time.monotonic() + REMAINING_S
        while any(map(is_running, children)) and time.monotonic() < deadline:
            time.sleep(0.05)
        counts.left_over += [command_of(child) for child in children if is_running(child)]
        self.start()

    def stop(self) -> None:
        assert self.process is not None
        children = descendants(self.process.pid)
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        wait_until(lambda: not any(map(is_running, children)), timeout_s=10)


class Load(threading.Thread):
    """Client thread that creates jobs, and records the accepted ones with their image and model."""

    def __init__(self, service: Service, pictures: list[bytes], seed: int) -> None:
        super().__init__(daemon=True)
        self.service, self.pictures, self.random = service, pictures, random.Random(seed)
        self.accepted: dict[str, tuple[int, str]] = {}
        self.unanswered, self.ended, self.paused = 0, threading.Event(), threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.05):
            number, model = self.random.randrange(len(self.pictures)), self.random.choice(("unet", "window"))
            try:
                with httpx.Client(base_url=self.service.url, timeout=20) as client:
                    open_jobs = client.get("/v1/jobs?limit=1000").json()["jobs"]
                    if sum(job["state"] in ("queued", "running") for job in open_jobs) > 6:
                        continue
                    upload = client.put("/v1/uploads", content=self.pictures[number])
                    job = client.post("/v1/jobs", json={"uploads": [upload.json()["id"]], "models": [model]})
                    if job.status_code == 202:
                        self.accepted[job.json()["id"]] = (number, model)
            except (httpx.TransportError, KeyError, ValueError):
                self.unanswered += 1


def command_of(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def wait_for_job(client: httpx.Client, job_id: str, timeout_s: float = 300) -> dict[str, Any]:
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] in ("done", "failed", "cancelled"), timeout_s=timeout_s)
    return dict(client.get(f"/v1/jobs/{job_id}").json())


def references_of(service: Service, pictures: list[bytes]) -> dict[tuple[int, str], bytes]:
    """Return the masks of a run without kills."""
    masks = {}
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for number, picture in enumerate(pictures):
            for model in ("unet", "window"):
                upload = client.put("/v1/uploads", content=picture).json()["id"]
                job = client.post("/v1/jobs", json={"uploads": [upload], "models": [model]}).json()["id"]
                assert wait_for_job(client, job)["state"] == "done"
                masks[number, model] = client.get(f"/v1/jobs/{job}/results/mask.png").content
    return masks


def check(service: Service, load: Load, references: dict[tuple[int, str], bytes], seen: dict[str, int], counts: Counts) -> None:
    """Wait for all accepted jobs, and count those that violate a guarantee."""
    counts.accepted, counts.unanswered = len(load.accepted), load.unanswered
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for job_id, what in load.accepted.items():
            response = client.get(f"/v1/jobs/{job_id}")
            if response.status_code != 200 or wait_for_job(client, job_id)["state"] != "done":
                counts.lost.append(f"{job_id}: {response.text}")
                continue
            result = client.get(f"/v1/jobs/{job_id}").json()["results"][0]  # the mask
            content = client.get(f"/v1/jobs/{job_id}/results/{result['name']}").content
            if hashlib.sha256(content).hexdigest() != result["sha256"]:
                counts.torn.append(job_id)
            if content != references[what]:
                counts.different.append(job_id)
            if seen.get(job_id, made_at(service, job_id)) != made_at(service, job_id):
                counts.twice.append(job_id)


def made_at(service: Service, job_id: str) -> int:
    return (service.folder / "store" / "jobs" / job_id / "results" / "results.json").stat().st_mtime_ns


def record_finished(service: Service, load: Load, seen: dict[str, int]) -> None:
    """Record when the results of each finished job were written, which mustn't change."""
    for job_id in list(load.accepted):
        if job_id not in seen:
            try:
                seen[job_id] = made_at(service, job_id)
            except OSError:
                continue


def cycle_on(folder: Path, cycles: int, seed: int) -> Counts:
    """Run the service with kills under load, and return the counts."""
    moments, counts = random.Random(seed), Counts()
    rng = np.random.default_rng(seed)
    pictures = [png(rng.integers(0, 256, (3, side, side), np.uint8)) for side in (200, 500, 900)]
    service = Service(folder)
    service.package()
    service.start()
    references = references_of(service, pictures)
    load, seen = Load(service, pictures, seed), dict[str, int]()
    load.start()
    for number in range(cycles):
        time.sleep(moments.uniform(0.2, 3))
        record_finished(service, load, seen)
        kind = KINDS[number % 3]
        counts.interrupted += any((service.folder / "store" / "jobs").glob("*/work"))
        service.kill(kind, counts)
        counts.cycles[kind] += 1
    load.ended.set()
    load.join(60)
    check(service, load, references, seen, counts)
    service.stop()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.monotonic()
        counts = cycle_on(Path(folder), arguments.cycles, arguments.seed)
    print(f"{counts}\n{time.monotonic() - start_s:.0f} s; {'sound' if counts.is_sound else 'NOT SOUND'}")  # noqa: T201
    sys.exit(0 if counts.is_sound else 1)


if __name__ == "__main__":
    main()
