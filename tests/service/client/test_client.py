"""The client against a real server: broken connections, resumed transfers, damaged data, refusals."""

import hashlib
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from proxies import Proxy
from rich.console import Console
from servers import CHECKOUT, Server, free_port, png, run_python
from test_serve_access import make_certificate

from imaging.open import stem_of
from service.client import OvertileClient, http_client
from service.client.batch import Batch, BatchSettings
from service.client.errors import ClientError, Damaged, JobFailed, NotAllowed, Unreachable, UploadHeld
from service.client.inputs import InputImage
from service.client.progress_bars import batch_progress
from service.client.results import result_path
from service.client.transport import Transport
from service.schemas import JobAnswer, ResultAnswer

PIECE_BYTES = 64 * 2**10


@pytest.fixture(autouse=True)
def journal_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "overtile" / "client"


@pytest.fixture
def ours(server: Server) -> Iterator[OvertileClient]:
    with OvertileClient(server.url, patience_s=20) as opened:
        yield opened


@pytest.fixture
def image(tmp_path: Path, picture: bytes) -> Path:
    path = tmp_path / "slide.ome.png"
    path.write_bytes(picture)
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    path = tmp_path / "noise.bin"
    path.write_bytes(np.random.default_rng(0).bytes(1_500_000))
    return path


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def arrived(server: Server, upload_id: str) -> str:
    return str(httpx.get(f"{server.url}/v1/uploads/{upload_id}").json()["sha256"])


def finished(client: OvertileClient, image: Path, **words: object) -> JobAnswer:
    job = client.submit([client.upload(image)], ["unet"], **words)  # type: ignore[arg-type]
    return client.wait(job.id)


def test_from_an_image_to_its_mask(ours: OvertileClient, image: Path, picture: bytes, tmp_path: Path) -> None:
    names = [model.name for model in ours.models().models]
    assert "unet" in names
    events: list[JobAnswer] = []
    job = ours.submit([ours.upload(image)], ["unet"])
    done = ours.wait(job.id, events.append)
    assert (done.state, events[-1], done.names) == ("done", done, ["slide.ome.png"])
    mask, summary = ours.fetch(job.id, tmp_path / "out", stem="slide")
    assert (mask, summary) == (tmp_path / "out" / "slide.png", tmp_path / "out" / "slide_summary.json")
    direct = ours.segment(image, "unet", tmp_path / "direct")
    assert direct.name == "slide.png"
    assert direct.read_bytes() == mask.read_bytes()
    assert job.id in [each.id for each in ours.jobs(limit=1000)]
    assert all(each.state == "failed" for each in ours.jobs("failed"))
    ours.forget(job.id)
    with pytest.raises(ClientError, match="there is no such job") as refused:
        ours.job(job.id)
    assert (refused.value.code, refused.value.status) == ("job_not_found", 404)
    assert refused.value.request_id


def test_equal_submissions_are_one_job(ours: OvertileClient, image: Path) -> None:
    uploads = [ours.upload(image)]
    first = ours.submit(uploads, ["unet"])
    assert ours.submit(uploads, ["unet"]).id == first.id
    assert ours.submit(uploads, ["window"]).id != first.id
    assert ours.submit(uploads, ["unet"], idempotency_key="mine").id != first.id


@pytest.mark.parametrize("seed", range(4))
def test_an_upload_whose_connection_is_cut_goes_on(server: Server, noise: Path, seed: int) -> None:
    cuts = np.random.default_rng(seed).integers(1, 2 * noise.stat().st_size, 5).tolist()
    events: list[int] = []
    with Proxy(server.url, cuts) as proxy, OvertileClient(proxy.url, patience_s=20) as client:
        upload_id = client.upload(noise, lambda done, _: events.append(done), PIECE_BYTES)
    lost = 5 * PIECE_BYTES + 100_000  # a piece for each cut, and the headers
    assert proxy.sent < noise.stat().st_size + lost
    assert events[-1] == noise.stat().st_size
    assert arrived(server, upload_id) == digest_of(noise)


def test_another_run_sends_nothing_twice(server: Server, noise: Path) -> None:
    with Proxy(server.url) as proxy:
        with OvertileClient(proxy.url) as client:
            first = client.upload(noise)
        sent = proxy.sent
        with OvertileClient(proxy.url) as client:
            assert client.upload(noise) == first
        assert proxy.sent - sent < 2000
        os.utime(noise, (1, 1))
        with OvertileClient(proxy.url) as client:
            assert client.upload(noise) != first


