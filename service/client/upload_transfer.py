"""A file -> the server, piece by piece (tus 1.0.0); what has arrived isn't sent again, whatever breaks."""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from service.client.errors import ClientError, Damaged
from service.client.journal import Memory
from service.client.transport import Wire
from service.schemas import UploadAnswer

PIECE_BYTES = 16 * 2**20
_LEAST_BYTES = 256 * 2**10
_FIRST_BYTES = 2**20  # it grows as long as a piece takes no longer than a few seconds, and shrinks when one is lost
_PIECE_S = 5.0
_BLOCK_BYTES = 64 * 2**10
_TUS = {"Tus-Resumable": "1.0.0"}
_PATCH = {**_TUS, "Content-Type": "application/offset+octet-stream"}

OnBytes = Callable[[int, int], None]


class Sending:
    """One file on its way.

    Args:
        wire: to the server.
        path: the file.
        piece_bytes: most of it in one request; so much at most is sent twice.
        on_bytes: is told the bytes that were sent, and those of the file.
    """

    def __init__(self, wire: Wire, path: Path, piece_bytes: int, on_bytes: OnBytes) -> None:
        self._wire, self._path, self._on_bytes = wire, path, on_bytes
        self._most_bytes, self._piece_bytes = piece_bytes, min(_FIRST_BYTES, piece_bytes)
        self._stat = path.stat()

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._stat.st_size

    def begin(self) -> str:
        """A new upload's ID."""
        name = base64.b64encode(self._path.name.encode(errors="replace")).decode()
        headers = {**_TUS, "Upload-Length": str(self.size), "Upload-Metadata": f"filename {name}"}
        return self._wire.answer(UploadAnswer, "POST", "/v1/uploads", headers=headers).id

    def offset(self, upload_id: str) -> int | None:
        """How much has come; None where the upload isn't this file's or isn't there."""
        try:
            headers = self._wire.ask("HEAD", f"/v1/uploads/{upload_id}", headers=_TUS, slow=True).headers
        except ClientError as error:
            if error.status == 404:
                return None
            raise
        return int(headers["upload-offset"]) if headers.get("upload-length") == str(self.size) else None

    def go_on(self, upload_id: str) -> None:
        """Sends what is missing.

        Raises:
            ClientError: the server refuses it, or can't be reached any longer.
            Damaged: the file was changed meanwhile, or other bytes arrived.
        """
        offset, pauses = self._known_offset(upload_id), self._wire.pauses()
        while offset < self.size:
            self._on_bytes(offset, self.size)
            try:
                offset = self._send_piece(upload_id, offset)
                pauses.reset()
            except ClientError as error:
                pauses.wait(error)
                self._piece_bytes = min(max(self._piece_bytes // 2, _LEAST_BYTES), self._most_bytes)
                offset = self._known_offset(upload_id)
        self._on_bytes(self.size, self.size)
        self._check(upload_id)

    def _known_offset(self, upload_id: str) -> int:
        if (offset := self.offset(upload_id)) is None:
            message = f"{self._path}: the server no longer has what was sent of it; the same command sends it again"
            raise ClientError("upload_not_found", message, 404)
        return offset

    def _send_piece(self, upload_id: str, offset: int) -> int:
        with self._path.open("rb") as file:
            file.seek(offset)
            piece = file.read(self._piece_bytes)
        if not piece:
            raise self._changed()
        checksum = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = {
            **_PATCH,
            "Upload-Offset": str(offset),
            "Content-Length": str(len(piece)),
            "Upload-Checksum": f"sha256 {checksum}",
        }
        body, began_s = self._blocks(piece, offset), time.monotonic()
        answer = self._wire.once("PATCH", f"/v1/uploads/{upload_id}", headers=headers, content=body, slow=True)
        if time.monotonic() - began_s < _PIECE_S:
            self._piece_bytes = min(2 * self._piece_bytes, self._most_bytes)
        return int(answer.headers["upload-offset"])

    def _blocks(self, piece: bytes, offset: int) -> Iterator[bytes]:
        for start in range(0, len(piece), _BLOCK_BYTES):
            yield piece[start : start + _BLOCK_BYTES]
            self._on_bytes(min(offset + start + _BLOCK_BYTES, self.size), self.size)

    def _check(self, upload_id: str) -> None:
        """That the server has the file as it is here, byte by byte."""
        arrived = self._wire.answer(UploadAnswer, "GET", f"/v1/uploads/{upload_id}", slow=True)
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            now = os.fstat(file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.size, self._stat.st_mtime_ns):
            raise self._changed()
        if arrived.sha256 != digest:
            message = f"{self._path}: other bytes arrived than are in the file; the same command sends it again"
            raise Damaged("upload_differs", message)

    def _changed(self) -> Damaged:
        message = f"{self._path} was changed while it was sent; the same command sends it again, once nothing writes to it"
        return Damaged("file_changed", message)


def upload(wire: Wire, memory: Memory, path: Path, piece_bytes: int, on_bytes: OnBytes) -> str:
    """The ID of an upload that is complete; one that an earlier run began is gone on with.

    Raises:
        ClientError: the server refuses the file, or can't be reached any longer.
        OSError: the file can't be read.
    """
    sending = Sending(wire, path, piece_bytes, on_bytes)
    if not sending.size:
        raise ClientError("body_empty", f"{path} is empty; give an image file")
    key = memory.key([path])
    with memory.alone(key, path):
        upload_id = memory.recall(key)
        if upload_id is None or sending.offset(upload_id) is None:
            upload_id = sending.begin()
            memory.remember(key, upload_id)
        try:
            sending.go_on(upload_id)
        except Damaged:
            memory.forget(key)
            with suppress(ClientError):
                wire.once("DELETE", f"/v1/uploads/{upload_id}")
            raise
    return upload_id
