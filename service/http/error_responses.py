"""Answers to errors, in one shape, with codes from a closed vocabulary.

    {"error": {"code", "message", "field"?, "limit"?, "request_id"}}

An answer never contains text that a client sent, a path, or the text of a library's exception.
"""

import errno
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imaging.errors import DataError, ImageTooLarge
from service.errors import Busy, NoDatabase, RequestError, StorageFailed, StorageFull

_ROUTING = {
    404: ("not_found", "there is no such route; /docs lists them all"),
    405: ("method_not_allowed", "the route doesn't allow this method; /docs lists the methods of each route"),
}

_INVALID_REQUEST = ("request_invalid", "the request is invalid; /docs describes each route")

_PARAMETERS = {
    "model": "model takes the name of one model of GET /v1/models",
    "models": "models takes the names of two models of GET /v1/models, separated by a comma",
    "format": "format takes png, tiff, nifti, geojson or dicom-seg",
    "formats": "formats takes a list of png, tiff, nifti, geojson, dicom-seg and ome-zarr",
    "uploads": "uploads takes a list of IDs from /v1/uploads",
    "options": "options takes an object",
    "kind": "kind takes segment or compare",
    "axes": "axes takes ZYX, CYX, CZYX, ZCYX, YXC or ZYXC",
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
class ErrorResponse:
    """Status, content and additional headers of the answer to an error."""

    status: int
    code: str
    message: str
    field: str | None = None
    limit: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, request_id: str) -> dict[str, dict[str, str | int]]:
        """Return the JSON body, without `field` and `limit` if they are None."""
        optional: dict[str, str | int | None] = {"field": self.field, "limit": self.limit}
        present = {key: value for key, value in optional.items() if value is not None}
        return {"error": {"code": self.code, "message": self.message, **present, "request_id": request_id}}


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FAILED = (errno.EIO, errno.EROFS)
_RESOURCES_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)

INTERNAL = ErrorResponse(500, "internal", "the server failed; try again, and name the request_id when you report it")


def error_response(error: Exception) -> ErrorResponse:
    """Return the answer to an exception; `INTERNAL` for an unexpected one."""
    if isinstance(error, DataError):
        limit = error.limit if isinstance(error, ImageTooLarge) else None
        return ErrorResponse(error.status, error.code, error.message, limit=limit)
    if isinstance(error, RequestError):
        return ErrorResponse(error.status, error.code, error.message, error.field, error.limit, error.headers)
    if isinstance(error, RequestValidationError):
        return _validation_response(error)
    if isinstance(error, HTTPException):
        code, message = _ROUTING.get(error.status_code, _INVALID_REQUEST)
        return ErrorResponse(error.status_code, code, message, headers=tuple((error.headers or {}).items()))
    if isinstance(error, ClientDisconnect):
        return ErrorResponse(400, "body_incomplete", "the body is incomplete; send it again")
    if isinstance(error, SQLAlchemyError):
        return error_response(NoDatabase())
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return error_response(StorageFull())
    if isinstance(error, OSError) and error.errno in _DISK_FAILED:
        return error_response(StorageFailed())
    if isinstance(error, OSError) and error.errno in _RESOURCES_EXHAUSTED:
        return error_response(Busy("busy", "the server has no memory, processes or open files left; try again later"))
    return INTERNAL


def _validation_response(error: RequestValidationError) -> ErrorResponse:
    """Return the answer to the first invalid parameter or field; pydantic's own text would repeat what the client sent."""
    first = error.errors()[0]
    kind, location = first["type"], first["loc"]
    if kind == "json_invalid":
        return ErrorResponse(400, "json_invalid", "the body isn't JSON; send one object in UTF-8, as /docs describes it")
    if kind == "extra_forbidden":  # the field's name is the client's text
        return ErrorResponse(400, "field_unknown", "the body has an unknown field; /docs lists the fields of each route")
    name = next((str(part) for part in reversed(location) if part in _PARAMETERS), None)
    code = "parameter_missing" if kind == "missing" else "parameter_invalid"
    if name is None:
        return ErrorResponse(400, code, "a parameter is missing or invalid; /docs lists the parameters of each route")
    return ErrorResponse(400, code, f"{_PARAMETERS[name]}; correct it and send the request again", field=name)
