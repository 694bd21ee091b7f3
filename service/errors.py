"""What is answered when something is wrong: one table from exception to status, one shape, a closed vocabulary.

    {"error": {"code", "message", "field"?, "limit"?, "request_id"}}

Nothing that a client sent, no path and no library's text is ever in an answer.
"""

import errno
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat

BUSY_RETRY_S = 5
STORAGE_RETRY_S = 60


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


STATUS: dict[type[Exception], int] = {
    BrokenImage: 400,
    BadRequest: 400,
    UnknownModel: 404,
    UnknownUpload: 404,
    Stalled: 408,
    Conflict: 409,
    UnknownVersion: 412,
    ImageTooLarge: 413,
    BodyTooLarge: 413,
    OverQuota: 413,
    UnsupportedFormat: 415,
    UnsupportedBody: 415,
    DataError: 422,
    UnsuitableImage: 422,
    Unsuitable: 422,
    Locked: 423,
    TooMany: 429,
    WrongChecksum: 460,  # tus's own
    Busy: 503,
    StorageFull: 503,
}

_ROUTING = {
    404: ("not_found", "there is no such route; /docs lists them all"),
    405: ("method_not_allowed", "the route doesn't take this method; /docs lists what it takes"),
}

_PARAMETERS = {
    "model": "model takes one name of GET /v1/models",
    "models": "models takes two names of GET /v1/models with a comma between",
    "format": "format takes png, tiff, nifti, geojson or dicom-seg",
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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _answer_to_ours(StorageFull())
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
    """The first parameter that is wrong; pydantic's own text would repeat what the client sent."""
    first = error.errors()[0]
    name = str(first["loc"][-1])
    code = "parameter_missing" if first["type"] == "missing" else "parameter_invalid"
    if name not in _PARAMETERS:
        return Answer(400, code, "a parameter is missing or wrong; /docs lists what the route takes")
    return Answer(400, code, f"{_PARAMETERS[name]}; correct it and send the request again", field=name)


def _answer_to_routing(error: HTTPException) -> Answer:
    code, message = _ROUTING.get(error.status_code, ("request_invalid", "the request can't be read; /docs says how to send it"))
    return Answer(error.status_code, code, message, headers=tuple((error.headers or {}).items()))