def test_an_upload_that_the_server_forgot_is_sent_again(ours: OvertileClient, server: Server, noise: Path) -> None:
    first = ours.upload(noise)
    httpx.delete(f"{server.url}/v1/uploads/{first}").raise_for_status()
    assert arrived(server, ours.upload(noise)) == digest_of(noise)


def test_an_upload_that_goes_while_it_is_sent(ours: OvertileClient, server: Server, noise: Path, journal_folder: Path) -> None:
    def remove(done: int, _: int) -> None:
        if done > 0:
            known = next(journal_folder.glob("*.id"))
            httpx.delete(f"{server.url}/v1/uploads/{known.read_text()}")

    with pytest.raises(ClientError, match=r"no such upload|no longer has") as gone:
        ours.upload(noise, remove, PIECE_BYTES)
    assert gone.value.status == 404
    assert arrived(server, ours.upload(noise)) == digest_of(noise)


def test_a_file_that_is_changed_while_it_is_sent(ours: OvertileClient, noise: Path, journal_folder: Path) -> None:
    whole = noise.read_bytes()

    def cut(done: int, _: int) -> None:
        if done > PIECE_BYTES:
            noise.write_bytes(whole[:PIECE_BYTES])

    with pytest.raises(Damaged, match="was changed while it was sent"):
        ours.upload(noise, cut, PIECE_BYTES)
    assert not list(journal_folder.glob("*.id"))

    noise.write_bytes(whole)
    with pytest.raises(Damaged, match="was changed while it was sent"):
        ours.upload(noise, lambda *_: os.utime(noise, (1, 1)), PIECE_BYTES)


def test_a_file_that_is_another_though_it_looks_the_same(ours: OvertileClient, noise: Path, journal_folder: Path) -> None:
    ours.upload(noise)
    known = noise.stat()
    noise.write_bytes(bytes(known.st_size))
    os.utime(noise, ns=(known.st_atime_ns, known.st_mtime_ns))
    with pytest.raises(Damaged, match="other bytes arrived than are in the file"):
        ours.upload(noise)
    assert not list(journal_folder.glob("*.id"))
    ours.upload(noise)


def test_two_processes_send_the_same_file(ours: OvertileClient, noise: Path, journal_folder: Path) -> None:
    key = ours.journal.key([noise])
    code = f"""
from pathlib import Path
from service.client.journal import ClientJournal
with ClientJournal(Path({str(journal_folder)!r}), "").lock({key!r}, Path()):
    print("held", flush=True)
    input()
"""
    words = {"cwd": CHECKOUT, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **words) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UploadHeld, match=f"is being sent by process {other.pid}; wait"):
            ours.upload(noise)
        other.communicate(b"\n")
    ours.upload(noise)


@pytest.fixture
def broad(ours: OvertileClient, tmp_path: Path) -> JobAnswer:
    """Return a job whose results take several packets."""
    path = tmp_path / "broad.png"
    path.write_bytes(png(np.random.default_rng(0).integers(0, 256, (3, 400, 400), np.uint8)))
    return finished(ours, path, options={"probabilities": "uint8"})


@pytest.mark.parametrize("seed", range(3))
def test_interrupted_downloads_are_continued(server: Server, broad: JobAnswer, tmp_path: Path, seed: int) -> None:
    total = sum(result.bytes for result in broad.results)
    assert total > 100_000
    cuts = np.random.default_rng(seed).integers(1, total, 5).tolist()
    with Proxy(server.url, answer_cuts=cuts) as proxy, OvertileClient(proxy.url) as client:
        files = client.fetch(broad.id, tmp_path / "out")
        assert {digest_of(file) for file in files} == {result.sha256 for result in broad.results}
        assert not proxy.answer_cuts
        assert proxy.answered < total + 15_000  # headers, and what the job says
        answered = proxy.answered
        assert client.fetch(broad.id, tmp_path / "out") == files
        assert proxy.answered - answered < 3000
    assert sorted((tmp_path / "out").iterdir()) == sorted(files)


def test_parts_of_results_from_an_earlier_run(ours: OvertileClient, image: Path, tmp_path: Path) -> None:
    job = finished(ours, image)
    mask, summary = ours.fetch(job.id, tmp_path / "out")
    whole = mask.read_bytes()
    part = mask.with_name(f".{mask.name}.{job.results[0].sha256[:16]}.part")
    for left in (whole[:50], b"x" * 50, whole[:-1] + b"x", whole + b"x", b""):
        mask.unlink()
        part.write_bytes(left)
        assert ours.fetch(job.id, mask.parent) == [mask, summary]
        assert mask.read_bytes() == whole
        assert not part.exists()
    mask.write_bytes(b"another")
    ours.fetch(job.id, mask.parent)
    assert mask.read_bytes() == whole


