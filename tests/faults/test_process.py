"""Faults of the server's processes, store and disk: it reports them in one line, or continues."""

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from kill_cycles import Service, command_of, descendants, is_running, wait_for_job, wait_until
from services import BIG, ENDLESS, SMALL, client_of, code_of, fresh, hand_over, serving

from service.keys import Keys


@pytest.fixture
def service(packaged: Service, tmp_path: Path) -> Iterator[Service]:
    with serving(packaged, tmp_path) as running:
        yield running


def refusal(service: Service) -> str:
    """Return the message of a server that can't start."""
    with pytest.raises(AssertionError):
        service.start()
    assert service.process is not None
    assert service.process.wait(30) == 3
    lines = (service.folder / "log").read_text().splitlines()
    (said,) = [line for line in lines if line.startswith("the server can't start: ")]
    assert "Traceback" not in "\n".join(lines)
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p05_a_server_that_is_stopped_goes_on_later(service: Service, number: signal.Signals) -> None:
    with client_of(service) as client:
        job = hand_over(client, BIG, "window")
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["progress"] > 0, timeout_s=30)
    assert service.process is not None
    children = descendants(service.process.pid)
    service.process.send_signal(number)
    assert service.process.wait(20) == 0
    wait_until(lambda: not any(map(is_running, children)), timeout_s=5)
    service.start()
    with client_of(service) as client:
        assert wait_for_job(client, job)["state"] == "done"


def test_p08_one_server_a_store(service: Service) -> None:
    other = Service(service.folder, BENTOML_HOME=service.environment["BENTOML_HOME"])
    other.tag = service.tag
    other.folder = service.folder / "other"
    other.folder.mkdir()
    assert "another server (process " in refusal(other)
    with client_of(service) as client:
        assert client.get("/readyz").status_code == 200


