"""What is known of every upload, on the disk; and what of the disk is promised to those that aren't finished."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from service.errors import OverQuota, StorageFull, TooMany
from service.limits import Limits, setting_of
from service.store import Store, new_id, read_json, write_json


class Record(BaseModel):
    """An upload as it is written down; `sha256` once all of it has come."""

    model_config = ConfigDict(frozen=True)

    owner: str
    bytes: NonNegativeInt
    filename: str | None
    sha256: str | None = None


@dataclass(frozen=True)
class Claim:
    """Room for an upload that is about to be.

    Args:
        upload_id: whose.
        owner: who sends it.
        size_bytes: of the file; None until it is known.
        keep_free_bytes: of the disk, while it is written.
        most_bytes: what is left of the owner's quota; None for no quota.
        max_stored_bytes: the quota.
    """

    upload_id: str
    owner: str
    size_bytes: int | None
    keep_free_bytes: int
    most_bytes: int | None
    max_stored_bytes: int | None


class Records:
    """The records of one store; several threads may ask."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._read: dict[str, Record] = {}

    def find(self, upload_id: str) -> Record | None:
        """As it is on the disk; None where there is none, or none that can be read."""
        try:
            content = read_json(self._path(upload_id))
            return Record.model_validate(content) if content is not None else None
        except ValueError:
            return None

    def write(self, upload_id: str, record: Record) -> None:
        """On the disk when this returns."""
        write_json(self._path(upload_id), record.model_dump())
        with self._lock:
            self._read[upload_id] = record

    def remove(self, upload_id: str) -> None:
        """From here on nobody knows of the upload."""
        self._path(upload_id).unlink(missing_ok=True)
        with self._lock:
            self._read.pop(upload_id, None)

    def claim(self, owner: str, size_bytes: int | None, max_stored_bytes: int | None) -> Claim:
        """Room for another upload, under a new ID, until it is released.

        Raises:
            TooMany: the owner has as many unfinished ones as may be.
            OverQuota: the owner would have more than may be.
            StorageFull: the disk hasn't that much that isn't promised or reserved.
        """
        with self._lock:
            known = self._all()
            self._check_count(known, owner)
            left = self._left(known, owner, max_stored_bytes)
            if left is not None and (size_bytes or 0) > left:
                raise over_quota(max_stored_bytes or 0)
            keep_free = self._limits.storage_reserve_bytes
            promised = sum(self._missing(upload_id, record) for upload_id, record in known.items())
            self.check_room(size_bytes or 0, promised + keep_free)
            floor = keep_free if size_bytes is not None else keep_free + promised
            claim = Claim(new_id(), owner, size_bytes, floor, left, max_stored_bytes)
            self._claims[claim.upload_id] = claim
            return claim

    def settle(self, claim: Claim, size_bytes: int) -> None:
        """The claim is for so much; nobody knew when it was made.

        Raises:
            OverQuota: others came in between, and the owner would have more than may be.
        """
        with self._lock:
            known = self._all()
            del known[claim.upload_id]
            left = self._left(known, claim.owner, claim.max_stored_bytes)
            if left is not None and size_bytes > left:
                raise over_quota(claim.max_stored_bytes or 0)
            self._claims[claim.upload_id] = replace(claim, size_bytes=size_bytes)

    def release(self, claim: Claim) -> None:
        """Its upload is written down, or is not to be."""
        with self._lock:
            self._claims.pop(claim.upload_id, None)

    def check_room(self, size_bytes: int, keep_free_bytes: int | None = None) -> None:
        """Passes when so much can be written, and what has to stay free does; None for the reserve alone.

        Raises:
            StorageFull: it can't.
        """
        floor = self._limits.storage_reserve_bytes if keep_free_bytes is None else keep_free_bytes
        if shutil.disk_usage(self._store.folder).free - size_bytes < floor:
            raise StorageFull

    def _all(self) -> dict[str, Record]:
        """Every upload, those that are claimed as if they were written down."""
        known = dict(self._on_disk())
        for claim in self._claims.values():
            size = claim.size_bytes if claim.size_bytes is not None else self._size(claim.upload_id)
            known[claim.upload_id] = Record(owner=claim.owner, bytes=size, filename=None)
        return known

    def _on_disk(self) -> Iterator[tuple[str, Record]]:
        names = {entry.name for entry in os.scandir(self._store.folder / "uploads")}
        for gone in self._read.keys() - names:
            self._read.pop(gone, None)
        for name in names:
            record = self._read.get(name) or self.find(name)
            if record:
                self._read[name] = record
                yield name, record

    def _check_count(self, known: dict[str, Record], owner: str) -> None:
        most = self._limits.max_unfinished_uploads
        if sum(record.owner == owner and record.sha256 is None for record in known.values()) >= most:
            message = (
                f"{most} uploads are begun and not finished; finish some or DELETE them, "
                f"or raise {setting_of('max_unfinished_uploads')} on the server"
            )
            raise TooMany("too_many_uploads", message, limit=most)

    def _left(self, known: dict[str, Record], owner: str, max_stored_bytes: int | None) -> int | None:
        if max_stored_bytes is None:
            return None
        return max(max_stored_bytes - sum(record.bytes for record in known.values() if record.owner == owner), 0)

    def _missing(self, upload_id: str, record: Record) -> int:
        return max(record.bytes - self._size(upload_id), 0) if record.sha256 is None else 0

    def _size(self, upload_id: str) -> int:
        try:
            return (self._path(upload_id).parent / "data").stat().st_size
        except FileNotFoundError:
            return 0

    def _path(self, upload_id: str) -> Path:
        return self._store.upload(upload_id) / "upload.json"


def over_quota(max_stored_bytes: int) -> OverQuota:
    """What is refused with that is more than the owner may keep."""
    message = f"more would be stored than the {max_stored_bytes} bytes that the key allows; DELETE some uploads or jobs first"
    return OverQuota("quota_exceeded", message, limit=max_stored_bytes)