def test_results_that_were_damaged(ours: OvertileClient, server: Server, image: Path, tmp_path: Path) -> None:
    job = finished(ours, image)

    def spoil(block: bytes) -> bytes:
        return block.replace(b"IEND", b"IEMD")

    with Proxy(server.url, mangle=spoil) as proxy, OvertileClient(proxy.url) as client:
        with pytest.raises(Damaged, match="arrived with other bytes than the job wrote"):
            client.fetch(job.id, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []
    stored = server.folder.parent / "store" / "jobs" / job.id / "results" / "mask.png"
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(ClientError, match="was changed on the server") as refused:
        ours.fetch(job.id, tmp_path / "out")
    assert refused.value.code == "result_damaged"
    assert list((tmp_path / "out").iterdir()) == []


def test_waiting_without_a_stream(ours: OvertileClient, server: Server, image: Path) -> None:
    """If a proxy holds the events back, the client asks for the job instead."""

    def drop(block: bytes) -> bytes:
        return block.replace(b"data:", b"none:")

    job = ours.submit([ours.upload(image)], ["window"])
    with Proxy(server.url, mangle=drop) as proxy, OvertileClient(proxy.url) as client:
        assert client.wait(job.id).state == "done"


def test_cancelling(ours: OvertileClient, big_picture: bytes, tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(big_picture)
    job = ours.submit([ours.upload(path)], ["window"])
    with pytest.raises(ClientError, match=f"job {job.id} is (queued|running); fetch its results when it is done"):
        ours.fetch(job.id, tmp_path)
    ours.cancel(job.id)
    assert ours.wait(job.id).state == "cancelled"
    assert ours.cancel(job.id).state == "cancelled"
    with pytest.raises(JobFailed, match="was cancelled; the same command submits it again") as failed:
        ours.fetch(job.id, tmp_path)
    assert failed.value.code == "cancelled"
    ours.forget(job.id)


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    """The device takes two requests; the server asks the third to come back, and the client does."""
    path, pauses = tmp_path / "big.png", list[tuple[str, float]]()
    path.write_bytes(png(np.random.default_rng(0).integers(0, 256, (3, 900, 900), np.uint8)))

    def segment(number: int) -> None:
        with OvertileClient(server.url, on_pause=lambda error, s: pauses.append((error.code, s))) as client:
            client.segment(path, "window", tmp_path / str(number))

    threads = [threading.Thread(target=segment, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(tmp_path / str(number) / "big.png").read_bytes() for number in range(4)}) == 1
    assert ("busy", 5.0) in pauses


def test_no_server_there(tmp_path: Path) -> None:
    began = time.monotonic()
    with (
        OvertileClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(Unreachable, match="start one there with overtile serve, or give its address with --url") as error,
    ):
        client.models()
    assert error.value.code == "no_server"
    assert 1 < time.monotonic() - began < 5


def test_a_connection_that_breaks_again_and_again(server: Server) -> None:
    with Proxy(server.url, cuts=[10] * 100) as proxy, OvertileClient(proxy.url) as client:
        with pytest.raises(Unreachable, match=r"broke off \(\w+\); the same command continues") as error:
            client.models()
        assert error.value.code == "connection_lost"


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://127.0.0.1", "http://[", ""])
def test_invalid_addresses(url: str) -> None:
    with pytest.raises(ClientError, match="isn't an address; give one such as") as error:
        OvertileClient(url).models()
    assert error.value.code == "url_invalid"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (b"200 OK", b"302 No", "HTTP 302.*isn't Overtile's"),
        (b'{"models"', b'{"others"', "this client doesn't understand the answer"),
    ],
)
def test_an_answer_of_something_else(server: Server, old: bytes, new: bytes, text: str) -> None:
    with Proxy(server.url, mangle=lambda block: block.replace(old, new)) as proxy, OvertileClient(proxy.url) as client:
        with pytest.raises(ClientError, match=text) as error:
            client.models()
        assert error.value.code == "not_overtile"


