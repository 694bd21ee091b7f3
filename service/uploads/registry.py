"""Uploads, each in its own folder; received bytes are on the disk, so that an upload survives a kill."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from disk.publish import sync
from service.errors import Conflict, Locked, UnknownUpload
from service.limits import ServiceLimits
from service.store import Store, is_id, steady_time
from service.uploads.file import DigestState, UploadFile
from service.uploads.incoming import NewUpload, ResumedUpload
from service.uploads.records import Record, Records

ORPHAN_S = 60  # a folder without a record is removed after this time; younger ones may be in creation


@dataclass(frozen=True)
class Upload:
    """State of an upload.

    Args:
        upload_id: 32 hexadecimal digits.
        size_bytes: size of the whole file.
        received_bytes: number of bytes on the disk.
        sha256: SHA-256 of the whole file in hexadecimal; None until it is complete.
        filename: the client's name of the file; never part of a path.
        expires_at: time of expiry in seconds since 1970.
    """

    upload_id: str
    size_bytes: int
    received_bytes: int
    sha256: str | None
    filename: str | None
    expires_at: float

    @property
    def complete(self) -> bool:
        """True if all bytes have been received, so that jobs can use the upload."""
        return self.sha256 is not None


class Uploads:
    """Uploads of one store; threads, and processes with the same store, may share it."""

    def __init__(self, store: Store, limits: ServiceLimits) -> None:
        self._store = store
        self._limits = limits
        self._records = Records(store, limits)
        self._digests: dict[str, DigestState] = {}

    def create(
        self, owner: str, size_bytes: int, *, filename: str | None = None, max_stored_bytes: int | None = None
    ) -> Upload:
        """Return a new, empty upload; it is on the disk when this returns.

        Raises:
            TooMany: the owner has too many unfinished uploads.
            OverQuota: the upload exceeds the owner's quota.
            StorageFull: the disk has too little space.
        """
        upload = self.begin(owner, size_bytes, max_stored_bytes=max_stored_bytes)
        try:
            upload.announce(filename)
        finally:
            upload.release()
        return self.find(upload.upload_id, owner)

    def begin(self, owner: str, size_bytes: int | None, *, max_stored_bytes: int | None = None) -> NewUpload:
        """Return an upload to write in one request; release it afterwards. It is deleted unless it is finished.

        Raises:
            TooMany: the owner has too many unfinished uploads.
            OverQuota: the upload exceeds the owner's quota.
            StorageFull: the disk has too little space.
        """
        claim = self._records.claim(owner, size_bytes, max_stored_bytes)
        try:
            return NewUpload(self._store.upload(claim.upload_id), self._records, claim)
        except BaseException:
            self._records.release(claim)
            raise

    def resume(self, upload_id: str, owner: str, offset: int) -> ResumedUpload:
        """Return an upload to append to, locked until it is released.

        Raises:
            UnknownUpload: the owner has no such upload.
            Conflict: `offset` isn't the number of received bytes.
            Locked: another request is writing.
        """
        record = self._record(upload_id, owner)
        file = self._open(upload_id)
        if file.size > record.bytes:
            file.truncate(record.bytes)
        if file.size != offset:
            self._digests[upload_id] = file.digest_state()
            file.close()
            message = "Upload-Offset isn't the number of received bytes; get it with HEAD, and continue sending from there"
            raise Conflict("upload_offset_conflict", message, field="Upload-Offset")
        return ResumedUpload(file, self._records, upload_id, record, self._digests)

    def find(self, upload_id: str, owner: str) -> Upload:
        """Return the state of an upload.

        Raises:
            UnknownUpload: the owner has no such upload.
        """
        record = self._record(upload_id, owner)
        try:
            stat = self._path(upload_id).stat()
        except FileNotFoundError as error:
            raise _unknown() from error
        if stat.st_size > record.bytes or (stat.st_size == record.bytes and record.sha256 is None):
            record = self._complete(upload_id, record)
        received_bytes = min(stat.st_size, record.bytes)
        return Upload(
            upload_id=upload_id,
            size_bytes=record.bytes,
            received_bytes=received_bytes,
            sha256=record.sha256 if received_bytes == record.bytes else None,
            filename=record.filename,
            expires_at=stat.st_mtime + self._limits.upload_expires_s,
        )

    def data_of(self, upload_id: str, owner: str) -> Path:
        """Return the path of a complete upload's file, which is never written again.

        Raises:
            UnknownUpload: the owner has no such upload.
            Conflict: the upload isn't complete.
        """
        if not self.find(upload_id, owner).complete:
            raise Conflict("upload_incomplete", "the upload isn't complete; send the rest of the file, and try again")
        return self._path(upload_id)

    def delete(self, upload_id: str, owner: str) -> None:
        """Delete an upload; jobs that link its file keep it.

        Raises:
            UnknownUpload: the owner has no such upload.
            Locked: a request is writing.
        """
        self._record(upload_id, owner)
        with self._open(upload_id):
            self._remove(upload_id)
        sync(self._store.folder / "uploads")

    def sweep(self, now: float, most: int = 1000) -> int:
        """Delete expired uploads, and folders that a kill left behind; return how many were deleted.

        Args:
            now: time in seconds since 1970.
            most: most folders to delete, so that the sweep ends soon.
        """
        removed = 0
        for folder in (self._store.folder / "uploads").iterdir():
            if removed == most:
                break
            if is_id(folder.name) and self._is_expired(folder, now) and self._sweep_one(folder.name):
                removed += 1
        return removed

    def _sweep_one(self, upload_id: str) -> bool:
        try:
            with self._open(upload_id):
                self._remove(upload_id)
        except UnknownUpload:  # the folder has no file
            self._remove(upload_id)
        except Locked:
            return False
        return True

    def _is_expired(self, folder: Path, now: float) -> bool:
        try:
            stat = (folder / "data").stat() if (folder / "data").exists() else folder.stat()
        except FileNotFoundError:
            return False
        lifetime_s = self._limits.upload_expires_s if (folder / "upload.json").exists() else ORPHAN_S
        return stat.st_mtime + lifetime_s < now

    def _remove(self, upload_id: str) -> None:
        self._records.remove(upload_id)
        self._digests.pop(upload_id, None)
        shutil.rmtree(self._store.upload(upload_id), ignore_errors=True)  # files left over have no record, and are swept later

    def _record(self, upload_id: str, owner: str) -> Record:
        record = self._records.find(upload_id) if is_id(upload_id) else None
        if record is None or record.owner != owner or self._is_expired(self._store.upload(upload_id), steady_time()):
            raise _unknown()
        return record

    def _open(self, upload_id: str) -> UploadFile:
        try:
            return UploadFile(self._path(upload_id), digest_state=self._digests.pop(upload_id, None))
        except FileNotFoundError as error:
            raise _unknown() from error

    def _complete(self, upload_id: str, record: Record) -> Record:
        """Complete the record of an upload whose bytes are all there, after a kill before it was written."""
        try:
            resumed = self.resume(upload_id, record.owner, record.bytes)
        except Locked:
            return record
        try:
            return resumed.finish()
        finally:
            resumed.release()

    def _path(self, upload_id: str) -> Path:
        return self._store.upload(upload_id) / "data"


def _unknown() -> UnknownUpload:
    return UnknownUpload("upload_not_found", "there is no such upload; if it has expired, send the file again")
