"""A server whose processes say what they open, whom they connect to and what they start; by an audit hook of Python's own.

A `sitecustomize` that only this test puts on the path: the product has no such hook. It writes to a named pipe, since readers
may write to no file. What C libraries open by themselves isn't seen.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers import free_port, is_ready, stop, wait_until

_HOOK = """
import json, os, sys

_pipe = os.open({pipe!r}, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
_told = set()
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
_NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


def _known(event, args):
    if event == "open":
        path, _, flags = args
        if isinstance(path, int):
            return None
        return ["write" if (flags or 0) & _WRITES else "read", os.path.join(os.getcwd(), os.fsdecode(path))]
    if event == "sqlite3.connect":
        return ["write", os.path.join(os.getcwd(), os.fsdecode(args[0]))]
    if event in ("socket.connect", "socket.sendto"):
        return ["connect", str(args[0].family.name), repr(args[1])]
    if event in _NAMES:
        return ["name", repr(args)]
    if event in _STARTS:
        return ["start", " ".join(map(str, args[1])) if event == "subprocess.Popen" else repr(args)]
    return None


def _hook(event, args):
    known = _known(event, args)
    if known and (key := (os.getpid(), *known)) not in _told:
        _told.add(key)
        os.write(_pipe, json.dumps([os.getpid(), *known])[:4000].encode() + b"\\n")


sys.addaudithook(_hook)
"""


@dataclass
class Audit:
    """What was seen so far: lines of process, kind, and what."""

    url: str
    store: Path
    folder: Path
    log: Path
    seen: list[list[str]] = field(default_factory=list)

    def of(self, kind: str) -> list[list[str]]:
        return [rest for _, found, *rest in list(self.seen) if found == kind]

    @property
    def processes(self) -> set[str]:
        return {each[0] for each in list(self.seen)}


@contextmanager
def audited(tag: str, code: str, environment: dict[str, str], folder: Path) -> Iterator[Audit]:
    """A server of a Bento whose code lies there, with nothing of the checkout on its path."""
    hook, pipe = folder / "hook", folder / "pipe"
    hook.mkdir()
    (folder / "requests").mkdir()
    os.mkfifo(pipe)
    (hook / "sitecustomize.py").write_text(_HOOK.format(pipe=str(pipe)))
    audit = Audit(f"http://127.0.0.1:{free_port()}", folder / "store", folder, folder / "log")
    own = {
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join([code, str(hook)]),
        "OVERTILE_STORE": str(audit.store),
        "OVERTILE_STORAGE_RESERVE_BYTES": "1",
        "TMPDIR": str(folder / "requests"),
    }
    with listening(pipe, audit), serving(tag, {**environment, **own}, audit):
        yield audit


@contextmanager
def serving(tag: str, environment: dict[str, str], audit: Audit) -> Iterator[None]:
    host, port = audit.url.removeprefix("http://").split(":")
    with audit.log.open("wb") as out:
        command = [sys.executable, "-P", "-m", "service.server", tag, host, port]
        process = subprocess.Popen(command, cwd=audit.folder, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(audit.url), timeout_s=60)
        assert process.poll() is None, audit.log.read_text()
        yield
    finally:
        stop(process)


@contextmanager
def listening(pipe: Path, audit: Audit) -> Iterator[None]:
    descriptor = os.open(pipe, os.O_RDWR)  # for writing, too: there is no end of it before all have begun

    def listen() -> None:
        with os.fdopen(descriptor) as lines:
            for line in lines:
                if line == "end\n":
                    return
                audit.seen.append([str(part) for part in json.loads(line)])

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        pipe.write_bytes(b"end\n")
        thread.join()
