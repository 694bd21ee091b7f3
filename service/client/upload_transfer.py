"""Upload of a file, piece by piece (tus 1.0.0); after a break only the missing bytes are sent."""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from service.client.errors import ClientError, Damaged
from service.client.journal import ClientJournal
from service.client.transport import Transport
from service.schemas import UploadAnswer

PIECE_BYTES = 16 * 2**20
_SMALLEST_PIECE_BYTES = 256 * 2**10
_FIRST_PIECE_BYTES = 2**20  # doubled while a piece takes no longer than _PIECE_S, and halved when one is lost
_PIECE_S = 5.0
_BLOCK_BYTES = 64 * 2**10
_TUS = {"Tus-Resumable": "1.0.0"}
_PATCH = {**_TUS, "Content-Type": "application/offset+octet-stream"}

OnBytes = Callable[[int, int], None]


class FileUpload:
    """Upload of one file.

    Args:
        transport: connection to the server.
        path: the file.
        piece_bytes: most bytes of one request, which are also the most that are sent twice.
        on_bytes: called with the bytes that were sent, and those of the file.
    """

    def __init__(self, transport: Transport, path: Path, piece_bytes: int, on_bytes: OnBytes) -> None:
        self._transport, self._path, self._on_bytes = transport, path, on_bytes
        self._max_piece_bytes, self._piece_bytes = piece_bytes, min(_FIRST_PIECE_BYTES, piece_bytes)
        self._stat = path.stat()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._stat.st_size

    def create(self) -> str:
        """Create an upload on the server, and return its ID."""
        name = base64.b64encode(self._path.name.encode(errors="replace")).decode()
        headers = {**_TUS, "Upload-Length": str(self.size), "Upload-Metadata": f"filename {name}"}
        return self._transport.answer(UploadAnswer, "POST", "/v1/uploads", headers=headers).id

    def offset(self, upload_id: str) -> int | None:
        """Return how many bytes the server has, or None where it has no upload of that ID and of this file's size."""
        try:
            headers = self._transport.request("HEAD", f"/v1/uploads/{upload_id}", headers=_TUS, slow=True).headers
        except ClientError as error:
            if error.status == 404:
                return None
            raise
        return int(headers["upload-offset"]) if headers.get("upload-length") == str(self.size) else None

    def send_rest(self, upload_id: str) -> None:
        """Send the bytes that the server lacks, and compare the server's SHA-256 with that of the file.

        Raises:
            ClientError: the server refuses it, or can't be reached any longer.
            Damaged: the file was changed meanwhile, or other bytes arrived.
        """
        offset, pauses = self._required_offset(upload_id), self._transport.pauses()
        while offset < self.size:
            self._on_bytes(offset, self.size)
            try:
                offset = self._send_piece(upload_id, offset)
                pauses.reset()
            except ClientError as error:
                pauses.wait(error)
                self._piece_bytes = min(max(self._piece_bytes // 2, _SMALLEST_PIECE_BYTES), self._max_piece_bytes)
                offset = self._required_offset(upload_id)
        self._on_bytes(self.size, self.size)
        answer = self._transport.answer(UploadAnswer, "GET", f"/v1/uploads/{upload_id}", slow=True)
        with self._path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            stat = os.fstat(file.fileno())
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self._stat.st_mtime_ns):
            raise self._changed_error()
        if answer.sha256 != digest:
            message = f"{self._path}: other bytes arrived than are in the file; the same command sends it again"
            raise Damaged("upload_differs", message)

    def _required_offset(self, upload_id: str) -> int:
        """Return how many bytes the server has.

        Raises:
            ClientError: the server no longer has the upload.
        """
        if (offset := self.offset(upload_id)) is None:
            message = f"{self._path}: the server no longer has what was sent of it; the same command sends it again"
            raise ClientError("upload_not_found", message, 404)
        return offset

    def _send_piece(self, upload_id: str, offset: int) -> int:
        """Send one piece from the offset on, and return the next offset."""
        with self._path.open("rb") as file:
            file.seek(offset)
            piece = file.read(self._piece_bytes)
        if not piece:
            raise self._changed_error()
        checksum = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        headers = {
            **_PATCH,
            "Upload-Offset": str(offset),
            "Content-Length": str(len(piece)),
            "Upload-Checksum": f"sha256 {checksum}",
        }

        def blocks() -> Iterator[bytes]:
            for start in range(0, len(piece), _BLOCK_BYTES):
                yield piece[start : start + _BLOCK_BYTES]
                self._on_bytes(min(offset + start + _BLOCK_BYTES, self.size), self.size)

        start_s = time.monotonic()
        response = self._transport.send("PATCH", f"/v1/uploads/{upload_id}", headers=headers, content=blocks(), slow=True)
        if time.monotonic() - start_s < _PIECE_S:
            self._piece_bytes = min(2 * self._piece_bytes, self._max_piece_bytes)
        return int(response.headers["upload-offset"])

    def _changed_error(self) -> Damaged:
        message = f"{self._path} was changed while it was sent; the same command sends it again, once nothing writes to it"
        return Damaged("file_changed", message)


def upload(transport: Transport, journal: ClientJournal, path: Path, *, piece_bytes: int, on_bytes: OnBytes) -> str:
    """Upload a file, or the rest of it where an earlier run began, and return the upload's ID.

    Raises:
        ClientError: the server refuses the file, or can't be reached any longer.
        OSError: the file can't be read.
    """
    transfer = FileUpload(transport, path, piece_bytes, on_bytes)
    if not transfer.size:
        raise ClientError("body_empty", f"{path} is empty; give an image file")
    key = journal.key([path])
    with journal.lock(key, path):
        upload_id = journal.read(key)
        if upload_id is None or transfer.offset(upload_id) is None:
            upload_id = transfer.create()
            journal.write(key, upload_id)
        try:
            transfer.send_rest(upload_id)
        except Damaged:
            journal.remove(key)
            with suppress(ClientError):
                transport.send("DELETE", f"/v1/uploads/{upload_id}")
            raise
    return upload_id
