"""Images that a separate process opens and reads, so that a hostile file yields pixels, a known error, or nothing."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from imaging.guards import Guards
from imaging.isolation.channel import Channel, ChannelLost, Message
from imaging.isolation.forkserver import forkserver
from imaging.source import Geometry, ImageSource, Level, MaskFormat, ReadOptions, Region

_ERRORS = {kind.__name__: kind for kind in (DataError, BrokenImage, UnsupportedFormat, UnsuitableImage)}
_PIXEL_KINDS = "buif"


class IsolatedSource(ImageSource):
    """A file open in another process, under limits of memory, time and rights; reads as the file's own reader does.

    A process that crashes, exceeds a limit or doesn't answer in time is ended; this request and all later ones fail. Threads
    may share the source.

    Args:
        path: the file.
        guards: the limits, also those of the file's own reader.
        options: how the file is to be read.

    Raises:
        DataError: the errors of the file's own reader, and `image_reader_crashed`, an UnsuitableImage; also at reads.
        RuntimeError: this installation can't start processes.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # that of the file's own reader

    def __init__(self, path: Path, guards: Guards, options: ReadOptions) -> None:
        self._guards = guards
        self._lock = threading.Lock()
        connection, self.process_id = forkserver().fork()
        self._channel: Channel | None = Channel(connection, guards.process_timeout_s)
        try:
            answer = self._ask({"path": str(path.absolute()), "options": asdict(options), "guards": asdict(guards)})
            try:
                self._take_description(answer)
            except (KeyError, TypeError, ValueError) as error:
                raise self._crashed() from error
        except BaseException:
            self.close()
            raise

    @property
    def held_bytes(self) -> int:
        """Upper limit of the memory that the other process keeps between reads."""
        return self._held_bytes

    def close(self) -> None:
        """End the other process and wait until it has ended."""
        with self._lock:
            self._end()

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        pixels = np.empty((self.channels, *_sizes(region)), self.dtype)
        pixel_bytes = self.channels * self.dtype.itemsize
        for part in _parts(region, max(1, self._guards.process_read_bytes // pixel_bytes)):
            axes = zip(part, region, strict=True)
            place = pixels[(slice(None), *(slice(axis.start - whole.start, axis.stop - whole.start) for axis, whole in axes))]
            buffer = place if place.flags.c_contiguous else np.empty(place.shape, self.dtype)
            answer = self._ask({"region": [[axis.start, axis.stop] for axis in part], "level": level}, buffer)
            self.file_warnings = tuple(str(code) for code in answer["warnings"])
            if buffer is not place:
                place[...] = buffer
        return pixels

    def _ask(self, message: Message, pixels: NDArray[Any] | None = None) -> Message:
        """Return the answer to a message, and fill `pixels` with the bytes that follow it.

        Raises:
            DataError: the answer is an error, or the process has ended.
        """
        with self._lock:
            if self._channel is None:
                raise self._crashed()
            try:
                self._channel.begin().send(message)
                answer = self._channel.receive()
                if pixels is not None and "error" not in answer:
                    self._channel.receive_into(pixels.reshape(-1).view(np.uint8).data)
            except ChannelLost as error:
                self._end()
                raise self._crashed() from error
        if "error" not in answer:
            return answer
        failure = answer["error"]
        if failure["kind"] == ImageTooLarge.__name__:
            raise ImageTooLarge(failure["code"], failure["message"], failure["limit"])
        raise _ERRORS[failure["kind"]](failure["code"], failure["message"])

    def _take_description(self, description: Message) -> None:
        """Take over the properties of the image from the other process's answer."""
        geometry = description["geometry"]
        dtype = np.dtype(description["dtype"])
        if dtype.kind not in _PIXEL_KINDS:
            raise self._crashed()
        super().__init__(
            Geometry(
                shape=tuple(geometry["shape"]),
                spacing_um=_tuple(geometry["spacing_um"]),
                affine=None if geometry["affine"] is None else np.array(geometry["affine"], np.float64),
                affine_codes=tuple(geometry["affine_codes"]),
                origin_px=_tuple(geometry["origin_px"]),
                origin_um=_tuple(geometry["origin_um"]),
                files=tuple(Path(name) for name in geometry["files"]),
                file_axes=geometry["file_axes"],
            ),
            description["channels"],
            dtype,
            tuple(Level(tuple(shape), _tuple(spacing_um)) for shape, spacing_um in description["levels"]),
        )
        self.mask_format = description["mask_format"]
        self.file_warnings = tuple(str(code) for code in description["warnings"])
        self._held_bytes = int(description["held_bytes"])

    def _end(self) -> None:
        """End the process and the connection, once."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        if not channel.has_ended():  # otherwise the process id may belong to another process
            with suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGKILL)
            channel.begin().drain()
        channel.close()

    def _crashed(self) -> DataError:
        guards = self._guards
        return UnsuitableImage(
            "image_reader_crashed",
            f"the image's reader crashed, needs more than {guards.process_memory_bytes} bytes of memory or takes more than "
            f"{min(guards.process_cpu_s, guards.process_timeout_s):g} s; export the image again, or cut it into parts",
        )


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _sizes(region: Region) -> tuple[int, ...]:
    return tuple(axis.stop - axis.start for axis in region)


def _parts(region: Region, most_pixels: int) -> Iterator[Region]:
    """Yield the region if it is small enough, else its halves along the first axis that can be halved, recursively."""
    sizes = _sizes(region)
    if prod(sizes) <= most_pixels or max(sizes) == 1:
        yield region
        return
    axis = next(number for number, size in enumerate(sizes) if size > 1)
    middle = region[axis].start + sizes[axis] // 2
    for half in (slice(region[axis].start, middle), slice(middle, region[axis].stop)):
        yield from _parts((*region[:axis], half, *region[axis + 1 :]), most_pixels)
