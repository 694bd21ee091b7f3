"""What is answered when something is wrong: one table from exception to status, one shape, a closed vocabulary.

    {"error": {"code", "message", "field"?, "limit"?, "request_id"}}

Nothing that a client sent, no path and no library's text is ever in an answer.
"""

import errno
import math
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat

BUSY_RETRY_S = 5
STORAGE_RETRY_S = 60


class StartError(Exception):
    """The server can't be started like this; the message says what to do."""


class Refused(Exception):
    """A request that can't be served as it came; `field` is the parameter's name, `limit` what would have been allowed.

    `headers` go out with the answer.
    """

    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, code: str, message: str, *, field: str | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.limit = limit


class BadRequest(Refused):
    """A parameter or a body that can't be meant."""


class NoKey(Refused):
    """No key where one is needed, or one that isn't good."""

    headers = (("WWW-Authenticate", "Bearer"),)


class NotAllowed(Refused):
    """A good key, or a page in a browser, that may not do this."""


class UnknownModel(Refused):
    """No model of that name is loaded."""


class Stalled(Refused):
    """The body stopped coming."""


class BodyTooLarge(Refused):
    """More bytes than the limit; `limit` is that limit in bytes."""


class UnsupportedBody(Refused):
    """A body that is packed in a way that isn't read here."""


class Unsuitable(Refused):
    """Models or options that don't go together."""


class TooOften(Refused):
    """More requests than the key may send; after `retry_s` the next is taken."""

    def __init__(self, code: str, message: str, *, limit: int, retry_s: float) -> None:
        super().__init__(code, message, limit=limit)
        self.headers = _retry_after(retry_s)


class UnknownUpload(Refused):
    """No upload of that ID, or another owner's."""


class Conflict(Refused):
    """What is there is in another state than the request takes it to be in."""


class UnknownVersion(Refused):
    """Not a version of tus that is spoken here."""

    headers = (("Tus-Version", "1.0.0"),)


class OverQuota(Refused):
    """More than the owner may keep; `limit` is that in bytes."""


class Locked(Refused):
    """Another request is writing there."""


class TooMany(Refused):
    """As many as one owner may have; `limit` is how many."""

    headers = (("Retry-After", str(BUSY_RETRY_S)),)


class WrongChecksum(Refused):
    """The bytes that came aren't those that were sent."""


class Busy(Refused):
    """As many requests are waiting as may wait."""

    headers = (("Retry-After", str(BUSY_RETRY_S)),)


class StorageFull(Refused):
    """No room on the disk, or none that isn't promised."""

    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        super().__init__("storage_full", "the server's disk is full; try again later, or ask for more space there")


class StorageFailed(Refused):
    """The disk is there, but takes nothing."""

    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        super().__init__("storage_failed", "the server's disk can't be written to; try again later, or tell whoever runs it")


class NoDatabase(Refused):
    """The database of jobs doesn't answer, or has no room."""

    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        super().__init__("database_unavailable", "the server's database takes nothing now; try again later")


class UnknownJob(Refused):
    """No job, or no result, of that name is this client's."""


class Gone(Refused):
    """It was there, and its time is over."""


class OutOfRange(Refused):
    """A part that the file doesn't have; `limit` is the file's size."""

    def __init__(self, size: int) -> None:
        super().__init__("range_not_satisfiable", "the file is shorter than Range takes it to be", field="Range", limit=size)
        self.headers = (("Content-Range", f"bytes */{size}"),)


class DeadlineExceeded(Refused):
    """It took longer than a client may wait."""


class Unavailable(Refused):
    """What would do it isn't there now."""

    headers = (("Retry-After", str(BUSY_RETRY_S)),)


STATUS: dict[type[Exception], int] = {
    BrokenImage: 400,
    BadRequest: 400,
    NoKey: 401,
    NotAllowed: 403,
    UnknownModel: 404,
    UnknownUpload: 404,
    UnknownJob: 404,
    Stalled: 408,
    Conflict: 409,
    Gone: 410,
    UnknownVersion: 412,
    ImageTooLarge: 413,
    BodyTooLarge: 413,
    OverQuota: 413,
    UnsupportedFormat: 415,
    UnsupportedBody: 415,
    OutOfRange: 416,
    DataError: 422,
    UnsuitableImage: 422,
    Unsuitable: 422,
    Locked: 423,
    TooMany: 429,
    TooOften: 429,
    WrongChecksum: 460,  # tus's own
    Busy: 503,
    Unavailable: 503,
    StorageFull: 503,
    StorageFailed: 503,
    NoDatabase: 503,
    DeadlineExceeded: 504,
}

