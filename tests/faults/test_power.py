"""Durability: what the server has confirmed survives a power failure, simulated from its system calls."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_cycles import Service, command_of, wait_for_job
from power import CALLS, Disk, calls
from servers import descendants, is_ready, wait_until
from services import SMALL, client_of, fresh, hand_over

from tests.debian import find_or_skip

JOB = re.compile(r"HTTP/1.1 202 .*?location: /v1/jobs/([0-9a-f]{32})", re.IGNORECASE)
UPLOAD = re.compile(r"HTTP/1.1 201 .*?location: /v1/uploads/([0-9a-f]{32})", re.IGNORECASE)


@pytest.fixture(scope="module")
def strace() -> str:
    found = find_or_skip("strace", "usr/bin/strace")
    if subprocess.run([found, "-o", os.devnull, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("nobody may look at another process's system calls here")
    return found


@pytest.fixture(scope="module")
def traced(packaged: Service, strace: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the store and the trace of a server that received uploads and ran jobs."""
    folder = tmp_path_factory.mktemp("traced")
    service, trace = fresh(packaged, folder), folder / "trace"
    code = f"from service.launch import serve\nserve({service.tag!r}, port={service.port})"
    command = [strace, "-f", "--seccomp-bpf", "-y", "-s", "400", "-e", f"trace={CALLS}", "-o", str(trace)]
    with (folder / "log").open("wb") as log:
        service.process = subprocess.Popen(
            [*command, sys.executable, "-c", code], env=service.environment, stdout=log, stderr=log, start_new_session=True
        )
    wait_until(lambda: service.has_ended or is_ready(service.url), timeout_s=120)
    assert not service.has_ended, (folder / "log").read_text()[-3000:]
    with client_of(service) as client:
        for model in ("unet", "window"):
            assert wait_for_job(client, hand_over(client, SMALL, model))["state"] == "done"
        for state in ("queued", "done"):
            jobs = client.get("/v1/jobs", params={"state": state}).json()["jobs"]
            assert len(jobs) == 2 * (state == "done")
    (server,) = (child for child in descendants(service.process.pid) if "service.server" in command_of(child))
    os.kill(server, signal.SIGTERM)  # strace, which is its parent, ends with it
    assert service.process.wait(30) == 0
    return folder / "store", trace


def replayed(traced: tuple[Path, Path], check: Callable[[Disk, str, str], None]) -> None:
    """Replay the trace, and call `check` after each system call with the disk, the call and its arguments."""
    store, trace = traced
    disk = Disk(store.parent)
    disk.root.sync()
    for call, arguments, result in calls(trace):
        disk.take(call, arguments, result)
        if disk.seen(str(store)) and not disk.kept(str(store)):
            disk.root.sync()  # where the store itself lies is the user's
        check(disk, call, arguments)


def test_p13_an_upload_that_was_acknowledged_is_kept(traced: tuple[Path, Path]) -> None:
    acknowledged = []

    def check(disk: Disk, call: str, arguments: str) -> None:
        if call.startswith("send") and (answer := UPLOAD.search(arguments)):
            folder = f"{traced[0]}/uploads/{answer[1]}"
            assert disk.kept(f"{folder}/data"), "the file would be lost"
            assert disk.kept(f"{folder}/upload.json"), "what is known of it would be lost"
            acknowledged.append(folder)

    replayed(traced, check)
    assert len(acknowledged) == 2


def test_p13_a_job_that_was_accepted_is_kept(traced: tuple[Path, Path]) -> None:
    acknowledged = []
    rows: dict[str, int] = {}

    def syncs(disk: Disk) -> int:
        files = [disk.seen(f"{traced[0]}/jobs.sqlite{ending}") for ending in ("", "-wal")]
        return sum(file.syncs for file in files if file)

    def check(disk: Disk, call: str, arguments: str) -> None:
        if call.startswith("rename") and arguments.endswith('/job.json"'):
            rows[re.findall(r"jobs/([0-9a-f]{32})/job.json", arguments)[-1]] = syncs(disk)
        if call.startswith("send") and (answer := JOB.search(arguments)):
            folder = f"{traced[0]}/jobs/{answer[1]}"
            assert disk.kept(f"{folder}/job.json"), "what is wanted would be lost"
            assert disk.kept(f"{folder}/inputs/0"), "the image would be lost"
            assert syncs(disk) > rows[answer[1]], "the row would be lost"
            acknowledged.append(folder)

    replayed(traced, check)
    assert len(acknowledged) == 2


def test_p13_results_are_whole_or_not_there(traced: tuple[Path, Path]) -> None:
    complete: set[str] = set()

    def check(disk: Disk, call: str, arguments: str) -> None:
        for job in jobs.names if (jobs := disk.seen(f"{traced[0]}/jobs")) else ():
            folder = f"{traced[0]}/jobs/{job}/results"
            if job not in complete and disk.kept(f"{folder}/results.json"):
                assert disk.kept(f"{folder}/mask.png")
                complete.add(job)

    replayed(traced, check)
    assert len(complete) == 2


def test_p13_a_job_that_is_done_has_its_results(traced: tuple[Path, Path]) -> None:
    told = []

    def check(disk: Disk, call: str, arguments: str) -> None:
        if call.startswith("send") and '\\"state\\":\\"done\\"' in arguments:
            (job,) = re.findall(r'\\"id\\":\\"([0-9a-f]{32})\\"', arguments)[:1]
            assert disk.kept(f"{traced[0]}/jobs/{job}/results/results.json"), "the results would be lost"
            told.append(job)

    replayed(traced, check)
    assert len(set(told)) == 2


@pytest.mark.parametrize("forgotten", ["nothing", "the file", "the folder"])
def test_the_disk_loses_what_it_wasnt_told_to_keep(tmp_path: Path, forgotten: str) -> None:
    trace = tmp_path / "trace"
    lines = [
        f'1 mkdir("{tmp_path}/a", 0777) = 0',
        f'1 openat(AT_FDCWD<{tmp_path}>, "a/part", O_WRONLY|O_CREAT, 0666) = 3<{tmp_path}/a/part>',
        f'1 write(3<{tmp_path}/a/part>, "x", 1) = 1',
        "" if forgotten == "the file" else f"1 fsync(3<{tmp_path}/a/part>) = 0",
        f'1 rename("{tmp_path}/a/part", "{tmp_path}/a/whole") = 0',
        "" if forgotten == "the folder" else f"1 fsync(4<{tmp_path}/a>) = 0",
    ]
    trace.write_text("\n".join(lines))
    disk = Disk(tmp_path)
    for call, arguments, result in calls(trace):
        disk.take(call, arguments, result)
    assert disk.seen(f"{tmp_path}/a/whole")
    assert not disk.kept(f"{tmp_path}/a/whole"), "the name of the folder was never kept"
    disk.root.sync()
    assert bool(disk.kept(f"{tmp_path}/a/whole")) == (forgotten == "nothing")
    assert not disk.seen(f"{tmp_path}/a/part")
