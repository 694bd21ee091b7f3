"""A request's body -> a file in a folder of its own, chunk by chunk, never more than is allowed."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import BadRequest, BodyTooLarge, Stalled, UnsupportedBody
from service.limits import setting_of

FOLDER_PREFIX = "overtile-request-"
_WRITE_BYTES = 2**20  # fewer, larger writes; each is a trip to a worker thread


def private_folder() -> Iterator[Path]:
    """A FastAPI dependency: a fresh folder that only this user can open, gone when the answer is out or the client is."""
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as name:
        yield Path(name)


async def receive(request: Request, path: Path, *, max_bytes: int, setting: str, stall_timeout_s: float) -> None:
    """Writes the body to `path`; `setting` is the limit's field in `Limits`.

    Raises:
        UnsupportedBody: a form, or a compressed transfer.
        BodyTooLarge: more than `max_bytes`, known before reading where the client said its length.
        Stalled: nothing came for `stall_timeout_s`.
        BadRequest: no bytes at all.
        ClientDisconnect: the client left.
    """
    _check_headers(request)
    too_large = _too_large(max_bytes, setting)
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    received = 0
    with path.open("wb") as file:
        async for block in _blocks(request, stall_timeout_s):
            received += len(block)
            if received > max_bytes:
                raise too_large
            await run_in_threadpool(file.write, block)
    if not received:
        raise BadRequest("body_empty", "the body is empty; send the image file's bytes as the body")


async def _blocks(request: Request, stall_timeout_s: float) -> AsyncIterator[bytes]:
    """The body in blocks of about 1 MiB."""
    held = bytearray()
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(stall_timeout_s):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            message = f"nothing of the body came for {stall_timeout_s:g} s; send it again without pauses"
            raise Stalled("upload_stalled", message) from error
        held += chunk or b""
        if held and (chunk is None or len(held) >= _WRITE_BYTES):
            yield bytes(held)
            held.clear()
        if chunk is None:
            return


def _check_headers(request: Request) -> None:
    if request.headers.get("content-type", "").strip().lower().startswith("multipart/"):
        message = "a form isn't read here; the body must be the file itself, as with curl --data-binary @FILE"
        raise UnsupportedBody("multipart_not_supported", message)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        message = "a compressed transfer isn't read here; send the file as it is, without Content-Encoding"
        raise UnsupportedBody("content_encoding_not_supported", message)


def _too_large(max_bytes: int, setting: str) -> BodyTooLarge:
    message = (
        f"the body is larger than the {max_bytes} bytes that are allowed; "
        f"send a smaller file, or raise {setting_of(setting)} on the server"
    )
    return BodyTooLarge("body_too_large", message, limit=max_bytes)
