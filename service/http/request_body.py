"""A request's body -> blocks, as they come, never more than is allowed and never slower; or a file in a folder of its own."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from service.errors import BadRequest, BodyTooLarge, Stalled, UnsupportedBody
from service.limits import Limits, setting_of

FOLDER_PREFIX = "overtile-request-"
BodyLimit = Literal["max_json_bytes", "max_body_bytes", "compare_max_body_bytes", "max_upload_bytes"]
_BLOCK_BYTES = 2**20  # fewer, larger writes; each is a trip to a worker thread


def private_folder() -> Iterator[Path]:
    """A FastAPI dependency: a fresh folder that only this user can open, gone when the answer is out or the client is."""
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name:
        yield Path(name)


async def receive(request: Request, path: Path, limits: Limits, *, setting: BodyLimit) -> None:
    """Writes the body to `path`; `setting` is the limit's field in `Limits`.

    Raises:
        UnsupportedBody: a form, or a compressed transfer.
        BodyTooLarge: more than is allowed, known before reading where the client said its length.
        Stalled: nothing came, or too little.
        BadRequest: no bytes at all.
        ClientDisconnect: the client left.
    """
    refuse_form(request)
    received = 0
    with path.open("wb") as file:
        async for block in capped_blocks(request, limits, setting=setting):
            received += len(block)
            await run_in_threadpool(file.write, block)
    if not received:
        raise body_empty()


async def capped_blocks(request: Request, limits: Limits, *, setting: BodyLimit, more_bytes: int = 0) -> AsyncIterator[bytes]:
    """The body in blocks of about 1 MiB; `more_bytes` may come beyond the limit, for what is packed around a file.

    Raises:
        UnsupportedBody: a compressed transfer.
        BodyTooLarge: more than is allowed, known before reading where the client said its length.
        Stalled: nothing came, or too little.
        ClientDisconnect: the client left.
    """
    check_length(request, limits, setting=setting, more_bytes=more_bytes)
    most, received = getattr(limits, setting) + more_bytes, 0
    async for block in blocks(request, limits):
        received += len(block)
        if received > most:
            raise body_too_large(limits, setting)
        yield block


async def blocks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body in blocks of about 1 MiB; all that came, also before it is known that no more will.

    Raises:
        UnsupportedBody: a compressed transfer.
        Stalled: nothing came, or too little.
        ClientDisconnect: the client left.
    """
    _refuse_compressed(request)
    held, pace, stream = bytearray(), _Pace(limits), aiter(request.stream())
    while True:
        try:
            pace.check()
            chunk = await pace.next(stream)
        except (Stalled, ClientDisconnect):
            if held:
                yield bytes(held)
            raise
        held += chunk or b""
        if held and (chunk is None or len(held) >= _BLOCK_BYTES):
            yield bytes(held)
            held.clear()
        if chunk is None:
            return


class _Pace:
    """How fast a body comes. Only the time counts in which the server waits for it, not what its own disk takes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._came_bytes = 0

    async def next(self, stream: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk; None after the last."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.stall_timeout_s):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            message = f"nothing of the body came for {self._limits.stall_timeout_s} s; send it again without pauses"
            raise Stalled("upload_stalled", message) from error
        self._waited_s += time.monotonic() - began
        self._came_bytes += len(chunk or b"")
        return chunk

    def check(self) -> None:
        if self._waited_s < self._limits.stall_timeout_s:
            return
        if self._came_bytes < self._waited_s * self._limits.min_bytes_per_s:
            message = (
                f"the body came at less than {self._limits.min_bytes_per_s} bytes a second; send it over a faster connection"
            )
            raise Stalled("upload_stalled", message)
        self._waited_s, self._came_bytes = 0.0, 0


def length_of(request: Request) -> int | None:
    """The body's length as the client said it; None where it comes in chunks."""
    text = request.headers.get("content-length")
    return int(text) if text is not None else None


def check_length(request: Request, limits: Limits, *, setting: BodyLimit, more_bytes: int = 0) -> None:
    """Passes a body that can be read as a whole, as far as its headers say.

    Raises:
        UnsupportedBody: a compressed transfer.
        BodyTooLarge: more than is allowed.
    """
    _refuse_compressed(request)
    if (length_of(request) or 0) > getattr(limits, setting) + more_bytes:
        raise body_too_large(limits, setting)


def body_empty() -> BadRequest:
    """What an empty body is refused with."""
    return BadRequest("body_empty", "the body is empty; send the image file's bytes as the body")


def body_too_large(limits: Limits, setting: BodyLimit) -> BodyTooLarge:
    """What a body is refused with that is larger than the limit."""
    most: int = getattr(limits, setting)
    message = (
        f"the body is larger than the {most} bytes that are allowed; "
        f"send a smaller file, or raise {setting_of(setting)} on the server"
    )
    return BodyTooLarge("body_too_large", message, limit=most)


def refuse_form(request: Request) -> None:
    """Passes everything but a form.

    Raises:
        UnsupportedBody: a form.
    """
    if is_form(request):
        message = "a form isn't read here; the body must be the file itself, as with curl --data-binary @FILE"
        raise UnsupportedBody("multipart_not_supported", message)


def is_form(request: Request) -> bool:
    """Whether the body is in parts."""
    return request.headers.get("content-type", "").strip().lower().startswith("multipart/")


def _refuse_compressed(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "a compressed transfer isn't read here; send the file as it is, without Content-Encoding"
        raise UnsupportedBody("content_encoding_not_supported", message)
