"""Request bodies: read block by block, under limits on size and speed, or written to a file in a private folder."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from service.errors import BadRequest, BodyTooLarge, Stalled, UnsupportedBody
from service.limits import ServiceLimits, setting_of

FOLDER_PREFIX = "overtile-request-"
BodyLimit = Literal["max_json_bytes", "max_body_bytes", "compare_max_body_bytes", "max_upload_bytes"]
_BLOCK_BYTES = 2**20  # few large writes, as each goes to a worker thread


def private_folder() -> Iterator[Path]:
    """Yield, as a dependency, a new folder that only this user can open; it is removed after the answer."""
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name:
        yield Path(name)


async def receive(request: Request, path: Path, limits: ServiceLimits, *, setting: BodyLimit) -> None:
    """Write the body to `path`; `setting` is the name of the limit in `ServiceLimits`.

    Raises:
        UnsupportedBody: the body is a form, or compressed.
        BodyTooLarge: the body is larger than the limit; raised before reading if Content-Length says so.
        Stalled: the body stopped arriving, or arrives too slowly.
        BadRequest: the body is empty.
        ClientDisconnect: the client closed the connection.
    """
    refuse_form(request)
    received = 0
    with path.open("wb") as file:
        async for block in capped_blocks(request, limits, setting=setting):
            received += len(block)
            await run_in_threadpool(file.write, block)
    if not received:
        raise body_empty()


async def capped_blocks(
    request: Request, limits: ServiceLimits, *, setting: BodyLimit, more_bytes: int = 0
) -> AsyncIterator[bytes]:
    """Yield the body in blocks of about 1 MiB; `more_bytes` are allowed beyond the limit, for the form around a file.

    Raises:
        UnsupportedBody: the body is compressed.
        BodyTooLarge: the body is larger than the limit; raised before reading if Content-Length says so.
        Stalled: the body stopped arriving, or arrives too slowly.
        ClientDisconnect: the client closed the connection.
    """
    check_length(request, limits, setting=setting, more_bytes=more_bytes)
    limit_bytes, received_bytes = getattr(limits, setting) + more_bytes, 0
    async for block in blocks(request, limits):
        received_bytes += len(block)
        if received_bytes > limit_bytes:
            raise body_too_large(limits, setting)
        yield block


async def blocks(request: Request, limits: ServiceLimits) -> AsyncIterator[bytes]:
    """Yield the body in blocks of about 1 MiB, the last bytes also before an error.

    Raises:
        UnsupportedBody: the body is compressed.
        Stalled: the body stopped arriving, or arrives too slowly.
        ClientDisconnect: the client closed the connection.
    """
    _refuse_compressed(request)
    buffer, pace, stream = bytearray(), _Pace(limits), aiter(request.stream())
    while True:
        try:
            pace.check()
            chunk = await pace.next(stream)
        except (Stalled, ClientDisconnect):
            if buffer:
                yield bytes(buffer)
            raise
        buffer += chunk or b""
        if buffer and (chunk is None or len(buffer) >= _BLOCK_BYTES):
            yield bytes(buffer)
            buffer.clear()
        if chunk is None:
            return


class _Pace:
    """Speed of a body, over the time that the server waits for the client; time that its disk takes doesn't count."""

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._received_bytes = 0

    async def next(self, stream: AsyncIterator[bytes]) -> bytes | None:
        """Return the next chunk; None after the last."""
        start_s = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.stall_timeout_s):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            message = f"no bytes arrived for {self._limits.stall_timeout_s} s; send the body again without pauses"
            raise Stalled("upload_stalled", message) from error
        self._waited_s += time.monotonic() - start_s
        self._received_bytes += len(chunk or b"")
        return chunk

    def check(self) -> None:
        """Raise Stalled if the body arrived too slowly over the last period of waiting."""
        if self._waited_s < self._limits.stall_timeout_s:
            return
        if self._received_bytes < self._waited_s * self._limits.min_bytes_per_s:
            message = (
                f"the body arrived at less than {self._limits.min_bytes_per_s} bytes a second; send it over a faster connection"
            )
            raise Stalled("upload_stalled", message)
        self._waited_s, self._received_bytes = 0.0, 0


def length_of(request: Request) -> int | None:
    """Return the Content-Length in bytes; None for a chunked body."""
    text = request.headers.get("content-length")
    return int(text) if text is not None else None


def check_length(request: Request, limits: ServiceLimits, *, setting: BodyLimit, more_bytes: int = 0) -> None:
    """Check the headers of a body, which mustn't be compressed or larger than the limit.

    Raises:
        UnsupportedBody: the body is compressed.
        BodyTooLarge: Content-Length is larger than the limit.
    """
    _refuse_compressed(request)
    if (length_of(request) or 0) > getattr(limits, setting) + more_bytes:
        raise body_too_large(limits, setting)


def body_empty() -> BadRequest:
    """Return the error of an empty body."""
    return BadRequest("body_empty", "the body is empty; send the image file's bytes as the body")


def body_too_large(limits: ServiceLimits, setting: BodyLimit) -> BodyTooLarge:
    """Return the error of a body that is larger than the limit."""
    limit_bytes: int = getattr(limits, setting)
    message = (
        f"the body is larger than the {limit_bytes} bytes that are allowed; "
        f"send a smaller file, or raise {setting_of(setting)} on the server"
    )
    return BodyTooLarge("body_too_large", message, limit=limit_bytes)


def refuse_form(request: Request) -> None:
    """Refuse a body that is a form.

    Raises:
        UnsupportedBody: the body is a form.
    """
    if is_form(request):
        message = "the route doesn't take a form; send the file itself as the body, as with curl --data-binary @FILE"
        raise UnsupportedBody("multipart_not_supported", message)


def is_form(request: Request) -> bool:
    """Return whether the body is a form (multipart)."""
    return request.headers.get("content-type", "").strip().lower().startswith("multipart/")


def _refuse_compressed(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "a compressed body isn't supported; send the file as it is, without Content-Encoding"
        raise UnsupportedBody("content_encoding_not_supported", message)
