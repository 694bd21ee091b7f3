"""Files on their way in, each in a folder of its own: what has come of them is on the disk, and a kill ends nothing."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from disk.publish import sync
from service.errors import Conflict, Locked, UnknownUpload
from service.limits import Limits
from service.store import Store, is_id, steady_time
from service.uploads.file import Running, UploadFile
from service.uploads.incoming import Fresh, Resumed
from service.uploads.records import Record, Records

ORPHAN_S = 60  # a folder without a record is younger than this while it is made


@dataclass(frozen=True)
class Upload:
    """What is known of one.

    Args:
        upload_id: 32 hexadecimal digits.
        size_bytes: of the whole file.
        received_bytes: of it that are on the disk.
        sha256: of the whole file, hexadecimal; None until it is complete.
        filename: as the client named it; never part of a path.
        expires_at: seconds since 1970.
    """

    upload_id: str
    size_bytes: int
    received_bytes: int
    sha256: str | None
    filename: str | None
    expires_at: float

    @property
    def complete(self) -> bool:
        """Whether jobs can use it."""
        return self.sha256 is not None


class Uploads:
    """The uploads of one store; several threads may ask, and processes that share the store."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._records = Records(store, limits)
        self._running: dict[str, Running] = {}

    def create(
        self, owner: str, size_bytes: int, *, filename: str | None = None, max_stored_bytes: int | None = None
    ) -> Upload:
        """A new one of which nothing has come; on the disk when this returns.

        Raises:
            TooMany, OverQuota, StorageFull: there is no room for it.
        """
        fresh = self.begin(owner, size_bytes, max_stored_bytes=max_stored_bytes)
        try:
            fresh.announce(filename)
        finally:
            fresh.release()
        return self.find(fresh.upload_id, owner)

    def begin(self, owner: str, size_bytes: int | None, *, max_stored_bytes: int | None = None) -> Fresh:
        """One that comes in one request, of which nothing stays unless it is finished; to be released in the end.

        Raises:
            TooMany, OverQuota, StorageFull: there is no room for it.
        """
        claim = self._records.claim(owner, size_bytes, max_stored_bytes)
        try:
            return Fresh(self._store.upload(claim.upload_id), self._records, claim)
        except BaseException:
            self._records.release(claim)
            raise

    def resume(self, upload_id: str, owner: str, offset: int) -> Resumed:
        """One that is gone on with, locked until it is released.

        Raises:
            UnknownUpload: not the owner's.
            Conflict: other bytes than those at `offset` come next.
            Locked: another request is writing.
        """
        record = self._record(upload_id, owner)
        file = self._open(upload_id)
        if file.size > record.bytes:
            file.cut(record.bytes)
        if file.size != offset:
            self._running[upload_id] = file.running()
            file.close()
            message = "Upload-Offset isn't where the upload ends; ask with HEAD, and send on from there"
            raise Conflict("upload_offset_conflict", message, field="Upload-Offset")
        return Resumed(file, self._records, upload_id, record, self._running)

    def find(self, upload_id: str, owner: str) -> Upload:
        """What is known of it.

        Raises:
            UnknownUpload: not the owner's.
        """
        record = self._record(upload_id, owner)
        known = self._stat(upload_id)
        if known.st_size > record.bytes or (known.st_size == record.bytes and record.sha256 is None):
            record = self._finished(upload_id, record)
        received = min(known.st_size, record.bytes)
        return Upload(
            upload_id=upload_id,
            size_bytes=record.bytes,
            received_bytes=received,
            sha256=record.sha256 if received == record.bytes else None,
            filename=record.filename,
            expires_at=known.st_mtime + self._limits.upload_expires_s,
        )

    def data_of(self, upload_id: str, owner: str) -> Path:
        """The file of a complete upload, to be linked; it is never written again.

        Raises:
            UnknownUpload: not the owner's.
            Conflict: not complete.
        """
        if not self.find(upload_id, owner).complete:
            raise Conflict("upload_incomplete", "the upload isn't complete; send the rest of it, and try again")
        return self._path(upload_id)

    def delete(self, upload_id: str, owner: str) -> None:
        """Of the upload nothing is left here; links to its file stay.

        Raises:
            UnknownUpload: not the owner's.
            Locked: a request is writing.
        """
        self._record(upload_id, owner)
        with self._open(upload_id):
            self._remove(upload_id)
        sync(self._store.folder / "uploads")

    def sweep(self, now: float, most: int = 1000) -> int:
        """How many folders were removed, at most `most`: of uploads that nobody sent more of, and what a kill left.

        Args:
            now: seconds since 1970.
            most: so that it ends soon; when so many were removed, there may be more.
        """
        removed = 0
        for folder in (self._store.folder / "uploads").iterdir():
            if removed == most:
                break
            removed += is_id(folder.name) and self._is_over(folder, now) and self._sweep_one(folder.name)
        return removed

    def _sweep_one(self, upload_id: str) -> bool:
        try:
            with self._open(upload_id):
                self._remove(upload_id)
        except UnknownUpload:  # no file in it
            self._remove(upload_id)
        except Locked:
            return False
        return True

    def _is_over(self, folder: Path, now: float) -> bool:
        try:
            known = (folder / "data").stat() if (folder / "data").exists() else folder.stat()
        except FileNotFoundError:
            return False
        lasts_s = self._limits.upload_expires_s if (folder / "upload.json").exists() else ORPHAN_S
        return known.st_mtime + lasts_s < now

    def _remove(self, upload_id: str) -> None:
        self._records.remove(upload_id)
        self._running.pop(upload_id, None)
        shutil.rmtree(self._store.upload(upload_id), ignore_errors=True)  # what stays has no record: swept later

    def _record(self, upload_id: str, owner: str) -> Record:
        record = self._records.find(upload_id) if is_id(upload_id) else None
        if record is None or record.owner != owner or self._is_over(self._store.upload(upload_id), steady_time()):
            raise _unknown()
        return record

    def _open(self, upload_id: str) -> UploadFile:
        try:
            return UploadFile(self._path(upload_id), running=self._running.pop(upload_id, None))
        except FileNotFoundError as error:
            raise _unknown() from error

    def _stat(self, upload_id: str) -> os.stat_result:
        try:
            return self._path(upload_id).stat()
        except FileNotFoundError as error:
            raise _unknown() from error

    def _finished(self, upload_id: str, record: Record) -> Record:
        """All had come, but a kill came before that was written down."""
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
    return UnknownUpload("upload_not_found", "there is no such upload; it may have expired, and then has to be sent again")
