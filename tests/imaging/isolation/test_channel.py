"""Two ends of a socket: what one says the other hears, and nonsense, silence or an end are one error."""

import socket
import struct
import threading

import pytest

from imaging.isolation.channel import Channel, ChannelLost


@pytest.fixture
def ends():
    first, second = socket.socketpair()
    channels = Channel(first, 0.3).begin(), second
    yield channels
    first.close()
    second.close()


def test_what_is_said_is_heard(ends):
    channel, other = ends
    there = Channel(other)
    channel.send({"numbers": [1, 0.1, None], "text": "é"})
    assert there.receive() == {"numbers": [1, 0.1, None], "text": "é"}
    sent = bytes(range(256)) * 10**4
    sender = threading.Thread(target=there.send_bytes, args=(memoryview(sent),))
    sender.start()
    heard = bytearray(len(sent))
    channel.receive_into(memoryview(heard))
    sender.join()
    assert heard == sent


@pytest.mark.parametrize(
    "said", [b"", b"\1\0", struct.pack("<I", 5) + b"{", struct.pack("<I", 1) + b"{", struct.pack("<I", 2) + b"[]", b"\xff" * 9]
)
def test_what_is_no_message_is_an_error(ends, said):
    channel, other = ends
    other.sendall(said)
    other.close()
    with pytest.raises(ChannelLost):
        channel.receive()


def test_silence_ends_with_the_time(ends):
    channel, _ = ends
    with pytest.raises(ChannelLost):
        channel.receive()
    with pytest.raises(ChannelLost):
        channel.send({})
    assert not channel.has_ended()


def test_who_does_not_listen_is_given_up(ends):
    channel, _ = ends
    with pytest.raises(ChannelLost):
        channel.send_bytes(memoryview(bytes(10**7)))


def test_an_end_is_seen(ends):
    channel, other = ends
    other.sendall(b"left over")
    other.close()
    channel.drain()
    assert channel.has_ended()
    with pytest.raises(ChannelLost):
        channel.send({})
