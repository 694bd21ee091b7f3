"""Checkpoints: an earlier one survives every failure while one is written, and changes of a file are detected."""

import errno
import hashlib
import io
import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import CONTEXT
from rich.console import Console

from training.errors import StorageError
from training.resuming.checkpoint import Checkpoints

OPERATIONS = ((os, "write"), (os, "fsync"), (os, "open"), (os, "close"), (os, "replace"), (os, "unlink"), (io, "open"))


def checkpoints_in(folder: Path, run: str = "this run") -> Checkpoints:
    return Checkpoints(folder, run, Console(quiet=True))


def save(folder: Path, step: int, value: float | None = None) -> None:
    state = {"global_step": step, "weights": torch.full((3000,), step if value is None else value)}
    checkpoints_in(folder).save_checkpoint(state, "ignored")


def newest(folder: Path) -> tuple[int, float]:
    newest_checkpoint = checkpoints_in(folder).newest()
    assert newest_checkpoint is not None
    return newest_checkpoint[1]["global_step"], float(newest_checkpoint[1]["weights"][-1])


def fail_at(operation: int, fault: str) -> Callable[[], int]:
    """Inject a fault into the n-th file operation of this process; return a function that counts them."""
    done = 0

    def trapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*words: Any, **others: Any) -> Any:
            nonlocal done
            done += 1
            if done == operation:
                if fault == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                if fault != "short write":
                    raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
                if function is write:
                    return write(words[0], words[1][: len(words[1]) // 2])
            return function(*words, **others)

        return called

    write = os.write
    for owner, name in OPERATIONS:
        setattr(owner, name, trapped(getattr(owner, name)))
    return lambda: done


def save_third(folder: Path, operation: int, fault: str) -> None:
    count = fail_at(operation, fault)
    try:
        save(folder, 3)
    except StorageError:
        os._exit(6)
    os._exit(0 if count() >= operation else 99)


@pytest.mark.parametrize("fault", ["ENOSPC", "EIO", "EROFS", "short write", "killed"])
def test_every_file_operation_may_fail_while_one_is_written(fault: str, tmp_path: Path) -> None:
    """After a fault in each file operation in turn, a valid checkpoint exists and the next one can be written."""
    for operation in range(1, 100):
        folder = tmp_path / str(operation)
        save(folder, 1)
        save(folder, 2)
        process = CONTEXT.Process(target=save_third, args=(folder, operation, fault))
        process.start()
        process.join(60)
        written = process.exitcode in (0, 99)
        assert process.exitcode in {"short write": (0, 99), "killed": (-signal.SIGKILL, 99)}.get(fault, (0, 6, 99))
        assert newest(folder) in ([(3, 3.0)] if written else [(2, 2.0), (3, 3.0)])
        save(folder, 4)
        assert newest(folder) == (4, 4.0)
        assert len(list(folder.glob("step-*.ckpt"))) == 2
        if process.exitcode == 99:
            break
    assert 8 < operation < 99  # all operations were tried


def fill_up(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
    try:
        save(folder, 2)
    except StorageError as error:
        (folder / "error").write_text(str(error))
        os._exit(6)


def test_a_file_size_limit(tmp_path: Path) -> None:
    save(tmp_path, 1)
    process = CONTEXT.Process(target=fill_up, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 6
    assert (tmp_path / "error").read_text() == (
        f"{tmp_path}: the checkpoint of step 2 can't be written (File too large); earlier ones are unchanged: free space or "
        "repair the disk, then run the same command to resume from there"
    )
    assert newest(tmp_path) == (1, 1.0)
    assert {path.suffix for path in tmp_path.iterdir()} == {".ckpt", ""}


def test_two_are_kept_without_those_of_an_abandoned_history(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    assert sorted(path.name[:13] for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    save(tmp_path, 2, value=7)
    assert newest(tmp_path) == (2, 7.0)
    assert len(list(tmp_path.iterdir())) == 1


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.ones(3)}, "is from another version of Overtile"),
        ({"overtile": {"format": 1, "run": "another"}}, "is from a run with another config or other data"),
        ({"overtile": {"format": 1, "run": "this run"}, "bomb": Bomb()}, "is no checkpoint"),
        (b"", "is no checkpoint"),
        (pickle.dumps(Bomb(), 2), "is no checkpoint"),
    ],
    ids=["no version", "another run", "pickle inside", "empty", "pickle"],
)
def test_files_that_are_no_checkpoint_of_this_run(
    content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's name matches its content, so that only the content shows it."""
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    stored = content if isinstance(content, bytes) else buffer.getvalue()
    path = tmp_path / f"step-00000009-{hashlib.sha256(stored).hexdigest()[:16]}.ckpt"
    path.write_bytes(stored)
    with pytest.raises(StorageError, match=f"{path.name}: {message}"):
        checkpoints_in(tmp_path).load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_a_changed_file_is_reported_and_skipped(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = max(tmp_path.iterdir())
    content = bytearray(last.read_bytes())
    content[-5000] ^= 16
    last.write_bytes(content)
    output = io.StringIO()
    newest_checkpoint = Checkpoints(tmp_path, "this run", Console(file=output, soft_wrap=True)).newest()
    assert newest_checkpoint is not None
    assert newest_checkpoint[1]["global_step"] == 1
    assert output.getvalue() == f"{last}: is damaged: its SHA-256 differs from the one in its name; it is skipped\n"


def test_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"https://x/y\.ckpt: is a URL; checkpoints are read from the run's own folder"):
        checkpoints_in(tmp_path).load_checkpoint("https://x/y.ckpt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"step-1\.ckpt: can't be read \(No such file or directory\)"):
        checkpoints_in(tmp_path).load_checkpoint(tmp_path / "step-1.ckpt")
    assert checkpoints_in(tmp_path).newest() is None
