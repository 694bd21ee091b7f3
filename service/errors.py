"""What is answered when something is wrong: one table from exception to status, one shape, a closed vocabulary.

    {"error": {"code", "message", "field"?, "limit"?, "request_id"}}

Nothing that a client sent, no path and no library's text is ever in an answer.
"""

import errno
import math
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat

BUSY_RETRY_S = 5
STORAGE_RETRY_S = 60


class StartError(Exception):
    """The server can't be started like this; the message says what to do."""


class Refused(Exception):
    """A request that can't be served as it came; `field` is the parameter's name, `limit` what would have been allowed."""

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
    """More requests than the key may send; `retry_s` until the next is taken."""

    def __init__(self, code: str, message: str, *, limit: int, retry_s: float) -> None:
        super().__init__(code, message, limit=limit)
        self.retry_s = retry_s


class Busy(Refused):
    """As many requests are waiting as may wait."""


class UnknownJob(Refused):
    """No job, or no result, of that name is this client's."""


class Conflict(Refused):
    """Something stands in another state than the request takes it to be in."""


class Gone(Refused):
    """It was there, and its time is over."""


class TooMany(Refused):
    """More than may wait."""


class DeadlineExceeded(Refused):
    """It took longer than a client may wait."""


class Unavailable(Refused):
    """What would do it isn't there now."""


STATUS: dict[type[Exception], int] = {
    BrokenImage: 400,
    BadRequest: 400,
    NoKey: 401,
    NotAllowed: 403,
    UnknownModel: 404,
    Stalled: 408,
    ImageTooLarge: 413,
    BodyTooLarge: 413,
    UnsupportedFormat: 415,
    UnsupportedBody: 415,
    DataError: 422,
    UnsuitableImage: 422,
    Unsuitable: 422,
    UnknownJob: 404,
    Conflict: 409,
    Gone: 410,
    TooMany: 429,
    TooOften: 429,
    Busy: 503,
    Unavailable: 503,
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
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "the server's disk is full; try again later, or ask for more space there"
        return Answer(503, "storage_full", message, headers=_retry_after(STORAGE_RETRY_S))
    return INTERNAL


def _answer_to_ours(error: DataError | Refused) -> Answer:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    return Answer(
        status,
        error.code,
        error.message,
        field=error.field if isinstance(error, Refused) else None,
        limit=error.limit if isinstance(error, Refused | ImageTooLarge) else None,
        headers=_headers(error, status),
    )


def _headers(error: DataError | Refused, status: int) -> tuple[tuple[str, str], ...]:
    if isinstance(error, NoKey):
        return (("WWW-Authenticate", "Bearer"),)
    if isinstance(error, TooOften):
        return _retry_after(error.retry_s)
    return _retry_after(BUSY_RETRY_S) if status in (429, 503) else ()


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


def _retry_after(seconds: float) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(math.ceil(seconds))),)
