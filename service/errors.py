"""Errors of the service as a tree: each class carries its HTTP status and its headers.

`service/http/error_responses.py` turns them into answers. Clients see the messages, which therefore contain nothing that a
client sent, no path and no library's text.
"""

import math

BUSY_RETRY_S = 5
STORAGE_RETRY_S = 60


class StartError(Exception):
    """The server can't be started; the message says what to do."""


class RequestError(Exception):
    """Request that can't be served.

    Attributes:
        status: HTTP status of the answer.
        headers: additional headers of the answer.
        code: stable code for programs.
        message: description of the problem and its remedy.
        field: name of the invalid parameter.
        limit: what is allowed, in bytes, pixels or number.
    """

    status: int = 400
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, code: str, message: str, *, field: str | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.limit = limit


class BadRequest(RequestError):
    """Invalid parameter or body."""

    status = 400


class NoKey(RequestError):
    """Missing or invalid key."""

    status = 401
    headers = (("WWW-Authenticate", "Bearer"),)


class Forbidden(RequestError):
    """Valid key, or page in a browser, that has no permission for the request."""

    status = 403


class UnknownModel(RequestError):
    """No model of that name is loaded."""

    status = 404


class Stalled(RequestError):
    """Body that stopped arriving, or arrives too slowly."""

    status = 408


class BodyTooLarge(RequestError):
    """More bytes than the limit; `limit` is that limit in bytes."""

    status = 413


class UnsupportedBody(RequestError):
    """Body with an encoding or content type that the server doesn't read."""

    status = 415


class Unsuitable(RequestError):
    """Models or options that can't be combined."""

    status = 422


class TooOften(RequestError):
    """More requests than the key may send; the next is accepted after `retry_s`."""

    status = 429

    def __init__(self, code: str, message: str, *, limit: int, retry_s: float) -> None:
        super().__init__(code, message, limit=limit)
        self.headers = (("Retry-After", str(math.ceil(retry_s))),)


class UnknownUpload(RequestError):
    """No upload of that ID, or an upload of another owner."""

    status = 404


class Conflict(RequestError):
    """The resource is in another state than the request assumes."""

    status = 409


class UnknownVersion(RequestError):
    """Version of tus that the server doesn't support."""

    status = 412
    headers = (("Tus-Version", "1.0.0"),)


class OverQuota(RequestError):
    """More bytes than the owner may store; `limit` is the quota in bytes."""

    status = 413


class Locked(RequestError):
    """Another request is writing to the upload."""

    status = 423


class TooMany(RequestError):
    """The owner has as many uploads or jobs as allowed; `limit` is their number."""

    status = 429
    headers = (("Retry-After", str(BUSY_RETRY_S)),)


class WrongChecksum(RequestError):
    """The bytes received differ from the bytes sent."""

    status = 460  # defined by tus


class Busy(RequestError):
    """Too many requests are waiting."""

    status = 503
    headers = (("Retry-After", str(BUSY_RETRY_S)),)


class StorageFull(RequestError):
    """The disk is full, or its free space is reserved."""

    status = 503
    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        message = "the server's disk is full; try again later, or ask the server's operator for more space"
        super().__init__("storage_full", message)


class StorageFailed(RequestError):
    """The disk can't be written to."""

    status = 503
    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        super().__init__(
            "storage_failed", "the server's disk can't be written to; try again later, or tell the server's operator"
        )


class NoDatabase(RequestError):
    """The database of jobs doesn't respond, or can't be written to."""

    status = 503
    headers = (("Retry-After", str(STORAGE_RETRY_S)),)

    def __init__(self) -> None:
        super().__init__("database_unavailable", "the server's database isn't available; try again later")


class UnknownJob(RequestError):
    """The client has no job, or the job no result, of that name."""

    status = 404


class Gone(RequestError):
    """The results have expired."""

    status = 410


class OutOfRange(RequestError):
    """Range beyond the end of the file; `limit` is the file's size in bytes."""

    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(
            "range_not_satisfiable",
            "Range begins beyond the end of the file; Content-Range has the file's size",
            field="Range",
            limit=size,
        )
        self.headers = (("Content-Range", f"bytes */{size}"),)


class DeadlineExceeded(RequestError):
    """The request took longer than a client may wait."""

    status = 504


class Unavailable(RequestError):
    """The engine or the model isn't available now."""

    status = 503
    headers = (("Retry-After", str(BUSY_RETRY_S)),)