def test_p08_a_port_that_is_taken(packaged: Service, service: Service, tmp_path: Path) -> None:
    other = fresh(packaged, tmp_path / "other")
    other.port = service.port
    command = ["-c", f"from service.launch import serve\nserve({other.tag!r}, port={other.port})"]
    done = subprocess.run(
        [sys.executable, *command], env=other.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert f"127.0.0.1:{other.port} can't be listened on" in done.stderr


def test_p08_a_store_that_is_a_link(packaged: Service, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "elsewhere")
    assert f"{tmp_path / 'store'}: the store is a link; give the folder itself" in refusal(fresh(packaged, tmp_path))


def test_p09_a_database_that_is_damaged(packaged: Service, tmp_path: Path) -> None:
    with serving(packaged, tmp_path) as service, client_of(service) as client:
        job = hand_over(client, SMALL)
        assert wait_for_job(client, job)["state"] == "done"
    database = tmp_path / "store" / "jobs.sqlite"
    whole = database.read_bytes()
    database.write_bytes(b"\0" * 4096 + whole[4096:])
    assert "the database of jobs can't be used" in refusal(service)
    database.write_bytes(whole)
    service.start()
    with client_of(service) as client:
        assert client.get(f"/v1/jobs/{job}").json()["state"] == "done"
    service.stop()


def test_p12_a_store_with_much_that_was_left(packaged: Service, tmp_path: Path) -> None:
    for number in range(5000):
        folder = tmp_path / "store" / "jobs" / f"{number:032x}"
        (folder / "inputs").mkdir(parents=True)
        (folder / ".part.json").touch()
    began = time.monotonic()
    with serving(packaged, tmp_path) as service, client_of(service) as client:
        assert time.monotonic() - began < 60
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"


def test_p14_a_model_that_is_lost_while_it_is_served(packaged: Service, tmp_path: Path) -> None:
    home = tmp_path / "bentoml"
    shutil.copytree(packaged.environment["BENTOML_HOME"], home, symlinks=True)
    with serving(packaged, tmp_path, BENTOML_HOME=str(home)) as service, client_of(service) as client:
        good = client.post("/v1/segment?model=unet", content=SMALL).content
        (weights,) = home.glob("models/unet/*/bundle/weights.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        assert client.post("/v1/segment?model=unet", content=SMALL).content == good  # what is loaded stays
        kill_engine(service)
        known = client.get("/v1/models").json()
        assert [model["name"] for model in known["models"]] == ["window"]
        assert [model["code"] for model in known["broken"]] == ["model_broken"]
        assert code_of(client.post("/v1/segment?model=unet", content=SMALL)) == (404, "model_not_found")
        assert client.post("/v1/segment?model=window", content=SMALL).status_code == 200


def test_p18_nobody_reads_the_log(packaged: Service, tmp_path: Path) -> None:
    service = fresh(packaged, tmp_path)
    command = ["-c", f"from service.launch import serve\nserve({service.tag!r}, port={service.port})"]
    service.process = subprocess.Popen(
        [sys.executable, *command], env=service.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert service.process.stdout is not None
    service.process.stdout.close()
    with client_of(service) as client:
        wait_until(lambda: service.has_ended or is_up(client), timeout_s=60)
        for _ in range(20):
            assert client.get("/v1/models").status_code == 200
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"
    service.stop()


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_h17_a_call_that_takes_too_long_is_ended(packaged: Service, tmp_path: Path) -> None:
    settings = {"OVERTILE_DIRECT_TIMEOUT_S": "1", "OVERTILE_STORAGE_RESERVE_BYTES": str(10**18)}
    with serving(packaged, tmp_path, **settings) as service, client_of(service) as client:
        assert client.get("/readyz").json() == {"status": "degraded"}  # the disk has less than is to be kept back
        assert code_of(client.put("/v1/uploads", content=SMALL)) == (503, "storage_full")
        assert code_of(client.post("/v1/segment?model=window", content=ENDLESS)) == (504, "deadline_exceeded")
        began = time.monotonic()
        assert client.post("/v1/segment?model=unet", content=SMALL).status_code == 200
        assert time.monotonic() - began < 5


def test_h05_work_that_nobody_waits_for_is_ended(service: Service) -> None:
    with client_of(service) as client:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/segment?model=window", content=ENDLESS, timeout=1)
        began = time.monotonic()
        assert client.post("/v1/segment?model=unet", content=SMALL).status_code == 200
        assert time.monotonic() - began < 10


def test_x13_one_who_floods_leaves_seats(packaged: Service, tmp_path: Path) -> None:
    with serving(packaged, tmp_path, OVERTILE_MAX_WAITING="7") as service, ThreadPoolExecutor(8) as pool:
        keys = Keys(service.folder / "store" / "keys.json")
        headers = [{"Authorization": f"Bearer {keys.add(name)[1]}"} for name in ("many", "few")]
        wait_until(lambda: httpx.get(f"{service.url}/v1/jobs").status_code == 401, timeout_s=5)

        def call(content: bytes, own: dict[str, str], timeout_s: float) -> int:
            try:
                answer = httpx.post(f"{service.url}/v1/segment?model=window", content=content, headers=own, timeout=timeout_s)
            except httpx.ReadTimeout:
                return 0
            return answer.status_code

        flood = [pool.submit(call, ENDLESS, headers[0], 10) for _ in range(8)]
        wait_until(lambda: sum(each.done() for each in flood) == 2, timeout_s=10)  # of eight seats two are left to others
        assert {each.result() for each in flood if each.done()} == {503}
        assert [call(SMALL, headers[1], 60) for _ in range(3)] == [200] * 3
        assert {each.result() for each in flood} == {503, 0}


def test_x01_events_end_with_their_key(service: Service) -> None:
    keys = Keys(service.folder / "store" / "keys.json")
    key, token = keys.add("viewer")
    headers = {"Authorization": f"Bearer {token}"}
    wait_until(lambda: httpx.get(f"{service.url}/v1/jobs").status_code == 401, timeout_s=5)
    with client_of(service) as client:
        client.headers.update(headers)
        job = hand_over(client, ENDLESS, "window")
        with client.stream("GET", f"/v1/jobs/{job}/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "event: job"
            assert client.get(f"/v1/jobs/{job}").json()["state"] in ("queued", "running")
            began = time.monotonic()
            keys.revoke(key.id)
            assert not any('"state":"done"' in line for line in lines)  # until it ends
            assert time.monotonic() - began < 3
        client.headers["Authorization"] = f"Bearer {keys.add('other', scopes=('jobs',))[1]}"
        wait_until(lambda: client.get(f"/v1/jobs/{job}").status_code == 404, timeout_s=5)


def test_h16_a_full_queue_says_when_to_come_again(packaged: Service, tmp_path: Path) -> None:
    with serving(packaged, tmp_path, OVERTILE_MAX_QUEUED="2") as service, client_of(service) as client:
        upload = client.put("/v1/uploads", content=ENDLESS).json()["id"]
        answers = [client.post("/v1/jobs", json={"uploads": [upload], "models": ["window"]}) for _ in range(6)]
        full = [answer for answer in answers if answer.status_code != 202]
        assert full
        assert {code_of(answer) for answer in full} == {(429, "queue_full")}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in full)
        assert client.get("/readyz").status_code == 200
        for answer in answers:
            if answer.status_code == 202:
                client.delete(f"/v1/jobs/{answer.json()['id']}")


def test_p06_a_full_disk(packaged: Service, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(store)], capture_output=True, check=False)  # noqa: S607
    if mounted.returncode:
        pytest.skip("a small disk can't be mounted here: it takes root")
    try:
        with serving(packaged, tmp_path) as service, client_of(service) as client:
            kept = wait_for_job(client, hand_over(client, SMALL))
            upload = client.put("/v1/uploads", content=SMALL).json()["id"]
            (store / "filler").write_bytes(b"x" * (shutil.disk_usage(store).free - 8192))
            full = client.put("/v1/uploads", content=BIG)
            assert code_of(full) == (503, "storage_full")
            job = client.post("/v1/jobs", json={"uploads": [upload], "models": ["unet"]})
            assert job.status_code in (202, 503)
            assert client.get("/readyz").status_code == 200
            result = client.get(f"/v1/jobs/{kept['id']}/results/mask.png")
            assert result.status_code == 200
            (store / "filler").unlink()
            assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"
            if job.status_code == 202:
                assert wait_for_job(client, job.json()["id"])["state"] in ("done", "failed")
    finally:
        subprocess.run(["umount", str(store)], check=True)  # noqa: S607


def test_p07_no_descriptor_is_left(service: Service) -> None:
    with client_of(service) as client:
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"
        assert service.process is not None
        gateway = service.process.pid
        usual = resource.prlimit(gateway, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{gateway}/fd").iterdir()))
        resource.prlimit(gateway, resource.RLIMIT_NOFILE, (used, usual[1]))
        answers = [client.put("/v1/uploads", content=SMALL) for _ in range(5)]
        answers.append(client.post("/v1/segment?model=unet", content=SMALL))
        assert {answer.status_code for answer in answers} <= {201, 200, 503}
        assert {code_of(answer)[1] for answer in answers if answer.status_code == 503} <= {"busy", "database_unavailable"}
        resource.prlimit(gateway, resource.RLIMIT_NOFILE, usual)
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"
    assert not service.has_ended


@pytest.mark.parametrize("part", ["uploads", "jobs"])
def test_p07_a_disk_that_fails(service: Service, part: str) -> None:
    folder = str(service.folder / "store" / part)
    with client_of(service) as client:
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"
        upload = client.put("/v1/uploads", content=SMALL).json()["id"]
        if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:  # noqa: S607
            pytest.skip("a disk can't be made read-only here: it takes root")
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)  # noqa: S607
            if part == "uploads":
                assert code_of(client.put("/v1/uploads", content=SMALL)) == (503, "storage_failed")
                assert code_of(client.delete(f"/v1/uploads/{upload}")) == (503, "storage_failed")
            else:
                answer = client.post("/v1/jobs", json={"uploads": [upload], "models": ["unet"]})
                assert code_of(answer) == (503, "storage_failed")
            assert client.post("/v1/segment?model=unet", content=SMALL).status_code == 200
        finally:
            subprocess.run(["umount", folder], check=True)  # noqa: S607
        assert client.get(f"/v1/uploads/{upload}").json()["complete"]
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"


def test_x14_nobody_else_reads_the_store(service: Service) -> None:
    with client_of(service) as client:
        wait_for_job(client, hand_over(client, SMALL))
    paths = [service.folder / "store", *(service.folder / "store").rglob("*")]
    others = [path for path in paths if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert others == []


def test_p02_a_poison_job_ends(service: Service) -> None:
    with client_of(service) as client:
        job = hand_over(client, BIG, "window")
        for _ in range(40):
            state = client.get(f"/v1/jobs/{job}").json()
            if state["state"] not in ("queued", "running"):
                break
            kill_engine(service, quickly=True)
        assert state["state"] == "failed"
        assert state["error"]["code"] == "worker_crashed"
        assert wait_for_job(client, hand_over(client, SMALL))["state"] == "done"


def engines_of(service: Service) -> set[int]:
    assert service.process is not None
    return {child for child in descendants(service.process.pid) if "service.engine.main" in command_of(child)}


def kill_engine(service: Service, *, quickly: bool = False) -> None:
    """Kill the engine and wait for another; `quickly` doesn't wait until the gateway has noticed."""
    killed = engines_of(service)
    for engine in killed:
        os.kill(engine, signal.SIGKILL)
    wait_until(lambda: bool(engines_of(service) - killed), timeout_s=30)
    with client_of(service) as client:
        wait_until(lambda: is_up(client), timeout_s=60)
    if quickly:
        time.sleep(0.1)
