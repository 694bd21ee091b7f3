"""Channel between two processes over a socket: JSON objects and pixels with a deadline; nothing received is executed."""

import json
import socket
import struct
import time
from typing import Any, Self

Message = dict[str, Any]

_LENGTH = struct.Struct("<I")
_LARGEST_MESSAGE_BYTES = 2**24


class ChannelLost(Exception):
    """The other process has ended, didn't answer in time, or sent an invalid message."""


class Channel:
    """Endpoint of a connection between two processes.

    Args:
        connection: a stream socket; closed with the channel.
        timeout_s: wall time for all sending and receiving after a call of `begin`; None means no limit.
    """

    def __init__(self, connection: socket.socket, timeout_s: float | None = None) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._deadline = float("inf")

    def begin(self) -> Self:
        """Restart the deadline."""
        self._deadline = float("inf") if self._timeout_s is None else time.monotonic() + self._timeout_s
        return self

    def send(self, message: Message) -> None:
        """Send a whole object.

        Raises:
            ChannelLost: the other side doesn't receive it.
        """
        content = json.dumps(message, default=lambda number: number.item()).encode()  # NumPy's numbers as Python's
        self.send_bytes(memoryview(_LENGTH.pack(len(content)) + content))

    def receive(self) -> Message:
        """Receive the next object.

        Raises:
            ChannelLost: none arrives.
        """
        length = bytearray(_LENGTH.size)
        self.receive_into(memoryview(length))
        size = _LENGTH.unpack(length)[0]
        if size > _LARGEST_MESSAGE_BYTES:
            raise ChannelLost
        content = bytearray(size)
        self.receive_into(memoryview(content))
        try:
            message = json.loads(content)
        except ValueError as error:
            raise ChannelLost from error
        if not isinstance(message, dict):
            raise ChannelLost
        return message

    def send_bytes(self, content: memoryview) -> None:
        """Send bytes whose number the other side knows.

        Raises:
            ChannelLost: the other side doesn't receive them.
        """
        try:
            self._connection.settimeout(self._remaining_s())
            self._connection.sendall(content)
        except OSError as error:
            raise ChannelLost from error

    def receive_into(self, buffer: memoryview) -> None:
        """Receive bytes until the buffer, contiguous memory, is full.

        Raises:
            ChannelLost: fewer bytes arrive.
        """
        position = 0
        while position < len(buffer):
            try:
                self._connection.settimeout(self._remaining_s())
                count = self._connection.recv_into(buffer[position:])
            except OSError as error:
                raise ChannelLost from error
            if not count:
                raise ChannelLost
            position += count

    def has_ended(self) -> bool:
        """Return True if the other side has closed its end and everything that it sent was received."""
        try:
            self._connection.settimeout(0)
            return not self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def drain(self) -> None:
        """Receive and discard bytes until the other side closes its end or the time is over."""
        buffer = bytearray(2**16)
        while True:
            try:
                self.receive_into(memoryview(buffer))
            except ChannelLost:
                return

    def close(self) -> None:
        """Close the connection; the other side sees that it has ended."""
        self._connection.close()

    def _remaining_s(self) -> float | None:
        if self._deadline == float("inf"):
            return None
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        return remaining_s
