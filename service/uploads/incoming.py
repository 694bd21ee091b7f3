"""One request's part in an upload: block by block to the disk, then kept or dropped."""

import hmac
import shutil
from pathlib import Path
from typing import Protocol

from disk.publish import sync
from service.errors import BadRequest, BodyTooLarge, WrongChecksum
from service.uploads.file import Running, UploadFile
from service.uploads.records import Claim, Record, Records, over_quota


class Checksum(Protocol):
    """What was sent with the bytes, to be compared with them."""

    def update(self, block: bytes, /) -> None:
        """Takes what came."""

    def agrees(self) -> bool:
        """Whether all that came is what was sent."""


class Fresh:
    """An upload that comes in one request: nobody knows of it until it is finished."""

    def __init__(self, folder: Path, records: Records, claim: Claim) -> None:
        self.upload_id = claim.upload_id
        self._folder = folder
        self._records = records
        self._claim = claim
        self._known = False
        folder.mkdir()
        self._file = UploadFile(folder / "data", new=True)

    @property
    def size_bytes(self) -> int:
        """What came so far."""
        return self._file.size

    def write(self, block: bytes | memoryview) -> None:
        """To the disk.

        Raises:
            OverQuota: more than the owner may keep.
            StorageFull: others need what is left of the disk.
        """
        most = self._claim.most_bytes
        if most is not None and self._file.size + len(block) > most:
            raise over_quota(self._claim.max_stored_bytes or 0)
        self._records.check_room(len(block), self._claim.keep_free_bytes)
        self._file.append(block)

    def finish(self, filename: str | None, sha256: bytes | None) -> None:
        """The upload is complete, and on the disk.

        Raises:
            BadRequest: no bytes, or others than those with this SHA-256.
            OverQuota: more than the owner may keep.
        """
        if not self._file.size:
            raise BadRequest("body_empty", "the file is empty; send the image file's bytes")
        digest = self._file.sha256()
        if sha256 is not None and not hmac.compare_digest(bytes.fromhex(digest), sha256):
            raise BadRequest("digest_mismatch", "the bytes that came haven't the SHA-256 that was sent; send the file again")
        self._records.settle(self._claim, self._file.size)
        self._write(self._file.size, filename, digest)

    def announce(self, filename: str | None) -> None:
        """The upload is known, and its bytes come later."""
        self._write(self._claim.size_bytes or 0, filename, None)

    def release(self) -> None:
        """Unlocks it; unless it is known, nothing of it stays."""
        if not self._known:
            self._records.remove(self.upload_id)
            shutil.rmtree(self._folder, ignore_errors=True)  # what stays has no record: swept later
        self._file.close()
        self._records.release(self._claim)

    def _write(self, size_bytes: int, filename: str | None, sha256: str | None) -> None:
        self._file.sync()
        record = Record(owner=self._claim.owner, bytes=size_bytes, filename=filename, sha256=sha256)
        self._records.write(self.upload_id, record)
        sync(self._folder.parent)
        self._known = True


class Resumed:
    """An upload that is gone on with; `checksum` is compared with what comes now."""

    def __init__(self, file: UploadFile, records: Records, upload_id: str, record: Record, running: dict[str, Running]) -> None:
        self.checksum: Checksum | None = None
        self._file = file
        self._records = records
        self._upload_id = upload_id
        self._record = record
        self._running = running
        self._start = file.size
        self._drop = False

    def check_length(self, size_bytes: int) -> None:
        """Passes what still fits in.

        Raises:
            BodyTooLarge: more bytes than are missing.
        """
        missing = self._record.bytes - self._file.size
        if size_bytes > missing:
            message = f"the upload takes {missing} more bytes; send those alone"
            raise BodyTooLarge("upload_length_exceeded", message, limit=missing)

    def write(self, block: bytes) -> None:
        """To the disk.

        Raises:
            BodyTooLarge: more bytes than were missing; nothing of this request stays.
            StorageFull: the disk has no more.
        """
        try:
            self.check_length(len(block))
        except BodyTooLarge:
            self._drop = True
            raise
        self._records.check_room(len(block))
        if self.checksum:
            self.checksum.update(block)
        self._file.append(block)

    def finish(self) -> Record:
        """What is known of the upload now; everything that came is on the disk.

        Raises:
            WrongChecksum: nothing of this request stays.
        """
        if self.checksum and not self.checksum.agrees():
            message = "the bytes that came haven't the checksum that was sent; send them again"
            raise WrongChecksum("checksum_mismatch", message)
        self.checksum = None
        self._file.sync()
        grown = self._file.size > self._start
        if self._file.size == self._record.bytes and (grown or self._record.sha256 is None):
            self._record = self._record.model_copy(update={"sha256": self._file.sha256()})
            self._records.write(self._upload_id, self._record)
        return self._record

    def release(self) -> None:
        """Unlocks it; what came stays, also of a request that was cut, unless it had to be compared with a checksum."""
        try:
            if self._drop or self.checksum:
                self._file.cut(self._start)
            self._file.sync()
            if self._file.size < self._record.bytes:
                self._running[self._upload_id] = self._file.running()
        finally:
            self._file.close()