def test_an_untrusted_certificate(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path, "mine"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                context.wrap_socket(listening.accept()[0], server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with OvertileClient(url) as client, pytest.raises(Unreachable, match="name the file of its authority in SSL_CERT_FILE"):
            client.models()
        thread.join()


def test_a_key_with_invalid_characters() -> None:
    with pytest.raises(NotAllowed, match="characters that no key has"):
        OvertileClient("http://127.0.0.1:1", "kéy\n")


def test_refused_files_and_options(ours: OvertileClient, tmp_path: Path, image: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ClientError, match="empty; give an image file"):
        ours.upload(empty)
    with pytest.raises(ClientError, match=r"formats.0: .*; correct it"):
        ours.submit(["0" * 32], ["unet"], ["exe"])
    with pytest.raises(ClientError, match="no such upload"):
        ours.submit(["0" * 32], ["unet"])
    image.write_bytes(b"no image")
    with pytest.raises(ClientError, match="the file's format isn't supported") as error:
        ours.submit([ours.upload(image)], ["unet"])
    assert (error.value.code, error.value.status) == ("unsupported_format", 415)
    with pytest.raises(FileNotFoundError):
        ours.upload(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["../mask.png", "/etc/passwd", ".bashrc", "..", "", "a\\b", "a\nb"])
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    result = ResultAnswer(name=name, bytes=1, sha256="0" * 64, media_type="image/png")
    with pytest.raises(ClientError, match="which isn't the name of a file; it isn't fetched"):
        result_path(result, tmp_path, None)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("mask.png", "a.png"),
        ("mask_uncertainty.tiff", "a_uncertainty.tiff"),
        ("masks.csv", "a.masks.csv"),
        ("unet.png", "a.unet.png"),
        ("x.json", "a.x.json"),
    ],
)
def test_names_of_results(name: str, place: str, tmp_path: Path) -> None:
    result = ResultAnswer(name=name, bytes=1, sha256="0" * 64, media_type="image/png")
    assert result_path(result, tmp_path, "a") == tmp_path / place
    assert result_path(result, tmp_path, None) == tmp_path / name


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.ome.tif", "a.b.svs", "a", "a.ome.zarr"])
def test_stems_are_those_of_predict(name: str) -> None:
    assert http_client.stem_of(Path(name)) == stem_of(Path(name))


def test_the_journal_is_private_and_old_entries_are_removed(ours: OvertileClient, image: Path, journal_folder: Path) -> None:
    ours.upload(image)
    assert journal_folder.stat().st_mode & 0o777 == 0o700
    for file in journal_folder.iterdir():
        os.utime(file, (1, 1))
    ours.journal.remove_old()
    assert list(journal_folder.iterdir()) == []


def test_bars_in_a_terminal(ours: OvertileClient, image: Path, tmp_path: Path) -> None:
    screen = StringIO()
    model = next(model for model in ours.models().models if model.name == "window")
    with batch_progress(Console(file=screen, force_terminal=True, width=120)) as bars:
        (outcome,) = Batch(ours, BatchSettings([model]), tmp_path / "out", bars).run(
            [InputImage(image, (image,), stem_of(image))]
        )
        job = ours.job(str(outcome.job_id))
        bars.on_bytes(outcome.image, 500, 1000)
        bars.on_job(outcome.image, job.model_copy(update={"state": "queued", "position": 3}))
        bars.on_job(outcome.image, job.model_copy(update={"state": "running", "progress": 0.5, "eta_s": 3700.0}))
    assert outcome.result == [tmp_path / "out" / "slide.png", tmp_path / "out" / "slide_summary.json"]
    assert "500 bytes of 1.0 kB sent" in screen.getvalue()
    assert "running, 1:01:40 left" in screen.getvalue()


def test_the_client_imports_neither_torch_nor_image_libraries(environment: dict[str, str]) -> None:
    heavy = ("torch", "numpy", "nibabel", "tifffile", "openslide", "PIL", "pydicom", "cv2", "bentoml", "fastapi")
    code = "import sys, service.client.batch, service.client.progress_bars\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    assert run_python(code, environment) == "[]"


def test_pauses_grow_and_end() -> None:
    waited: list[float] = []
    pauses = Transport("http://127.0.0.1:1", None, timeout_s=1, patience_s=1.2, on_pause=lambda _, s: waited.append(s)).pauses()
    error = Unreachable("no_server", "", retry_s=0)

    def wait() -> None:
        while True:
            pauses.wait(error)

    with pytest.raises(Unreachable):
        wait()
    assert waited == sorted(waited)
    assert 0.1 < sum(waited) < 1.2
