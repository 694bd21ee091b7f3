"""Folders of the user: which are chosen, and what is said where none can be written."""

import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from disk import user_folders
from disk.user_folders import choosable_by, name_user, prepare_environment, user_folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for temporary files, which is this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")))


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    environment: dict[str, str] = {}
    name_user(environment)
    assert environment == {"LOGNAME": "uid4000000001", "USER": "uid4000000001"}
    named = {"LNAME": "ada"}
    name_user(named)
    assert named == {"LNAME": "ada"}


def test_a_user_of_the_database_keeps_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_folders, "getpwuid", lambda user_id: SimpleNamespace(pw_name="ada"))
    environment: dict[str, str] = {}
    name_user(environment)
    assert environment == {}


def test_a_cache_that_can_be_written_is_used(tmp_path: Path, temporary: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "LOGNAME": "ada"}
    assert prepare_environment(environment) == []
    assert environment == {"XDG_CACHE_HOME": str(tmp_path / "cache"), "LOGNAME": "ada"}
    assert list((tmp_path / "cache").iterdir()) == list(temporary.iterdir()) == []


def test_caches_go_to_temporary_files_without_a_home(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)
    environment = {"HOME": "", "LOGNAME": "ada"}
    assert prepare_environment(environment) == []
    caches = temporary / f"overtile-{os.getuid()}"
    assert environment == {
        "LOGNAME": "ada",
        "XDG_CACHE_HOME": str(caches),
        "MPLCONFIGDIR": str(caches / "matplotlib"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "CUDA_CACHE_PATH": str(caches / "cuda"),
    }
    assert stat.S_IMODE(caches.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["open folder", "link", "file"])
def test_a_folder_of_another_user_holds_no_caches(temporary: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    without_home(monkeypatch)
    taken = temporary / f"overtile-{os.getuid()}"
    if kind == "open folder":
        taken.mkdir()
        taken.chmod(0o777)
    elif kind == "link":
        taken.symlink_to(temporary)
    else:
        taken.touch()
    environment = {"LOGNAME": "ada"}
    prepare_environment(environment)
    caches = Path(environment["XDG_CACHE_HOME"])
    assert (caches.parent, caches.name.startswith(f"{taken.name}-")) == (temporary, True)
    assert stat.S_IMODE(caches.stat().st_mode) == 0o700


def test_a_cache_that_cant_be_created_is_replaced(tmp_path: Path, temporary: Path) -> None:
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": str(tmp_path / "file" / "cache"), "LOGNAME": "ada"}
    prepare_environment(environment)
    assert environment["XDG_CACHE_HOME"] == str(temporary / f"overtile-{os.getuid()}")


def test_another_folder_for_temporary_files_is_said(temporary: Path, tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "LOGNAME": "ada", "TMPDIR": "/nonexistent"}
    assert prepare_environment(environment) == [
        f"TMPDIR=/nonexistent can't be written, or is full; temporary files go to {temporary}"
    ]
    environment["TMPDIR"] = f"{temporary}/../temporary/"
    assert prepare_environment(environment) == []


def test_no_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    with pytest.raises(OSError, match=r"can't be written \(No usable temporary .*\); set TMPDIR to a folder that you can"):
        prepare_environment({"LOGNAME": "ada"})


def test_the_folder_is_the_variables_or_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert user_folder({"STORE": "/srv"}, "STORE", ".store") == Path("/srv")
    assert user_folder({"STORE": ""}, "STORE", ".store") == Path("/home/ada/.store")
    monkeypatch.setenv("HOME", "~")  # a folder named ~ would be made
    with pytest.raises(FileNotFoundError, match=r"no home folder to hold .store .*; set STORE to a folder that you can"):
        user_folder({}, "STORE", ".store")


def test_an_error_names_the_variable_that_chooses() -> None:
    with (
        pytest.raises(OSError, match=r"^/srv can't be written: No space left on device; set STORE to a folder that you can"),
        choosable_by("STORE", Path("/srv")),
    ):
        raise OSError(28, os.strerror(28), "/srv/.part")
    with (
        pytest.raises(OSError, match=r"^/srv can't be written: \[Errno 28\] .* -> 'b'; set STORE"),
        choosable_by("STORE", Path("/srv")),
    ):
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'"), ("c", "d", "another")])
