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
    """The other side has ended, didn't answer in time, or said what makes no sense."""


class Channel:
    """Endpoint of a connection between two processes.

    Args:
        connection: a stream socket; closed with the channel.
        timeout_s: wall time for what is sent or received between two calls of `begin`; None waits for ever.
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
            ChannelLost: the other side doesn't take it.
        """
        content = json.dumps(message, default=_python).encode()
        self.send_bytes(memoryview(_LENGTH.pack(len(content)) + content))

    def receive(self) -> Message:
        """Receive the next object.

        Raises:
            ChannelLost: there is none.
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
            ChannelLost: the other side doesn't take them.
        """
        try:
            self._connection.settimeout(self._remaining_s())
            self._connection.sendall(content)
        except OSError as error:
            raise ChannelLost from error

    def receive_into(self, place: memoryview) -> None:
        """Receive bytes until `place`, contiguous memory, is full.

        Raises:
            ChannelLost: not that many come.
        """
        filled = 0
        while filled < len(place):
            try:
                self._connection.settimeout(self._remaining_s())
                count = self._connection.recv_into(place[filled:])
            except OSError as error:
                raise ChannelLost from error
            if not count:
                raise ChannelLost
            filled += count

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
        """Receives and forgets what the other side has sent, until it closes its end or the time is over."""
        place = bytearray(2**16)
        while True:
            try:
                self.receive_into(memoryview(place))
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


def _python(value: Any) -> Any:
    """Numpy's numbers as Python's."""
    return value.item()
