"""Errors of the client: those that the server answers with, and those that only the client can detect."""

import httpx
from pydantic import ValidationError

from configs.errors import CONFIG, DATA, STORAGE, OvertileError
from service.schemas import ErrorAnswer

RETRY_STATUS = (408, 423, 429, 460, 502, 503)  # 460 is tus's: the bytes were changed on their way
USAGE_CODES = (
    "no_such_file",
    "no_inputs",
    "same_stem",
    "url_invalid",
    "parameter_invalid",
    "model_not_found",
    "field_unknown",
)


class ClientError(OvertileError):
    """A request that failed; the message says what to do.

    Args:
        code: stable, for programs: one of the server's, or one of the client's own.
        message: for people.
        status: HTTP status of the answer; None where there was no answer.
        request_id: ID under which the server logged the request.
        retry_s: seconds after which another try may succeed; 0: the server gave no time; None: no try will.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int | None = None,
        request_id: str | None = None,
        *,
        retry_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.retry_s = retry_s

    def __str__(self) -> str:
        """Return the message; where the server itself failed, with the ID to report."""
        is_server_error = self.status is not None and self.status >= 500
        return f"{self.message} (request_id {self.request_id})" if is_server_error and self.request_id else self.message

    @property
    def exit_code(self) -> int:
        """2 for a wrong command, 3 for an image that the server refuses, 6 for what may succeed at another time."""
        if self.code in USAGE_CODES or self.status in (404, 405, 412):
            return CONFIG
        if self.retry_s is not None or (self.status or 0) >= 500 or self.code == "not_overtile":
            return STORAGE
        return DATA if self.status is not None or self.code == "body_empty" else STORAGE


class Unreachable(ClientError):
    """The server didn't answer, or the connection broke off."""


class NotAllowed(ClientError):
    """The server needs a key, or the key doesn't allow the request."""

    exit_code = CONFIG


class TooManyJobs(ClientError):
    """The server's queue is full, or the key has as many jobs as it may have."""


class JobFailed(ClientError):
    """The job failed or was cancelled; `code` is the server's reason."""

    @property
    def exit_code(self) -> int:
        """2 for a wrong command, else 3."""
        return CONFIG if self.code in USAGE_CODES else DATA


class Damaged(ClientError):
    """Bytes that arrived, on either side, differ from those that were sent."""


class UploadHeld(ClientError):
    """Another process of this user is sending the same file."""


def error_of(response: httpx.Response) -> ClientError:
    """Return the error that an unsuccessful response describes; its body has been read."""
    status, retry_s = response.status_code, None
    if status in RETRY_STATUS:
        text = response.headers.get("retry-after", "")
        retry_s = float(text) if text.isascii() and text.isdigit() else 0.0
    try:
        answer = ErrorAnswer.model_validate_json(response.content).error
    except ValidationError:
        message = f"the answer (HTTP {status}) isn't Overtile's; check the address and the proxies on the way to it"
        return ClientError("not_overtile", message, status, retry_s=retry_s)
    if answer.code == "upload_offset_conflict":  # the server notices the rest of a piece that broke off only later
        retry_s = 0.0
    kind = ClientError
    if status in (401, 403):
        kind = NotAllowed
    elif status == 429 and answer.code in ("queue_full", "quota_exceeded"):
        kind = TooManyJobs
    return kind(answer.code, answer.message, status, answer.request_id, retry_s=retry_s)


def unreachable(url: str, error: httpx.RequestError) -> Unreachable:
    """Return the error for a connection that couldn't be made, or broke off."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        message = f"{url} has a certificate that isn't trusted here; name the file of its authority in SSL_CERT_FILE"
        return Unreachable("certificate_not_trusted", message)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        message = f"no server answers at {url}; start one there with overtile serve, or give its address with --url"
        return Unreachable("no_server", message, retry_s=0)
    message = f"the connection to {url} broke off ({type(error).__name__}); the same command continues where it stopped"
    return Unreachable("connection_lost", message, retry_s=0)
