"""What gateway and engine say to each other: lines of JSON over a socket pair. Nothing that either reads is ever executed.

to the engine     {"id", "do", ...}  work;  {"cancel": id}
from the engine   {"models", "broken"}  what is loaded;  {"alive"};  {"id", "progress": [done, total]};
                  {"id", "answer": {...}};  {"id", "error": {"kind", "code", "message", "limit"?, "field"?}}
"""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

Message = dict[str, Any]

LONGEST = 64 * 2**20  # bytes of a line


class Wire:
    """One end. Threads may share it for sending; one of them receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Raises OSError when the other end is gone."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._connection.sendall(line)

    def messages(self) -> Iterator[Message]:
        """What comes, until the other end is gone or says what is no message."""
        while True:
            try:
                line = self._file.readline(LONGEST)
                message = json.loads(line) if line.endswith(b"\n") else None
            except (OSError, ValueError):
                return
            if not isinstance(message, dict):
                return
            yield message

    def close(self) -> None:
        """Both directions; who is receiving is woken."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._connection.close()
