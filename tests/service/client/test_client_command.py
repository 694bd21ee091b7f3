"""`overtile client` against a real server: folders, a broken file, kills, exit codes and messages."""

import functools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import Result
from proxies import Proxy
from servers import CHECKOUT, Server, free_port, png, wait_until
from typer.testing import CliRunner

import overtile
from tests.phantom import draw_slide


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERTILE_KEY", raising=False)
    return tmp_path / "cache" / "overtile" / "client"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with three pictures, one of them broken, and a hidden file."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(2):
        (folder / f"good{number}.png").write_bytes(png(draw_slide((72, 90), seed=number)[0]))
    (folder / "bad.png").write_bytes((folder / "good0.png").read_bytes()[:200])
    (folder / ".hidden").write_bytes(b"x")
    return folder


def ask(server: Server | str, *words: Any) -> Result:
    url = server if isinstance(server, str) else server.url
    return CliRunner().invoke(overtile.app, ["client", *map(str, words), "--url", url])


def test_a_folder_with_one_broken_file(server: Server, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = ask(server, "submit", folder, "-o", out, "-m", "unet")
    assert told.exit_code == 3
    assert sorted(path.name for path in out.iterdir()) == [
        *("good0.png", "good0_summary.json"),
        *("good1.png", "good1_summary.json"),
    ]
    lines = told.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{folder}/bad.png: ")
    assert f"{folder}/good1.png -> {out}/good1.png and {out}/good1_summary.json (job " in told.stderr
    direct = httpx.post(f"{server.url}/v1/segment?model=unet", content=(folder / "good0.png").read_bytes())
    assert (out / "good0.png").read_bytes() == direct.content


def test_the_same_command_makes_no_second_job(server: Server, folder: Path, tmp_path: Path, cache: Path) -> None:
    words = ("submit", folder / "good0.png", "-o", tmp_path / "out", "-m", "unet")
    first = ask(server, *words)
    assert (first.exit_code, ask(server, *words).stderr) == (0, first.stderr)
    for file in cache.glob("*.id"):
        if file.read_text() in first.stderr:
            file.unlink()  # as if killed before the journal was written
    assert ask(server, *words).stderr == first.stderr
    others = ask(server, *words, "--uncertainty")
    assert (others.exit_code, others.stderr == first.stderr) == (0, False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "good0.png",
        "good0_summary.json",
        "good0_uncertainty.tiff",
    ]


def test_a_cancelled_job_is_submitted_again(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(png(np.random.default_rng(7).integers(0, 256, (3, 1500, 1500), np.uint8)))
    words = ("submit", path, "-o", tmp_path / "out", "-m", "window")
    command = [sys.executable, "-m", "overtile", "client", *map(str, words), "--url", server.url]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: bool(open_jobs(server)), timeout_s=20)
        (job_id,) = open_jobs(server)
        assert ask(server, "cancel", job_id).exit_code == 0
        _, told = running.communicate()
    assert (running.returncode, "was cancelled; the same command submits it again" in told) == (3, True)
    assert ask(server, *words).exit_code == 0
    assert (tmp_path / "out" / "big.png").exists()


def open_jobs(server: Server) -> list[str]:
    jobs = httpx.get(f"{server.url}/v1/jobs").json()["jobs"]
    return [job["id"] for job in jobs if job["state"] in ("queued", "running")]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_of_an_upload(server: Server, tmp_path: Path, big_picture: bytes, sign: signal.Signals) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(big_picture + bytes(1_000_000 * (sign == signal.SIGINT)))
    count = len(all_jobs(server))
    with Proxy(server.url, bytes_per_s=4_000_000) as proxy:
        command = [sys.executable, "-m", "overtile", "client", "submit", path, "-o", tmp_path / "out", "-m", "unet"]
        command += ["--url", proxy.url]
        # in a shell's background the signal is ignored, also in child processes
        heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as running:
            wait_until(lambda: proxy.sent > 2_500_000, timeout_s=30)  # in the second piece
            running.send_signal(sign)
            _, told = running.communicate()
        assert running.returncode == (-9 if sign == signal.SIGKILL else 130)
        assert ("stopped; submitted jobs continue on the server, and the same command continues" in told) == (
            sign == signal.SIGINT
        )
        wait_until(lambda: is_quiet(proxy), timeout_s=10)
        (upload_id,) = [file.read_text() for file in (tmp_path / "cache").rglob("*.id")]
        kept = httpx.get(f"{server.url}/v1/uploads/{upload_id}").json()["received"]
        assert kept >= 2**20
        before, proxy.bytes_per_s = proxy.sent, 0
        assert ask(proxy.url, *command[4:-2]).exit_code == 0
        assert proxy.sent - before < path.stat().st_size - kept + 20_000
    assert len(all_jobs(server)) == count + 1
    assert (tmp_path / "out" / "big.png").exists()


def is_quiet(proxy: Proxy) -> bool:
    """Return whether no bytes of the killed client are still in transit."""
    before = proxy.sent
    time.sleep(0.3)
    return proxy.sent == before


def all_jobs(server: Server) -> list[Any]:
    return list(httpx.get(f"{server.url}/v1/jobs?limit=1000").json()["jobs"])


def test_two_models_compared(server: Server, folder: Path, tmp_path: Path) -> None:
    words = ("--kind", "compare", "-m", "unet", "-m", "window")
    assert ask(server, "submit", folder / "good0.png", "-o", tmp_path, *words).exit_code == 0
    made = {path.name for path in tmp_path.glob("good0.*")}
    assert {"good0.comparison.json", "good0.disagreement.png", "good0.unet.png", "good0.window.png"} <= made


def test_several_files_that_are_one_image(server: Server, tmp_path: Path) -> None:
    channels = tmp_path / "channels"
    channels.mkdir()
    pixels = draw_slide((72, 90), seed=0)[0]
    for number, channel in enumerate(pixels):
        (channels / f"{number}.png").write_bytes(png(channel))
    (tmp_path / "whole.png").write_bytes(png(pixels))
    out, model = ("-o", tmp_path / "out"), ("-m", "unet")
    assert ask(server, "submit", channels, "--together", *out, *model).exit_code == 0
    files = sorted(channels.iterdir())
    assert ask(server, "submit", *files, "--together", *out, *model).exit_code == 0
    assert ask(server, "submit", tmp_path / "whole.png", *out, *model).exit_code == 0
    masks = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert set(masks) == {"channels.png", "0.png", "whole.png"}
    assert len(set(masks.values())) == 1


def test_models_jobs_and_fetch(server: Server, folder: Path, tmp_path: Path) -> None:
    listed = ask(server, "models").stdout.splitlines()
    assert "unet unet 2D red,green,blue background,nucleus dice=0.5" in listed
    done = ask(server, "submit", folder / "good0.png", "-o", tmp_path / "out", "-m", "unet")
    job_id = done.stderr.rsplit("(job ", 1)[1].split(")")[0]
    jobs = ask(server, "jobs", "--state", "done", "--limit", 500).stdout.splitlines()
    assert f"{job_id} done 100% unet good0.png" in jobs
    fetched = ask(server, "fetch", job_id, "-o", tmp_path / "again")
    assert (fetched.exit_code, fetched.stdout) == (0, f"{tmp_path}/again/mask.png\n{tmp_path}/again/mask_summary.json\n")
    assert ask(server, "cancel", job_id).stdout == f"{job_id} done 100% unet good0.png\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("submit", "{}", "-o", "out"), 2, "several models are loaded at the server; choose of fine, three, "),
        (("submit", "{}", "-o", "out", "-m", "none"), 2, "no model none is loaded at the server; choose of fine, "),
        (("submit", "{}", "-o", "out", "--kind", "compare", "-m", "unet"), 2, "--kind compare takes two models, not 1; name"),
        (("submit", "{}", "-o", "out", "--format", "exe"), 2, "--format 'exe': not a format; give png, tiff, "),
        (("submit", "{}", "-o", "out", "--spacing-um", "a"), 2, "--spacing-um 'a': not a number, or one number per axis"),
        (("submit", "{}/none", "-o", "out"), 2, "/none doesn't exist; give files or folders of them"),
        (("submit", "{}/empty", "-o", "out"), 2, "the folders hold no images; give images"),
        (
            ("submit", "{}", "{}/good0.png", "-o", "out"),
            2,
            "would have outputs of one name; rename one, or give them apart",
        ),
        (("submit", "{}/good0.png", "-o", "out", "-m", "fine"), 3, "spacing"),
        (("submit", "{}/nothing", "-o", "out", "-m", "unet"), 3, "/nothing is empty; give an image file"),
        (("submit", "{}/good0.png", "-o", "{}/bad.png", "-m", "unet"), 6, "bad.png"),
        (
            ("fetch", "0" * 32, "-o", "out"),
            2,
            "there is no such job; GET /v1/jobs lists yours; see them with: overtile client jobs",
        ),
        (("cancel", "x"), 2, "there is no such job"),
        (("models", "--key", "kéy"), 2, "the key has characters that no key has; copy it again"),
    ],
)
def test_refused_commands(server: Server, folder: Path, words: tuple[str, ...], code: int, text: str) -> None:
    if words[1].endswith("empty"):
        (folder / "empty").mkdir()
    if words[1].endswith("nothing"):
        (folder / "nothing").touch()
    told = ask(server, *(word.replace("{}", str(folder)) for word in words))
    assert (told.exit_code, told.stdout) == (code, ""), told.output
    assert text in told.stderr


def test_no_server_is_there(folder: Path) -> None:
    told = ask(f"http://127.0.0.1:{free_port()}", "submit", folder, "-o", "out", "-m", "unet")
    assert told.exit_code == 6
    assert "start one there with overtile serve, or give its address with --url" in told.stderr


def test_a_file_that_cant_be_read_keeps_no_other_back(server: Server, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.png").unlink()
    shutil.copytree(folder, tmp_path / "more")
    (tmp_path / "more" / "good0.png").unlink()
    (tmp_path / "more" / "good0.png").symlink_to("/proc/self/mem")
    told = ask(server, "submit", tmp_path / "more", "-o", tmp_path / "out", "-m", "unet")
    assert told.exit_code in (3, 6)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good1.png", "good1_summary.json"}


def test_help_is_fast() -> None:
    code = (
        "import sys, overtile\nprint([name for name in ('httpx', 'torch', 'pydantic', 'rich.progress') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
