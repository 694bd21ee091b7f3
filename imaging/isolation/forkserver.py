"""The program's hold on `imaging/reader_process.py`: starts it once, and asks it for a process for each file.

Not `multiprocessing`: its forkserver runs the program's main module anew in every process, which for the service's worker
means BentoML and torch, and what it sends is unpickled, which a process that has read a hostile file must not be trusted with.
"""

import atexit
import errno
import functools
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

READY = b"ready"  # what the waiting process says when it has loaded the readers
PROCESS_ID = struct.Struct("<q")  # what it says when it has forked; 0 when it can't

_START_TIMEOUT_S = 120.0
_FORK_TIMEOUT_S = 30.0
# Of the program's environment; keys and passwords, which may be among the rest, are nothing for a reader.
_KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR")


class Nursery:
    """The waiting process; started when the first file needs it or before, and again if it was ended. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Load the readers now, which takes a second or two, so that the first file doesn't wait for it.

        Raises:
            OSError: the process can't be started.
        """
        with self._lock:
            if self._control is None:
                self._start()

    def fork(self) -> tuple[socket.socket, int]:
        """Return a connection to a new process, and its process id.

        Raises:
            RuntimeError: this installation can't start processes.
            OSError: the machine has no room for another process or another open file now.
        """
        with self._lock:
            try:
                return self._fork()
            except (ConnectionError, TimeoutError):  # it was ended, by whom ever: a new one
                self._end()
            try:
                return self._fork()
            except (ConnectionError, TimeoutError) as error:
                self._end()
                raise RuntimeError(
                    "the process that opens images can't be started; its message is on standard error"
                ) from error

    def close(self) -> None:
        """End the process and the processes that it forked."""
        with self._lock:
            self._end()

    def _fork(self) -> tuple[socket.socket, int]:
        control = self._control or self._start()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(control, [b"f"], [theirs.fileno()])
            process_id = PROCESS_ID.unpack(_exactly(control, PROCESS_ID.size))[0]
            if not process_id:
                raise BlockingIOError(errno.EAGAIN, "no room for another process")
        except OSError:
            ours.close()
            raise
        return ours, process_id

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-B", "-m", "imaging.reader_process"]  # writes nothing, no bytecode either
            silence = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=silence, env=_environment())
        self._control.settimeout(_START_TIMEOUT_S)
        _exactly(self._control, len(READY))
        self._control.settimeout(_FORK_TIMEOUT_S)
        return self._control

    def _end(self) -> None:
        if self._control:
            self._control.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


@functools.cache
def nursery() -> Nursery:
    """Return the forkserver of this program."""
    made = Nursery()
    atexit.register(made.close)
    return made


def _environment() -> dict[str, str]:
    """Return the environment: one thread for linear algebra, since a process with threads can't safely be forked."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise ConnectionResetError
        content += piece
    return content
