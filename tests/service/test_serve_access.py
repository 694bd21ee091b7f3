"""On which addresses a server may listen, with keys and without; TLS files; keys that are damaged."""

import json
import subprocess
from pathlib import Path

import pytest
from servers import run_python
from typer.testing import CliRunner

from overtile import app
from service.launch import ServeError, serve, tls_files

NO_SUCH_BENTO = "no Bento none:1, or without its models; run overtile package BUNDLE first"
WITHOUT = (
    "0.0.0.0 can be reached by other machines, and there is no valid key; add one with: overtile keys add NAME; "
    "or leave the host out, or give --without-keys if everybody there may use it"
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("OVERTILE_STORE", str(folder))
    return folder


SAID = """
import json, os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from service.keys import Keys
from service.launch import ServeError, serve

def said(host, **more):
    try:
        serve("none:1", host, **more)
    except ServeError as error:
        return str(error)

keys = Keys(Path(os.environ["OVERTILE_STORE"]) / "keys.json")
none = [said("0.0.0.0"), said("127.0.0.1"), said("0.0.0.0", without_keys=True)]
keys.add("expired", expires_at=datetime.now(UTC) - timedelta(hours=1))
keys.revoke(keys.add("revoked")[0].id)
ended = [said("0.0.0.0"), said("127.0.0.1")]
keys.add("good")
print(json.dumps([none, ended, [said("0.0.0.0"), said("::"), said("192.168.1.5")]]))
"""


def test_other_machines_need_a_key(store: Path, environment: dict[str, str]) -> None:
    none, ended, good = json.loads(run_python(SAID, {**environment, "OVERTILE_STORE": str(store)}))
    assert none == [WITHOUT, NO_SUCH_BENTO, NO_SUCH_BENTO]  # the address is looked at first
    assert ended == [WITHOUT, NO_SUCH_BENTO]
    assert good == [NO_SUCH_BENTO] * 3


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_damaged_keys_keep_the_server_from_starting(store: Path, host: str) -> None:
    (store / "keys.json").write_text("[")
    with pytest.raises(ServeError, match=r"keys\.json: not a file of keys; put a copy back, or remove it and add new keys"):
        serve("none:1", host, without_keys=True)


def test_looking_for_keys_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTILE_STORE", str(tmp_path / "none"))
    with pytest.raises(ServeError, match="no valid key"):
        serve("none:1", "192.168.1.5")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "serving at http://127.0.0.1:3000, once the models are loaded; open http://127.0.0.1:3000/docs in a browser"),
        (
            ("--host", "0.0.0.0", "--without-keys", "--port", "80"),
            "serving at http://127.0.0.1:80, and at all other addresses of this machine, once the models are loaded; open "
            "http://127.0.0.1:80/docs in a browser",
        ),
        (
            ("--host", "::1"),
            "serving at http://[::1]:3000, once the models are loaded; open http://[::1]:3000/docs in a browser",
        ),
    ],
)
def test_where_the_server_is(words: tuple[str, ...], message: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[list[str]] = []
    monkeypatch.setattr("service.launch._verify_bento", lambda bento: ("overtile:abc", "/code"))
    monkeypatch.setattr("os.execve", lambda _, command, __: starts.append(command))
    result = CliRunner().invoke(app, ["serve", *words])
    assert result.exit_code == 0, result.output
    assert result.stderr == f"overtile:abc: {message}; Ctrl-C stops the server\n"
    assert len(starts) == 1


def test_https_is_said(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path, "server")
    monkeypatch.setattr("service.launch._verify_bento", lambda bento: ("overtile:abc", "/code"))
    monkeypatch.setattr("os.execve", lambda *_: None)
    result = CliRunner().invoke(app, ["serve", "--tls-certificate", str(certificate), "--tls-key", str(key)])
    assert "open https://127.0.0.1:3000/docs in a browser" in result.stderr


def make_certificate(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost",
               "-days", "2", "-out", str(certificate), "-keyout", str(key), *(more or ["-nodes"])]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


def test_a_certificate_and_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path, "mine")
    other, _ = make_certificate(tmp_path, "other")
    _, locked = make_certificate(tmp_path, "locked", "-passout", "pass:secret")
    assert tls_files(None, None) is None
    monkeypatch.chdir(tmp_path)
    assert tls_files(Path("mine.crt"), key) == (certificate, key)
    for pair in ((certificate, None), (None, key)):
        with pytest.raises(ServeError, match="--tls-certificate and --tls-key go together; give both, or neither"):
            tls_files(*pair)
    for pair in ((tmp_path / "none", key), (certificate, tmp_path)):
        with pytest.raises(ServeError, match="no file that can be read; give a PEM file"):
            tls_files(*pair)
    for pair in ((other, key), (key, certificate), (certificate, locked)):
        with pytest.raises(
            ServeError, match="not a certificate and its key; give PEM files that belong together, without a pass"
        ):
            tls_files(*pair)


def test_the_command_line_says_what_is_wrong(store: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["serve", "--tls-key", str(tmp_path / "key")])
    assert (done.exit_code, done.stderr) == (2, "--tls-certificate and --tls-key go together; give both, or neither\n")
    done = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0"])
    assert (done.exit_code, done.stderr) == (2, f"{WITHOUT}\n")
