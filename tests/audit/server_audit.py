"""Audit of servers under test: it runs first in every Python of the environment, and reports what servers may not do.

Whatever a server may not do is said through a named pipe, since readers may write to no file: connections outward, names that
are looked up, files outside of its folders, programs that aren't its own. Only tests set the pipe; see `watch.py`. What C
libraries open by themselves isn't seen: Python's audit events don't have it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

SERVERS = ("service.server", "service.engine.main", "imaging.reader_process")
PIPE = "TEST_AUDIT_PIPE"
CHECKOUT = str(Path(__file__).parents[2])
URLS = ("OVERTILE_DATABASE_URL", "OVERTILE_TRACES_URL")
OF_THE_SYSTEM = ("/proc", "/sys", "/dev/null", "/dev/urandom", "/etc/localtime", "/etc/mime.types", "/usr/share/zoneinfo")
ASKED = (
    f"file -b {os.path.realpath(sys.executable)}",  # by croniter, which DBOS imports: whether Python is one of 32 bits
    "uname -p",  # by Python's platform: which processor it is
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STARTS = ("os.exec", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn")
NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")


class Rules:
    """Rules of what a process may do, from a server's environment."""

    def __init__(self, environment: dict[str, str]) -> None:
        temporary = environment.get("TMPDIR", tempfile.gettempdir())
        store = environment.get("OVERTILE_STORE", str(Path.home() / ".overtile"))
        models = environment.get("BENTOML_HOME", str(Path.home() / "bentoml"))
        code = [CHECKOUT, sys.prefix, sys.base_prefix, *sys.path, *environment.get("PYTHONPATH", "").split(os.pathsep)]
        given = [argument for argument in sys.orig_argv[1:] if argument.startswith("/")]  # a certificate and its key
        self.pipe = environment[PIPE]
        self.written = _roots([store, temporary, "/dev/null", self.pipe])
        self.read = _roots([*code, models, *given, *OF_THE_SYSTEM, *self.written])
        self.hosts = {urlsplit(environment[name]).hostname for name in URLS if name in environment}

    def violation(self, event: str, args: tuple[object, ...]) -> str | None:
        """Return what an event does although it may not, in a line; None if it is allowed."""
        if event == "open" and not isinstance(args[0], int):
            flags = args[2] if isinstance(args[2], int) else 0
            return self._outside(args[0], "write" if flags & WRITES else "read")
        if event == "sqlite3.connect" and args[0] != ":memory:":
            return self._outside(args[0], "write")
        if event in ("socket.connect", "socket.sendto"):
            family, address = args[0].family.name, args[1]
            host = address[0] if isinstance(address, tuple) else None
            return None if family == "AF_UNIX" or host in self.hosts else f"connect {address!r}"
        if event in NAMES:
            return None if args[0] in self.hosts else f"look up {args!r}"
        if event == "subprocess.Popen":
            command = " ".join(map(str, args[1]))
            return None if command in ASKED or any(f"-m {own} " in f"{command} " for own in SERVERS) else f"start {command}"
        return f"start {args!r}" if event in STARTS else None

    def _outside(self, path: object, what: str) -> str | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        place = os.path.normpath(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH109, PTH118
        roots = self.written if what == "write" else self.read
        return None if any(place == root or place.startswith(f"{root}/") for root in roots) else f"{what} {place}"


def _roots(places: list[str]) -> list[str]:
    absolute = {os.path.abspath(place) for place in places if place}  # noqa: PTH100
    return sorted({*absolute, *map(os.path.realpath, absolute)} - {"/"})


def _environment() -> dict[str, str]:
    """Return the environment of this process, or of its parent, since readers have none."""
    if PIPE in os.environ or "imaging.reader_process" not in sys.orig_argv:
        return dict(os.environ)
    command = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().split("\0")
    if not set(SERVERS) & set(command):
        return {}
    entries = Path(f"/proc/{os.getppid()}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def install() -> None:
    """Install the audit in a server's process under test; do nothing elsewhere."""
    role = next((server for server in SERVERS if server in sys.orig_argv), None)
    environment = _environment() if role else {}
    if PIPE not in environment:
        return
    rules = Rules(environment)
    pipe = os.open(rules.pipe, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    reported: set[tuple[int, str | None]] = set()

    def hook(event: str, args: tuple[object, ...]) -> None:
        violation = rules.violation(event, args)
        if (report := (os.getpid(), violation)) not in reported:  # no violation is reported once, too: the process is audited
            reported.add(report)
            os.write(pipe, json.dumps([os.getpid(), role, violation])[:4000].encode() + b"\n")

    sys.addaudithook(hook)


install()
