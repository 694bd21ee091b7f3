"""Reader process: loads the readers once, and forks one process with limits for each untrusted file.

`imaging/isolation/forkserver.py` starts it as `python -m imaging.reader_process`; its standard input is the connection.
Forked processes limit themselves before they open a file. The program imports nothing from here.
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
from imaging.open import open_directly
from imaging.source import ImageSource, ReadOptions

_MOST_OPEN_FILES = 256
_ERRORS = (BrokenImage, ImageTooLarge, UnsupportedFormat, UnsuitableImage, DataError)  # the base class comes last
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h


def wait_and_fork() -> None:
    """Fork a process for each connection that the program sends, until the program ends."""
    control = socket.socket(fileno=os.dup(0))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # libraries may print a file's content
        os.dup2(silence, stream)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps ended processes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the program, whose end also ends this process
    control.sendall(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        parent = os.getpid()
        try:
            process_id = os.fork()
        except OSError:
            process_id = 0  # the machine can't start a process
        else:
            if not process_id:
                control.close()
                _run_child(socket.socket(fileno=descriptors[0]), parent)
        os.close(descriptors[0])
        control.sendall(PROCESS_ID.pack(process_id))


def _run_child(connection: socket.socket, parent: int) -> NoReturn:
    """Open one file and answer its reads; any error ends the process, which closes the connection."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.dont_write_bytecode = True
        _serve_file(Channel(connection), parent)
    finally:
        os._exit(1)


def _serve_file(channel: Channel, parent: int) -> None:
    """Open the file of the first message, send its description, then answer reads until the connection is closed."""
    request = channel.receive()
    guards = Guards(**{**request["guards"], "isolated": False})
    _limit_process(guards, parent)
    _limit_processor_time(guards)
    try:
        source = open_directly(Path(request["path"]), guards, ReadOptions(**request["options"]))
    except DataError as error:
        channel.send(_error_message(error))
        return
    channel.send(_description(source))
    while True:
        try:
            request = channel.receive()
        except ChannelLost:  # closed by the program
            return
        _limit_processor_time(guards)
        _answer_read(channel, source, request)


def _answer_read(channel: Channel, source: ImageSource, request: Message) -> None:
    region = tuple(slice(start, stop) for start, stop in request["region"])
    try:
        pixels = np.ascontiguousarray(source.read(region, request["level"]), source.dtype)
    except DataError as error:
        channel.send(_error_message(error))
        return
    if pixels.shape != (source.channels, *(axis.stop - axis.start for axis in region)):
        raise ValueError("the reader returned another shape than the region's")
    channel.send({"warnings": source.file_warnings})
    channel.send_bytes(pixels.reshape(-1).view(np.uint8).data)


def _error_message(error: DataError) -> Message:
    kind = next(kind for kind in _ERRORS if isinstance(error, kind))
    limit = {"limit": error.limit} if isinstance(error, ImageTooLarge) else {}
    return {"error": {"kind": kind.__name__, "code": error.code, "message": error.message, **limit}}


def _description(source: ImageSource) -> Message:
    """Return the properties of an image, which `IsolatedSource` takes over."""
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
            "file_axes": geometry.file_axes,
        },
        "channels": source.channels,
        "dtype": source.dtype.str,
        "levels": [[level.shape, level.spacing_um] for level in source.levels],
        "mask_format": source.mask_format,
        "held_bytes": source.held_bytes,
        "warnings": source.file_warnings,
    }


def _limit_process(guards: Guards, parent: int) -> None:
    """Limit memory, files and rights of this process irrevocably; macOS can limit neither memory nor rights."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_NOFILE, _MOST_OPEN_FILES)
    if sys.platform != "linux":
        return
    _lower(resource.RLIMIT_AS, guards.process_memory_bytes)
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError("The process cannot give up its rights.")
    end_with_parent(parent)


def _limit_processor_time(guards: Guards) -> None:
    """Allow the processor time of one request, counted from now."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    end_s = math.ceil(time.process_time()) + guards.process_cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (_within(end_s, hard), hard))


def _lower(limit: int, value: int) -> None:
    """Lower a resource limit for good."""
    value = _within(value, resource.getrlimit(limit)[1])
    resource.setrlimit(limit, (value, value))


def _within(value: int, hard: int) -> int:
    """Return the value, or the hard limit if that is lower."""
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


if __name__ == "__main__":
    wait_and_fork()
