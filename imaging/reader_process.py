"""Reader process: it has the readers loaded, waits apart from the program, and forks one process for each file.

It is started as `python -m imaging.reader_process` by `imaging/isolation/forkserver.py`; standard input is the connection.
The forked processes put limits on themselves before they open anything. Nothing here is imported by the program.
"""

import ctypes
import math
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np

from disk.process import end_with_parent
from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards
from imaging.isolation.channel import Channel, ChannelLost, Message
from imaging.isolation.forkserver import PROCESS_ID, READY
from imaging.open import open_image
from imaging.source import ImageSource

_MOST_OPEN_FILES = 256
_ERRORS = (BrokenImage, ImageTooLarge, UnsupportedFormat, UnsuitableImage, DataError)  # the last is the others' base
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def wait_and_fork() -> None:
    """Fork a process for each connection, until the program that started this one has ended."""
    control = socket.socket(fileno=os.dup(0))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what libraries print may hold what is in a file
        os.dup2(silence, stream)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel takes ended processes away
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the program, whose end is this one's
    control.sendall(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        control.sendall(PROCESS_ID.pack(_forked(control, descriptors[0])))


def _forked(control: socket.socket, descriptor: int) -> int:
    """Return the new process's id; 0 where the machine can't start one."""
    parent = os.getpid()
    try:
        process_id = os.fork()
    except OSError:
        process_id = 0
    else:
        if not process_id:
            control.close()
            _live(socket.socket(fileno=descriptor), parent)
    os.close(descriptor)
    return process_id


def _live(connection: socket.socket, parent: int) -> NoReturn:
    """Run one file's process; any error ends it, which is how the program learns of it."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.dont_write_bytecode = True
        _serve(Channel(connection), parent)
    finally:
        os._exit(1)


def _serve(channel: Channel, parent: int) -> None:
    wanted = channel.receive()
    guards = Guards(**{**wanted["guards"], "isolated": False})
    _limit(guards, parent)
    _allow_time(guards)
    try:
        source = open_image(Path(wanted["path"]), guards=guards, labels=wanted["labels"])
    except DataError as error:
        channel.send(_told(error))
        return
    channel.send(_description(source))
    while True:
        try:
            wanted = channel.receive()
        except ChannelLost:  # closed: nobody wants more
            return
        _allow_time(guards)
        _answer(channel, source, wanted)


def _answer(channel: Channel, source: ImageSource, wanted: Message) -> None:
    region = tuple(slice(start, stop) for start, stop in wanted["region"])
    try:
        pixels = np.ascontiguousarray(source.read(region, wanted["level"]), source.dtype)
    except DataError as error:
        channel.send(_told(error))
        return
    if pixels.shape != (source.channels, *(axis.stop - axis.start for axis in region)):
        raise ValueError("the reader gave another shape than it was asked for")
    channel.send({"warnings": source.file_warnings})
    channel.send_bytes(pixels.reshape(-1).view(np.uint8).data)


def _told(error: DataError) -> Message:
    kind = next(kind for kind in _ERRORS if isinstance(error, kind))
    limit = {"limit": error.limit} if isinstance(error, ImageTooLarge) else {}
    return {"error": {"kind": kind.__name__, "code": error.code, "message": error.message, **limit}}


def _description(source: ImageSource) -> Message:
    geometry = source.geometry
    return {
        "geometry": {
            "shape": geometry.shape,
            "spacing_um": geometry.spacing_um,
            "affine": None if geometry.affine is None else geometry.affine.tolist(),
            "affine_codes": geometry.affine_codes,
            "origin_px": geometry.origin_px,
            "origin_um": geometry.origin_um,
            "files": [str(path) for path in geometry.files],
        },
        "channels": source.channels,
        "dtype": source.dtype.str,
        "levels": [[level.shape, level.spacing_um] for level in source.levels],
        "mask_format": source.mask_format,
        "held_bytes": source.held_bytes,
        "warnings": source.file_warnings,
    }


def _limit(guards: Guards, parent: int) -> None:
    """Memory, files and rights, for good; on macOS, which has neither, memory and rights stay as they are."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _MOST_OPEN_FILES)
    if sys.platform != "linux":
        return
    _lower(resource.RLIMIT_AS, guards.process_memory_bytes)
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError("The process cannot give up its rights.")
    end_with_parent(parent)


def _allow_time(guards: Guards) -> None:
    """Processor time from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(time.process_time()) + guards.process_cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (_least(wanted, hard), hard))


def _lower(limit: int, value: int) -> None:
    value = _least(value, resource.getrlimit(limit)[1])
    resource.setrlimit(limit, (value, value))


def _least(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


if __name__ == "__main__":
    wait_and_fork()
