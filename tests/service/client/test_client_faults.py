"""The client with a server that has keys, is killed, and starts again with the same store."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from proxies import Proxy
from servers import descendants, is_running, png, start, stop, wait_until
from typer.testing import CliRunner

import overtile
from service.client import OvertileClient
from service.client.errors import ClientError, NotAllowed, TooManyJobs
from service.keys import Keys
from service.schemas import JobAnswer
from service.store import Store


@dataclass
class Restarted:
    """A server behind a proxy whose address stays the same after a restart."""

    proxy: Proxy
    process: "subprocess.Popen[bytes]"
    bento: str
    environment: dict[str, str]
    folder: Path

    def kill(self) -> None:
        children = descendants(self.process.pid)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(is_running(child) for child in children), timeout_s=10)

    def start(self) -> None:
        self.process, self.proxy.target = start(self.bento, self.environment, self.folder / "log")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("kept")
    keys = Keys(Store(folder / "store").keys)
    made = {
        "usual": keys.add("usual")[1],
        "slow": keys.add("slow", requests_per_minute=30)[1],
        "single": keys.add("single", max_jobs=1)[1],
        "looks": keys.add("looks", scopes=("models",))[1],
    }
    return {**made, "folder": str(folder)}


@pytest.fixture(scope="module")
def kept(bento: str, environment: dict[str, str], tokens: dict[str, str]) -> Iterator[Restarted]:
    folder = Path(tokens["folder"])
    settings = {"OVERTILE_STORE": str(folder / "store"), "OVERTILE_STORAGE_RESERVE_BYTES": "1"}
    process, url = start(bento, {**environment, **settings}, folder / "log")
    with Proxy(url) as proxy:
        kept = Restarted(proxy, process, bento, {**environment, **settings}, folder)
        yield kept
        stop(kept.process)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERTILE_KEY", raising=False)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.png"
    path.write_bytes(png(np.random.default_rng(0).integers(0, 256, (3, 1200, 1200), np.uint8)))
    return path


def ask(kept: Restarted, *words: object) -> tuple[int, str]:
    told = CliRunner().invoke(overtile.app, ["client", *map(str, words), "--url", kept.proxy.url])
    return told.exit_code, told.stderr


def test_a_server_that_is_killed_and_started_again(kept: Restarted, tokens: dict[str, str], big: Path, tmp_path: Path) -> None:
    """A thread that waits for a job and one in the middle of an upload both continue after the restart."""
    half = tmp_path / "half.bin"
    half.write_bytes(np.random.default_rng(1).bytes(6_000_000))
    heard: list[JobAnswer] = []
    sent: list[int] = []
    with OvertileClient(kept.proxy.url, tokens["usual"]) as client, OvertileClient(kept.proxy.url, tokens["usual"]) as other:
        job = client.submit([client.upload(big)], ["window"])
        kept.proxy.bytes_per_s = 2_000_000
        threads = [
            threading.Thread(target=lambda: client.wait(job.id, heard.append)),
            threading.Thread(target=lambda: other.upload(half, lambda done, _: sent.append(done))),
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: bool(sent) and sent[-1] > 2_000_000 and bool(heard), timeout_s=20)
        kept.kill()
        kept.proxy.bytes_per_s = 0
        kept.start()
        for thread in threads:
            thread.join()
        assert heard[-1].state == "done"
        assert client.fetch(job.id, tmp_path / "out")
        assert sent[-1] == 6_000_000
        assert min(done for done, before in zip(sent[1:], sent, strict=False) if done < before) >= 2**20


def test_keys_that_are_missing_wrong_or_for_something_else(kept: Restarted, tokens: dict[str, str], big: Path) -> None:
    code, told = ask(kept, "models")
    assert (code, told.endswith("; give the key with --key, or in OVERTILE_KEY\n")) == (2, True)
    code, told = ask(kept, "models", "--key", "wrong")
    assert (code, told.endswith("; give another with --key, or in OVERTILE_KEY\n")) == (2, True)
    assert ask(kept, "models", "--key", tokens["looks"]) == (0, "")
    code, told = ask(kept, "submit", big, "-o", "out", "-m", "unet", "--key", tokens["looks"])
    assert (code, "needs a key with the scope jobs" in told) == (2, True)
    with OvertileClient(kept.proxy.url) as client, pytest.raises(NotAllowed) as error:
        client.models()
    assert (error.value.code, error.value.status) == ("key_required", 401)


def test_a_key_that_may_send_little(kept: Restarted, tokens: dict[str, str]) -> None:
    pauses: list[tuple[str, float]] = []
    with OvertileClient(kept.proxy.url, tokens["slow"], on_pause=lambda error, s: pauses.append((error.code, s))) as client:
        for _ in range(31):
            client.models()
    assert {code for code, _ in pauses} == {"rate_limited"}
    assert max(pause_s for _, pause_s in pauses) >= 1


def test_a_key_with_one_job_at_a_time(
    kept: Restarted, tokens: dict[str, str], big: Path, picture: bytes, tmp_path: Path
) -> None:
    with OvertileClient(kept.proxy.url, tokens["single"]) as client:
        upload = client.upload(big)
        job = client.submit([upload], ["window"])
        with pytest.raises(TooManyJobs, match="the key may have 1 jobs at a time"):
            client.submit([upload], ["unet"], waits=False)
        client.forget(job.id)
    for number in range(3):
        path = tmp_path / "many" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
    code, told = ask(kept, "submit", tmp_path / "many", "-o", tmp_path / "out", "-m", "unet", "--key", tokens["single"])
    assert (code, len(list((tmp_path / "out").glob("*.png")))) == (0, 3), told


def test_patience_ends(kept: Restarted, tokens: dict[str, str]) -> None:
    with OvertileClient(kept.proxy.url, tokens["usual"], patience_s=1) as client:
        client.models()
        kept.proxy.cuts = [0] * 100
        with pytest.raises(ClientError, match="broke off"):
            client.models()
    kept.proxy.cuts = []


def test_a_key_in_the_environment(kept: Restarted, tokens: dict[str, str]) -> None:
    words = [sys.executable, "-m", "overtile", "client", "models", "--url", kept.proxy.url]
    environment = {**os.environ, "OVERTILE_KEY": tokens["usual"]}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert "unet" in told.stdout
