"""Client of `imaging/reader_process.py`: starts that process once, and has it fork a process for each file.

`multiprocessing` doesn't fit: its forkserver runs the program's main module again in every process, which for the service
means importing BentoML and torch, and it unpickles messages, which a process that has read a hostile file could abuse.
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

READY = b"ready"  # message of the reader process after it has loaded the readers
PROCESS_ID = struct.Struct("<q")  # message after each fork; 0 if the fork failed

_START_TIMEOUT_S = 120.0
_FORK_TIMEOUT_S = 30.0
# Variables that the reader process inherits; others may be keys and passwords.
_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR")


class Forkserver:
    """Reader process that forks a process for each file; started on demand, and again if it has ended.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process and load the readers, which takes a second or two, so that the first file doesn't wait.

        Raises:
            OSError: the process can't be started.
        """
        with self._lock:
            if self._control is None:
                self._start()

    def fork(self) -> tuple[socket.socket, int]:
        """Return a connection to a new process, and its process id.

        Raises:
            RuntimeError: this installation can't start the process.
            OSError: the machine's limit of processes or open files is reached.
        """
        with self._lock:
            try:
                return self._fork()
            except (ConnectionError, TimeoutError):  # the process has ended; start a new one
                self._end()
            try:
                return self._fork()
            except (ConnectionError, TimeoutError) as error:
                self._end()
                raise RuntimeError("the process that opens images doesn't start; see its message on standard error") from error

    def close(self) -> None:
        """End the process and the processes that it forked."""
        with self._lock:
            self._end()

    def _fork(self) -> tuple[socket.socket, int]:
        control = self._control or self._start()
        connection, remote_end = socket.socketpair()
        try:
            with remote_end:
                socket.send_fds(control, [b"f"], [remote_end.fileno()])
            process_id = PROCESS_ID.unpack(_receive_exactly(control, PROCESS_ID.size))[0]
            if not process_id:
                raise BlockingIOError(errno.EAGAIN, "the machine cannot start another process")
        except OSError:
            connection.close()
            raise
        return connection, process_id

    def _start(self) -> socket.socket:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads make forking unsafe
        self._control, remote_end = socket.socketpair()
        with remote_end:
            command = [sys.executable, "-P", "-B", "-m", "imaging.reader_process"]  # -B: writes no bytecode
            silence = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=remote_end.fileno(), stdout=silence, env=environment)
        self._control.settimeout(_START_TIMEOUT_S)
        _receive_exactly(self._control, len(READY))
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
def forkserver() -> Forkserver:
    """Return the forkserver of this program."""
    server = Forkserver()
    atexit.register(server.close)
    return server


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = connection.recv(size - len(content))
        if not piece:
            raise ConnectionResetError
        content += piece
    return content
