"""Keys at rest: who may use the server, for what and how much. Only the SHA-256 of a key's secret is ever written."""

import fcntl
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, model_validator

from service.store import read_json, write_json

KeyScope = Literal["models", "segment", "jobs", "metrics", "admin"]
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
USUAL_SCOPES: tuple[KeyScope, ...] = ("models", "segment", "jobs")
LOOK_EVERY_S = 0.5

_TOKEN = re.compile(r"ovt_([0-9a-f]{12})_([0-9a-f]{64})")
_log = logging.getLogger("overtile.service")


class KeysDamaged(Exception):
    """The file of keys isn't what was written; the message says what to do."""


class UnknownKey(Exception):
    """No key has that ID; the message says where to look."""


class Key(BaseModel):
    """What is known of a key; `max_jobs`, `max_stored_bytes` and `requests_per_minute` are the server's own where None."""

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
        """At this moment."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= datetime.now(UTC) else "valid"


class _Kept(BaseModel):
    key: Key
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    keys: tuple[_Kept, ...]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({kept.key.id for kept in self.keys}) < len(self.keys):
            raise ValueError("an ID is there twice")
        return self


class Keys:
    """The keys of a store, read again when their file changes.

    Where keys were once seen they stay required: a file that is lost or damaged while the server runs lets nobody in who
    had no key, and locks nobody out.

    Args:
        path: the file; need not be there.

    Raises:
        KeysDamaged: it isn't what was written.
        OSError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signature = _signature(path)  # before the file is read: what changes in between is seen at the next look
        self._kept = _read(path)
        self._looked_s = time.monotonic()
        self._nobody = _nobody()

    @property
    def required(self) -> bool:
        """Whether there are keys at all, valid or not."""
        return bool(self._current())

    @property
    def usable(self) -> bool:
        """Whether there is a key that opens anything."""
        return any(kept.key.state == "valid" for kept in self._current().values())

    def find(self, token: str) -> Key | None:
        """The key of a token `ovt_ID_SECRET`; None for one that is unknown, wrong, expired or revoked, after equal work."""
        match = _TOKEN.fullmatch(token)
        key_id, secret = match.groups() if match else ("", "")
        kept = self._current().get(key_id, self._nobody)
        is_right = hmac.compare_digest(_digest(secret), kept.sha256)
        return kept.key if is_right and kept.key.state == "valid" else None

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
        """A new key, on the disk when this returns, and its token, which can't be had again.

        Raises:
            KeysDamaged: the file isn't what was written; it is left alone.
            OSError: it can't be written.
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
        self._put(_Kept(key=key, sha256=_digest(secret)))
        return key, f"ovt_{key.id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """The key, which opens nothing any more.

        Raises:
            UnknownKey: there is none of that ID.
            KeysDamaged: the file isn't what was written.
            OSError: it can't be written.
        """
        kept = _read(self._path).get(key_id)
        if kept is None:
            raise UnknownKey(f"no key has the ID {key_id!r}; overtile keys list says which there are")
        revoked = kept.key.model_copy(update={"revoked": True})
        self._put(_Kept(key=revoked, sha256=kept.sha256))
        return revoked

    def list(self) -> tuple[Key, ...]:
        """All keys, those that are no longer valid too, the oldest first."""
        return tuple(kept.key for kept in _read(self._path).values())

    def _put(self, one: _Kept) -> None:
        with _alone(self._path.with_suffix(".lock")):
            kept = {**_read(self._path), one.key.id: one}
            write_json(self._path, _File(keys=tuple(kept.values())).model_dump(mode="json"))
        self._looked_s = -LOOK_EVERY_S

    def _current(self) -> Mapping[str, _Kept]:
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._look()
        return self._kept

    def _look(self) -> None:
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            kept = _read(self._path)
        except (KeysDamaged, OSError) as error:
            _log.error("the file of keys can't be read (%s); the keys from before stay in use", type(error).__name__)
            return
        if self._kept and not kept:
            _log.error("the file of keys is gone or empty; the keys from before stay in use until the server ends")
            return
        self._kept = kept


def _nobody() -> _Kept:
    """What an unknown token is compared with; nobody knows its secret."""
    key = Key(id="0" * 12, name="nobody", scopes=(), created_at=datetime.now(UTC), revoked=True)
    return _Kept(key=key, sha256=_digest(secrets.token_hex(32)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino


def _read(path: Path) -> dict[str, _Kept]:
    try:
        content = read_json(path)
        known = _File.model_validate(content) if content is not None else _File(keys=())
    except (ValueError, RecursionError) as error:
        raise KeysDamaged(f"{path}: not a file of keys; put a copy back, or remove it and add new keys") from error
    return {kept.key.id: kept for kept in known.keys}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process is changing the keys."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
