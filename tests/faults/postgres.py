"""PostgreSQL from Debian's packages, in a temporary folder and on a loopback port."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import free_port

SYSTEM = Path("/usr/lib/postgresql")


def programs() -> Path:
    """Return the folder of PostgreSQL's programs. Without them the test is skipped, or fails in CI."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else []
    folders += sorted(SYSTEM.glob("*/bin"), key=lambda each: int(each.parent.name), reverse=True)
    if real := next((folder for folder in folders if (folder / "postgres").exists()), None):
        return real
    if os.environ.get("CI"):
        pytest.fail("no PostgreSQL here; .ci/run installs Debian's")
    pytest.skip("no PostgreSQL here; apt-get install postgresql")


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server, and yield the URL of a new, empty database."""
    bin_folder, port = programs(), free_port()
    user = "nobody" if os.geteuid() == 0 else None  # it doesn't run as root
    data = Path(tempfile.mkdtemp(prefix="overtile-postgres-"))  # not in pytest's folders, which are one user's alone
    if user:
        shutil.chown(data, user)

    def run(name: str, *words: str) -> None:
        command = [str(bin_folder / name), *words]
        done = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories= -c fsync=off -c max_connections=200"
    try:
        run("initdb", "-D", str(data), "-U", "overtile", "-A", "trust", "--no-sync", "--no-instructions", "-E", "UTF8")
        run("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start")
        try:
            yield f"postgresql://overtile@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data)
