"""Writing of one request's bytes to an upload block by block, and keeping or discarding them at the end."""

import hmac
import shutil
from pathlib import Path
from typing import Protocol

from disk.publish import sync
from service.errors import BadRequest, BodyTooLarge, WrongChecksum
from service.uploads.file import DigestState, UploadFile
from service.uploads.records import Claim, Record, Records, over_quota


class Checksum(Protocol):
    """Checksum that was sent with the bytes."""

    def update(self, block: bytes, /) -> None:
        """Add received bytes."""

    def agrees(self) -> bool:
        """Return whether the bytes received have the checksum."""


class NewUpload:
    """Upload that is being created; other requests see it after `finish` or `announce`."""

    def __init__(self, folder: Path, records: Records, claim: Claim) -> None:
        self.upload_id = claim.upload_id
        self._folder = folder
        self._records = records
        self._claim = claim
        self._is_recorded = False
        folder.mkdir()
        self._file = UploadFile(folder / "data", new=True)

    @property
    def size_bytes(self) -> int:
        """Number of bytes received so far."""
        return self._file.size

    def write(self, block: bytes | memoryview) -> None:
        """Append a block.

        Raises:
            OverQuota: the upload exceeds the owner's quota.
            StorageFull: the rest of the disk is reserved for other uploads.
        """
        most_bytes = self._claim.most_bytes
        if most_bytes is not None and self._file.size + len(block) > most_bytes:
            raise over_quota(self._claim.max_stored_bytes or 0)
        self._records.check_disk(len(block), self._claim.keep_free_bytes)
        self._file.append(block)

    def finish(self, filename: str | None, sha256: bytes | None) -> None:
        """Record the upload as complete; its bytes are on the disk.

        Raises:
            BadRequest: the file is empty, or has another SHA-256 than the one sent.
            OverQuota: the upload exceeds the owner's quota.
        """
        if not self._file.size:
            raise BadRequest("body_empty", "the file is empty; send the image file's bytes")
        digest = self._file.sha256()
        if sha256 is not None and not hmac.compare_digest(bytes.fromhex(digest), sha256):
            raise BadRequest("digest_mismatch", "the received bytes don't have the SHA-256 in the header; send the file again")
        self._records.settle(self._claim, self._file.size)
        self._write(self._file.size, filename, digest)

    def announce(self, filename: str | None) -> None:
        """Record the upload; later requests send its bytes."""
        self._write(self._claim.size_bytes or 0, filename, None)

    def release(self) -> None:
        """Unlock the upload; remove it unless it was recorded."""
        if not self._is_recorded:
            self._records.remove(self.upload_id)
            shutil.rmtree(self._folder, ignore_errors=True)  # files left over have no record, and are swept later
        self._file.close()
        self._records.release(self._claim)

    def _write(self, size_bytes: int, filename: str | None, sha256: str | None) -> None:
        self._file.sync()
        record = Record(owner=self._claim.owner, bytes=size_bytes, filename=filename, sha256=sha256)
        self._records.write(self.upload_id, record)
        sync(self._folder.parent)
        self._is_recorded = True


class ResumedUpload:
    """Upload that a request appends to; `checksum`, if set, is the checksum of the request's bytes."""

    def __init__(
        self, file: UploadFile, records: Records, upload_id: str, record: Record, digests: dict[str, DigestState]
    ) -> None:
        self.checksum: Checksum | None = None
        self._file = file
        self._records = records
        self._upload_id = upload_id
        self._record = record
        self._digests = digests
        self._start = file.size
        self._drop = False

    def check_length(self, size_bytes: int) -> None:
        """Check that `size_bytes` more bytes belong to the upload.

        Raises:
            BodyTooLarge: fewer bytes are missing.
        """
        missing = self._record.bytes - self._file.size
        if size_bytes > missing:
            message = f"the body is larger than the {missing} bytes that are missing; send only those"
            raise BodyTooLarge("upload_length_exceeded", message, limit=missing)

    def write(self, block: bytes) -> None:
        """Append a block.

        Raises:
            BodyTooLarge: the request has more bytes than are missing; all of its bytes are discarded.
            StorageFull: the disk is full.
        """
        try:
            self.check_length(len(block))
        except BodyTooLarge:
            self._drop = True
            raise
        self._records.check_disk(len(block))
        if self.checksum:
            self.checksum.update(block)
        self._file.append(block)

    def finish(self) -> Record:
        """Return the upload's record after writing the bytes to the disk.

        Raises:
            WrongChecksum: the bytes don't have the checksum; all bytes of this request are discarded.
        """
        if self.checksum and not self.checksum.agrees():
            message = "the received bytes don't have the checksum in the header; send them again"
            raise WrongChecksum("checksum_mismatch", message)
        self.checksum = None
        self._file.sync()
        has_grown = self._file.size > self._start
        if self._file.size == self._record.bytes and (has_grown or self._record.sha256 is None):
            self._record = self._record.model_copy(update={"sha256": self._file.sha256()})
            self._records.write(self._upload_id, self._record)
        return self._record

    def release(self) -> None:
        """Unlock the upload; discard the request's bytes if they are too many or their checksum isn't confirmed."""
        try:
            if self._drop or self.checksum:
                self._file.truncate(self._start)
            self._file.sync()
            if self._file.size < self._record.bytes:
                self._digests[self._upload_id] = self._file.digest_state()
        finally:
            self._file.close()
