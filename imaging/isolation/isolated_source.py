"""An image that a process of its own has open: what comes out of a hostile file is pixels, a known error, or nothing."""

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
from imaging.isolation.forkserver import nursery
from imaging.source import Geometry, ImageSource, Level, MaskFormat, Region

_ERRORS = {kind.__name__: kind for kind in (DataError, BrokenImage, UnsupportedFormat, UnsuitableImage)}
_PIXEL_KINDS = "buif"


class IsolatedSource(ImageSource):
    """A file open in another process, under limits on memory, time and rights; reads as the file's own reader does.

    A process that crashes, takes more than it may, or doesn't answer in time is ended, and what it was asked for is
    refused; it is never asked again. Threads may share the source.

    Args:
        path: the file.
        guards: the limits, and what the file's own reader is given.
        labels: as in `open_image`.

    Raises:
        DataError: what the file's own reader raises, and `image_reader_crashed`, an UnsuitableImage; both at reads, too.
        RuntimeError: this installation can't start processes.
    """

    mask_format: MaskFormat  # type: ignore[misc]  # the file's own reader's

    def __init__(self, path: Path, guards: Guards, *, labels: bool = False) -> None:
        self._guards = guards
        self._lock = threading.Lock()
        connection, self.process_id = nursery().fork()
        self._channel: Channel | None = Channel(connection, guards.process_timeout_s)
        try:
            told = self._ask({"path": str(path.absolute()), "labels": labels, "guards": asdict(guards)})
            try:
                self._describe(told)
            except (KeyError, TypeError, ValueError) as error:
                raise self._crashed() from error
        except BaseException:
            self.close()
            raise

    @property
    def held_bytes(self) -> int:
        """Memory that the other process may hold, bytes."""
        return self._held_bytes

    def close(self) -> None:
        """End the other process and wait until it has ended."""
        with self._lock:
            self._end()

    def _read(self, region: Region, level: int) -> NDArray[Any]:
        pixels = np.empty((self.channels, *_sizes(region)), self.dtype)
        pixel_bytes = self.channels * self.dtype.itemsize
        for part in _parts(region, max(1, self._guards.process_read_bytes // pixel_bytes)):
            starts = zip(part, region, strict=True)
            within = (slice(axis.start - whole.start, axis.stop - whole.start) for axis, whole in starts)
            self._fill(pixels[(slice(None), *within)], part, level)
        return pixels

    def _fill(self, place: NDArray[Any], region: Region, level: int) -> None:
        pixels = place if place.flags.c_contiguous else np.empty(place.shape, self.dtype)
        told = self._ask({"region": [[axis.start, axis.stop] for axis in region], "level": level}, pixels)
        self.file_warnings = tuple(str(code) for code in told["warnings"])
        if pixels is not place:
            place[...] = pixels

    def _ask(self, message: Message, pixels: NDArray[Any] | None = None) -> Message:
        """Return the answer to a message; `pixels` are filled with what follows it."""
        with self._lock:
            if self._channel is None:
                raise self._crashed()
            try:
                self._channel.begin().send(message)
                told = self._channel.receive()
                if pixels is not None and "error" not in told:
                    self._channel.receive_into(pixels.reshape(-1).view(np.uint8).data)
            except ChannelLost as error:
                self._end()
                raise self._crashed() from error
        if "error" in told:
            raise _error_of(told["error"])
        return told

    def _describe(self, told: Message) -> None:
        geometry = told["geometry"]
        dtype = np.dtype(told["dtype"])
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
            ),
            told["channels"],
            dtype,
            tuple(Level(tuple(shape), _tuple(spacing_um)) for shape, spacing_um in told["levels"]),
        )
        self.mask_format = told["mask_format"]
        self.file_warnings = tuple(str(code) for code in told["warnings"])
        self._held_bytes = int(told["held_bytes"])

    def _end(self) -> None:
        """End the process and the connection, once."""
        channel, self._channel = self._channel, None
        if channel is None:
            return
        if not channel.has_ended():  # or the process id may be another's by now
            with suppress(ProcessLookupError):
                os.kill(self.process_id, signal.SIGKILL)
            channel.begin().drain()
        channel.close()

    def _crashed(self) -> DataError:
        guards = self._guards
        return UnsuitableImage(
            "image_reader_crashed",
            f"the image's reader crashed, took more than {guards.process_memory_bytes} bytes of memory or was busy for more "
            f"than {min(guards.process_cpu_s, guards.process_timeout_s):g} s; export the image again, or cut it into parts",
        )


def _error_of(told: dict[str, Any]) -> DataError:
    if told["kind"] == ImageTooLarge.__name__:
        return ImageTooLarge(told["code"], told["message"], told["limit"])
    return _ERRORS[told["kind"]](told["code"], told["message"])


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