_ROUTING = {
    404: ("not_found", "there is no such route; /docs lists them all"),
    405: ("method_not_allowed", "the route doesn't take this method; /docs lists what it takes"),
}

_PARAMETERS = {
    "model": "model takes one name of GET /v1/models",
    "models": "models takes two names of GET /v1/models with a comma between",
    "format": "format takes png, tiff, nifti, geojson or dicom-seg",
    "formats": "formats takes a list of png, tiff, nifti, geojson, dicom-seg and ome-zarr",
    "uploads": "uploads takes a list of IDs that /v1/uploads gave",
    "options": "options takes an object",
    "kind": "kind takes segment or compare",
    "spacing_um": "spacing_um takes a list of one number, or one for each axis, in micrometres",
    "probabilities": "probabilities takes uint8 or float16",
    "tissue": "tissue takes true or false",
    "uncertainty": "uncertainty takes true or false",
    "as_ensemble": "as_ensemble takes true or false",
    "disagreement": "disagreement takes true or false",
    "keep": "keep takes true or false",
    "state": "state takes queued, running, done, failed or cancelled",
    "limit": "limit takes a whole number from 1 to 1000",
    "tag": "tag takes NAME:VERSION of a packaged model",
    "idempotency-key": "Idempotency-Key takes 1 to 200 letters, digits and signs without spaces",
}


@dataclass(frozen=True)
class Answer:
    """An error as it goes out; `headers` beside the usual ones."""

    status: int
    code: str
    message: str
    field: str | None = None
    limit: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, request_id: str) -> dict[str, dict[str, str | int]]:
        """The JSON body; `field` and `limit` are left out where there is none."""
        optional: dict[str, str | int | None] = {"field": self.field, "limit": self.limit}
        present = {key: value for key, value in optional.items() if value is not None}
        return {"error": {"code": self.code, "message": self.message, **present, "request_id": request_id}}


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FAILED = (errno.EIO, errno.EROFS)
_NONE_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)  # descriptors, memory, processes

INTERNAL = Answer(500, "internal", "the server failed; try again, and name the request_id when you report it")


def answer_to(error: Exception) -> Answer:
    """What the client is told of an exception; `INTERNAL` for one that nobody expected."""
    if isinstance(error, DataError | Refused):
        return _answer_to_ours(error)
    if isinstance(error, RequestValidationError):
        return _answer_to_parameters(error)
    if isinstance(error, HTTPException):
        return _answer_to_routing(error)
    if isinstance(error, ClientDisconnect):
        return Answer(400, "body_incomplete", "the body ended before it was complete; send it again")
    if isinstance(error, SQLAlchemyError):
        return _answer_to_ours(NoDatabase())
    if isinstance(error, OSError):
        return _answer_to_system(error)
    return INTERNAL


def _answer_to_system(error: OSError) -> Answer:
    if error.errno in _FULL:
        return _answer_to_ours(StorageFull())
    if error.errno in _FAILED:
        return _answer_to_ours(StorageFailed())
    if error.errno in _NONE_LEFT:
        return _answer_to_ours(Busy("busy", "the server has no files, memory or processes left; try again later"))
    return INTERNAL


def _answer_to_ours(error: DataError | Refused) -> Answer:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return Answer(
        status,
        error.code,
        error.message,
        field=error.field if isinstance(error, Refused) else None,
        limit=error.limit if isinstance(error, Refused | ImageTooLarge) else None,
        headers=error.headers if isinstance(error, Refused) else (),
    )


def _answer_to_parameters(error: RequestValidationError) -> Answer:
    """The first parameter or field that is wrong; pydantic's own text would repeat what the client sent."""
    first = error.errors()[0]
    kind, place = first["type"], first["loc"]
    if kind == "json_invalid":
        return Answer(400, "json_invalid", "the body isn't JSON; send one object as /docs describes it, in UTF-8")
    if kind == "extra_forbidden":  # its name is the client's
        return Answer(400, "field_unknown", "the body has a field that isn't known here; /docs lists those that are")
    name = next((str(part) for part in reversed(place) if part in _PARAMETERS), None)
    code = "parameter_missing" if kind == "missing" else "parameter_invalid"
    if name is None:
        return Answer(400, code, "a parameter is missing or wrong; /docs lists what the route takes")
    return Answer(400, code, f"{_PARAMETERS[name]}; correct it and send the request again", field=name)


def _answer_to_routing(error: HTTPException) -> Answer:
    code, message = _ROUTING.get(error.status_code, ("request_invalid", "the request can't be read; /docs says how to send it"))
    return Answer(error.status_code, code, message, headers=tuple((error.headers or {}).items()))


def _retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(math.ceil(seconds))),)
