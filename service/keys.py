"""Keys of the service in their file: scopes, limits and expiry. Only the SHA-256 of a key's secret is written."""

import fcntl
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from configs.errors import OvertileError
from disk.user_folders import choosable_by
from service.store import STORE_VARIABLE, read_json, write_json

KeyScope = Literal["models", "segment", "jobs", "metrics", "admin"]
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
USUAL_SCOPES: tuple[KeyScope, ...] = ("models", "segment", "jobs")
CHECK_S = 0.5

_TOKEN = re.compile(r"ovt_([0-9a-f]{12})_([0-9a-f]{64})")
_log = logging.getLogger("overtile.service")


class KeysDamaged(OvertileError):
    """The file of keys is damaged; the message says what to do."""


class UnknownKey(OvertileError):
    """No key has that ID."""


class Key(BaseModel):
    """Key without its secret; a limit that is None is the server's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    name: str
    scopes: tuple[KeyScope, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    max_jobs: PositiveInt | None = None
    max_stored_bytes: PositiveInt | None = None
    requests_per_minute: PositiveInt | None = None
    revoked: bool = False

    @property
    def state(self) -> Literal["valid", "expired", "revoked"]:
        """State of the key now."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= datetime.now(UTC) else "valid"


class _StoredKey(BaseModel):
    key: Key
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: tuple[_StoredKey, ...]

    @model_validator(mode="after")
    def _check_unique(self) -> Self:
        if len({stored.key.id for stored in self.keys}) < len(self.keys):
            raise ValueError("an ID occurs twice")
        return self


class Keys:
    """Keys of a store, read again when their file changes.

    Once there are keys, they stay required: when the file is lost or damaged while the server runs, the last keys stay valid.

    Args:
        path: the file; it may be missing.

    Raises:
        KeysDamaged: the file is damaged.
        OSError: the file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature = _signature(path)  # before the file is read, so that a change in between is noticed at the next check
        self._keys = _read(path)
        self._last_check_s = time.monotonic()
        self._decoy = _decoy()

    @property
    def required(self) -> bool:
        """True if there are any keys, valid or not."""
        return bool(self._current())

    @property
    def usable(self) -> bool:
        """True if there is a valid key."""
        return any(stored.key.state == "valid" for stored in self._current().values())

    def find(self, token: str) -> Key | None:
        """Return the valid key of a token `ovt_ID_SECRET`, or None; both take the same time."""
        match = _TOKEN.fullmatch(token)
        key_id, secret = match.groups() if match else ("", "")
        stored = self._current().get(key_id, self._decoy)
        is_match = hmac.compare_digest(_digest(secret), stored.sha256)
        return stored.key if is_match and stored.key.state == "valid" else None

    def add(
        self,
        name: str,
        *,
        scopes: tuple[KeyScope, ...] = USUAL_SCOPES,
        expires_at: datetime | None = None,
        max_jobs: int | None = None,
        max_stored_bytes: int | None = None,
        requests_per_minute: int | None = None,
    ) -> tuple[Key, str]:
        """Add a key; return it and its token, which can't be recovered later. The key is on the disk when this returns.

        Raises:
            KeysDamaged: the file is damaged; it stays as it is.
            OSError: the file can't be written.
        """
        secret = secrets.token_hex(32)
        key = Key(
            id=secrets.token_hex(6),
            name=name,
            scopes=scopes,
            created_at=datetime.now(UTC).replace(microsecond=0),
            expires_at=expires_at,
            max_jobs=max_jobs,
            max_stored_bytes=max_stored_bytes,
            requests_per_minute=requests_per_minute,
        )
        self._put(_StoredKey(key=key, sha256=_digest(secret)))
        return key, f"ovt_{key.id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """Revoke a key and return it.

        Raises:
            UnknownKey: no key has that ID.
            KeysDamaged: the file is damaged.
            OSError: the file can't be written.
        """
        stored = _read(self._path).get(key_id)
        if stored is None:
            raise UnknownKey(f"no key has the ID {key_id!r}; overtile keys list shows all keys")
        key = stored.key.model_copy(update={"revoked": True})
        self._put(_StoredKey(key=key, sha256=stored.sha256))
        return key

    def list(self) -> tuple[Key, ...]:
        """Return all keys, the oldest first, those that are no longer valid, too."""
        return tuple(stored.key for stored in _read(self._path).values())

    def _put(self, stored: _StoredKey) -> None:
        with choosable_by(STORE_VARIABLE, self._path.parent), self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until no other process changes the keys
            keys = {**_read(self._path), stored.key.id: stored}
            write_json(self._path, _File(keys=tuple(keys.values())).model_dump(mode="json"))
        self._last_check_s = -CHECK_S

    def _current(self) -> Mapping[str, _StoredKey]:
        """Return the keys, after reading their file again if it has changed."""
        if time.monotonic() - self._last_check_s < CHECK_S:
            return self._keys
        self._last_check_s = time.monotonic()
        signature = _signature(self._path)
        if signature == self._signature:
            return self._keys
        self._signature = signature
        try:
            keys = _read(self._path)
        except (KeysDamaged, OSError) as error:
            _log.error("the file of keys can't be read (%s); the keys from before stay in use", type(error).__name__)
            return self._keys
        if self._keys and not keys:
            _log.error("the file of keys is gone or empty; the keys from before stay in use until the server ends")
            return self._keys
        self._keys = keys
        return keys


def _decoy() -> _StoredKey:
    """Return a key for the comparison with unknown tokens; nobody knows its secret."""
    key = Key(id="0" * 12, name="nobody", scopes=(), created_at=datetime.now(UTC), revoked=True)
    return _StoredKey(key=key, sha256=_digest(secrets.token_hex(32)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> dict[str, _StoredKey]:
    try:
        content = read_json(path)
        file = _File.model_validate(content) if content is not None else _File(keys=())
    except (ValueError, RecursionError) as error:
        raise KeysDamaged(f"{path}: not a file of keys; put a copy back, or remove it and add new keys") from error
    return {stored.key.id: stored for stored in file.keys}
