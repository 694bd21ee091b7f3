"""Records of uploads on the disk, and the quotas and disk space that unfinished uploads claim."""

import os
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from service.errors import OverQuota, StorageFull, TooMany
from service.limits import ServiceLimits, setting_of
from service.store import Store, new_id, read_json, write_json


class Record(BaseModel):
    """Record of an upload; `sha256` is set when the upload is complete."""

    model_config = ConfigDict(frozen=True)

    owner: str
    bytes: NonNegativeInt
    filename: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class Claim:
    """Disk space that is reserved for a new upload.

    Args:
        upload_id: the upload's ID.
        owner: the owner of the upload.
        size_bytes: size of the file; None if it is unknown.
        keep_free_bytes: space that must stay free on the disk while the upload is written.
        most_bytes: unused part of the owner's quota; None for no quota.
        max_stored_bytes: the owner's quota; None for no quota.
    """

    upload_id: str
    owner: str
    size_bytes: int | None
    keep_free_bytes: int
    most_bytes: int | None
    max_stored_bytes: int | None


class Records:
    """Records of one store; threads may share it."""

    def __init__(self, store: Store, limits: ServiceLimits) -> None:
        self._store = store
        self._limits = limits
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._cache: dict[str, Record] = {}

    def find(self, upload_id: str) -> Record | None:
        """Return the record on the disk; None if there is none, or it is damaged."""
        try:
            content = read_json(self._path(upload_id))
            return Record.model_validate(content) if content is not None else None
        except ValueError:
            return None

    def write(self, upload_id: str, record: Record) -> None:
        """Write a record; it is on the disk when this returns."""
        write_json(self._path(upload_id), record.model_dump())
        with self._lock:
            self._cache[upload_id] = record

    def remove(self, upload_id: str) -> None:
        """Remove a record, and so make the upload unknown."""
        self._path(upload_id).unlink(missing_ok=True)
        with self._lock:
            self._cache.pop(upload_id, None)

    def claim(self, owner: str, size_bytes: int | None, max_stored_bytes: int | None) -> Claim:
        """Reserve space for a new upload, until the claim is released.

        Raises:
            TooMany: the owner has too many unfinished uploads.
            OverQuota: the upload exceeds the owner's quota.
            StorageFull: the disk has too little space that isn't reserved.
        """
        with self._lock:
            records = self._all()
            most = self._limits.max_unfinished_uploads
            unfinished = {upload_id: record for upload_id, record in records.items() if record.sha256 is None}
            if sum(record.owner == owner for record in unfinished.values()) >= most:
                setting = setting_of("max_unfinished_uploads")
                message = (
                    f"there are already {most} unfinished uploads; finish or delete some, or raise {setting} on the server"
                )
                raise TooMany("too_many_uploads", message, limit=most)
            left_bytes = _quota_left(records, owner, max_stored_bytes)
            if left_bytes is not None and (size_bytes or 0) > left_bytes:
                raise over_quota(max_stored_bytes or 0)
            reserve_bytes = self._limits.storage_reserve_bytes
            missing_bytes = sum(max(record.bytes - self._size(upload_id), 0) for upload_id, record in unfinished.items())
            self.check_disk(size_bytes or 0, missing_bytes + reserve_bytes)
            keep_free_bytes = reserve_bytes if size_bytes is not None else reserve_bytes + missing_bytes
            claim = Claim(new_id(), owner, size_bytes, keep_free_bytes, left_bytes, max_stored_bytes)
            self._claims[claim.upload_id] = claim
            return claim

    def settle(self, claim: Claim, size_bytes: int) -> None:
        """Set the size of a claim for an upload whose size was unknown.

        Raises:
            OverQuota: the upload exceeds the owner's quota, with uploads that were added in the meantime.
        """
        with self._lock:
            records = self._all()
            del records[claim.upload_id]
            left_bytes = _quota_left(records, claim.owner, claim.max_stored_bytes)
            if left_bytes is not None and size_bytes > left_bytes:
                raise over_quota(claim.max_stored_bytes or 0)
            self._claims[claim.upload_id] = replace(claim, size_bytes=size_bytes)

    def release(self, claim: Claim) -> None:
        """End a claim after its upload was recorded or discarded."""
        with self._lock:
            self._claims.pop(claim.upload_id, None)

    def check_disk(self, size_bytes: int, keep_free_bytes: int | None = None) -> None:
        """Check that `size_bytes` can be written while `keep_free_bytes` stay free; None: the server's reserve.

        Raises:
            StorageFull: the disk has too little free space.
        """
        reserve_bytes = self._limits.storage_reserve_bytes if keep_free_bytes is None else keep_free_bytes
        if shutil.disk_usage(self._store.folder).free - size_bytes < reserve_bytes:
            raise StorageFull

    def _all(self) -> dict[str, Record]:
        """Return the records of all uploads, claims included."""
        names = {entry.name for entry in os.scandir(self._store.folder / "uploads")}
        for name in self._cache.keys() - names:
            self._cache.pop(name, None)
        for name in names - self._cache.keys():
            record = self.find(name)
            if record:
                self._cache[name] = record
        records = dict(self._cache)
        for claim in self._claims.values():
            size = claim.size_bytes if claim.size_bytes is not None else self._size(claim.upload_id)
            records[claim.upload_id] = Record(owner=claim.owner, bytes=size, filename=None)
        return records

    def _size(self, upload_id: str) -> int:
        try:
            return (self._path(upload_id).parent / "data").stat().st_size
        except FileNotFoundError:
            return 0

    def _path(self, upload_id: str) -> Path:
        return self._store.upload(upload_id) / "upload.json"


def _quota_left(records: dict[str, Record], owner: str, max_stored_bytes: int | None) -> int | None:
    """Return the unused bytes of an owner's quota; None for no quota."""
    if max_stored_bytes is None:
        return None
    return max(max_stored_bytes - sum(record.bytes for record in records.values() if record.owner == owner), 0)


def over_quota(max_stored_bytes: int) -> OverQuota:
    """Return the error of an upload that exceeds the owner's quota."""
    message = f"the key may store {max_stored_bytes} bytes, and the upload would exceed them; delete some uploads or jobs first"
    return OverQuota("quota_exceeded", message, limit=max_stored_bytes)
