"""`overtile keys`: what it prints and where, what it refuses, and its exit codes."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from overtile import app
from service.keys import Keys
from service.store import store_folder

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVERTILE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_the_store_is_where_the_environment_says() -> None:
    assert store_folder({"OVERTILE_STORE": "/srv/overtile"}) == Path("/srv/overtile")
    assert store_folder({}) == store_folder({"OVERTILE_STORE": ""}) == Path.home() / ".overtile"


def test_the_key_stands_alone_on_stdout(store: Path) -> None:
    done = run("add", "Frau Doktor", "--scope", "metrics", "--scope", "jobs", "--scope", "jobs", "--expires", "12h",
               "--max-jobs", "2", "--max-stored-bytes", "10GB", "--requests-per-minute", "30")  # fmt: skip
    assert done.exit_code == 0
    key = Keys(store / "keys.json").find(done.stdout.removesuffix("\n"))
    assert key is not None
    assert (key.name, key.scopes, key.max_jobs, key.max_stored_bytes, key.requests_per_minute) == (
        "Frau Doktor", ("jobs", "metrics"), 2, 10**10, 30,
    )  # fmt: skip
    assert key.expires_at is not None
    assert abs(key.expires_at - datetime.now(UTC) - timedelta(hours=12)) < timedelta(minutes=1)
    assert done.stdout.strip() not in done.stderr
    assert f"the key isn't shown again; revoke it with: overtile keys revoke {key.id}" in done.stderr


def test_list_and_revoke(store: Path) -> None:
    empty = run("list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr == "no keys yet; add one with: overtile keys add NAME\n"
    token = run("add", "viewer", "--expires", "30d").stdout.strip()
    key_id = token.split("_")[1]
    assert run("list").stdout.startswith(f"{key_id} valid 'viewer' models,segment,jobs created=")
    assert run("revoke", key_id).exit_code == 0
    listed = run("list").stdout
    assert listed.startswith(f"{key_id} revoked 'viewer'")
    assert token.split("_")[2] not in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "x", "--expires", "0d"], "--expires '0d': not a time; give a whole number of days or hours, for example 30d"),
        (["add", "x", "--expires", "3 weeks"], "--expires '3 weeks': not a time"),
        (["add", "x", "--max-stored-bytes", "10"], "--max-stored-bytes '10': not a size; give a number above 0 with MB"),
        (["add", "x", "--scope", "all"], "--scope 'all': not a scope; give models, segment, jobs, metrics or admin"),
        (["add", ""], "name '': not a name; give 1 to 64 printable characters"),
        (["add", "x" * 65], "not a name; give 1 to 64 printable characters"),
        (["add", "a\x1b[31m"], r"name 'a\x1b[31m': not a name"),
        (["revoke", "a\nb"], r"no key has the ID 'a\nb'; overtile keys list shows all keys"),
        (["add", "x", "--max-jobs", "0"], "Invalid value for '--max-jobs'"),
        (["add", "x", "--requests-per-minute", "0"], "Invalid value for '--requests-per-minute'"),
    ],
)  # fmt: skip
def test_wrong_usage(store: Path, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split()) or said in done.stderr
    assert done.stdout == ""
    assert not (store / "keys.json").exists()


def test_damaged_keys(store: Path) -> None:
    store.mkdir()
    (store / "keys.json").write_text("{")
    for arguments in (["add", "x"], ["list"], ["revoke", "x"]):
        done = run(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"{store}/keys.json: not a file of keys; put a copy back, or remove it and add new keys\n"


def test_a_store_that_cant_be_made(store: Path) -> None:
    store.write_text("a file")
    done = run("add", "x")
    assert done.exit_code == 6
    assert "store" in done.stderr


def test_help_needs_nothing_heavy() -> None:
    code = "import sys, overtile; print(sorted({'torch', 'pydantic', 'starlette', 'numpy', 'bentoml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_guard_needs_no_torch_and_no_image_library() -> None:
    heavy = {"torch", "numpy", "nibabel", "tifffile", "openslide", "imagecodecs"}
    code = f"import sys, service.http.access, service.keys_command; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
