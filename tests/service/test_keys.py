"""Keys at rest: what is written, what is found again, what a running server sees, two processes at once."""

import ast
import hashlib
import json
import logging
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service import keys as keys_module
from service.keys import CHECK_S, SCOPES, USUAL_SCOPES, Keys, KeysDamaged, UnknownKey

CHECKOUT = Path(__file__).parents[2]
HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def wait_for_look() -> None:
    time.sleep(CHECK_S + 0.05)


def test_a_key_is_found_by_its_token_alone(path: Path) -> None:
    keys = Keys(path)
    assert not keys.required
    key, token = keys.add("viewer", max_jobs=3, max_stored_bytes=10, requests_per_minute=5, expires_at=datetime.now(UTC) + HOUR)
    other, _ = keys.add("other")
    assert (key.scopes, key.max_jobs, key.max_stored_bytes, key.requests_per_minute) == (USUAL_SCOPES, 3, 10, 5)
    assert keys.find(token) == key
    assert Keys(path).find(token) == key
    assert Keys(path).list() == (key, other)
    assert keys.required
    assert keys.usable
    wrong = ("", token[:-1], token + "0", token.upper(), token.replace(key.id, other.id), token.replace(key.id, "0" * 12),
             f"{token}\n", f" {token}", "ovt_", f"ovt_{key.id}_", "\u0663" * 20, "ovt_" + "0" * 100_000)  # fmt: skip
    assert [keys.find(text) for text in wrong] == [None] * len(wrong)


def test_only_the_digest_of_the_secret_is_written_for_its_user_alone(path: Path) -> None:
    key, token = Keys(path).add("viewer", scopes=SCOPES)
    secret = token.removeprefix(f"ovt_{key.id}_")
    assert len(secret) == 64
    assert secret not in path.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_expired_and_revoked_keys_open_nothing(path: Path) -> None:
    keys = Keys(path)
    expired, expired_token = keys.add("expired", expires_at=datetime.now(UTC) - HOUR)
    revoked, revoked_token = keys.add("revoked")
    assert keys.revoke(revoked.id).revoked
    assert [key.state for key in keys.list()] == ["expired", "revoked"]
    assert keys.find(expired_token) is keys.find(revoked_token) is None
    assert keys.required  # a server whose keys have all ended isn't an open one
    assert not keys.usable
    assert expired.state == "expired"


def test_an_unknown_key_cant_be_revoked(path: Path) -> None:
    with pytest.raises(UnknownKey, match="no key has the ID 'abc'; overtile keys list shows all keys"):
        Keys(path).revoke("abc")


def test_a_running_server_sees_changes(path: Path) -> None:
    running = Keys(path)
    key, token = Keys(path).add("late")
    wait_for_look()
    assert running.find(token) == key
    Keys(path).revoke(key.id)
    wait_for_look()
    assert running.find(token) is None


TWICE = {"id": "0" * 12, "name": "x", "scopes": [], "created_at": "2026-01-01T00:00:00Z"}
DAMAGED = (
    b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"keys": 1}', b'{"version": 2, "keys": []}', b'{"keys": [], "more": 1}',
    json.dumps({"keys": [{"key": {**TWICE, "scopes": ["all"]}, "sha256": "0" * 64}]}).encode(),
    json.dumps({"keys": [{"key": TWICE, "sha256": "short"}]}).encode(),
    json.dumps({"keys": [{"key": TWICE, "sha256": "0" * 64}] * 2}).encode(),
)  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_keys_at_the_start(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(KeysDamaged, match=r"keys\.json: not a file of keys; put a copy back, or remove it and add new keys"):
        Keys(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "the file of keys can't be read (KeysDamaged); the keys from before stay in use"),
        (None, "the file of keys is gone or empty; the keys from before stay in use until the server ends"),
        (b'{"keys": []}', "the file of keys is gone or empty; the keys from before stay in use until the server ends"),
    ],
)
def test_damaged_keys_while_running(path: Path, content: bytes | None, said: str, caplog: pytest.LogCaptureFixture) -> None:
    running = Keys(path)
    key, token = running.add("viewer")
    good = path.read_bytes()
    assert running.find(token) == key
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            wait_for_look()
            assert running.find(token) == key
    assert caplog.messages == [said]
    path.write_bytes(good)
    Keys(path).revoke(key.id)
    wait_for_look()
    assert running.find(token) is None


def test_processes_that_add_at_once_lose_nothing(path: Path) -> None:
    code = f"from pathlib import Path\nfrom service.keys import Keys\nfor _ in range(5): Keys(Path({str(path)!r})).add('x')"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT) for _ in range(8)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 8
    assert len(Keys(path).list()) == 40
    assert {file.name for file in path.parent.iterdir()} == {"keys.json", "keys.lock"}


def test_secrets_are_compared_in_constant_time() -> None:
    tree = ast.parse(Path(keys_module.__file__).read_text())
    compared = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert not [text for text in compared if any(word in text for word in ("secret", "sha256", "token", "digest"))]
    (find,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "find")
    calls = [node for node in ast.walk(find) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if "compare" in ast.unparse(call.func)] == [
        "hmac.compare_digest(_digest(secret), stored.sha256)"
    ]


def test_an_unknown_id_takes_the_same_work(path: Path) -> None:
    """A digest and a comparison, whatever comes; nothing is returned before them."""
    tree = ast.parse(Path(keys_module.__file__).read_text())
    (find,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "find")
    assert not [node for node in ast.walk(find) if isinstance(node, ast.If | ast.Try | ast.For | ast.While)]
    assert sum(isinstance(node, ast.Return) for node in ast.walk(find)) == 1
