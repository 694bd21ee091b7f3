"""Protocol between gateway and engine: lines of JSON over a socket pair, so that nothing that either side reads is executed.

to the engine     {"id", "do", ...}  a request;  {"cancel": id}
from the engine   {"models", "broken", "device"}  the loaded models;  {"alive"};  {"id", "progress": [done, total]};
                  {"id", "answer": {...}};  {"id", "error": {"kind", "code", "message", "limit"?, "field"?}}
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

Message = dict[str, Any]
TileProgress = Callable[[int, int], None]  # called with the number of finished tiles, and of all tiles

MAX_LINE_BYTES = 64 * 2**20


class JsonConnection:
    """Connection to the other process. All threads may send, but only one may receive.

    Args:
        connection: one socket of the pair.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            OSError: the other end is closed.
        """
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._connection.sendall(line)

    def messages(self) -> Iterator[Message]:
        """Yield the received messages, until the other end is closed or sends something else than a message."""
        while True:
            try:
                line = self._file.readline(MAX_LINE_BYTES)
                message = json.loads(line) if line.endswith(b"\n") else None
            except (OSError, ValueError):
                return
            if not isinstance(message, dict):
                return
            yield message

    def close(self) -> None:
        """Close both directions; this wakes the thread that receives."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self._connection.close()
