"""What goes wrong at the client: what the server said, as it said it, and what only the client can know."""

import httpx
from pydantic import ValidationError

from service.schemas import ErrorAnswer

AGAIN_STATUS = (408, 423, 429, 460, 502, 503)  # 460 is tus's: the bytes were changed on their way


class ClientError(Exception):
    """What was asked for can't be had; the message says what to do.

    Args:
        code: stable, for programs: one of the server's, or one of the client's own.
        message: for people.
        status: of the answer; None where there was none.
        request_id: under which the server wrote it down.
        retry_s: seconds after which it may go well; 0: the server didn't say; None: it won't.
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
        """The message; where the server itself failed, with the ID to report."""
        wanted = self.status is not None and self.status >= 500 and self.request_id
        return f"{self.message} (request_id {self.request_id})" if wanted else self.message


class Unreachable(ClientError):
    """No answer came."""


class NotAllowed(ClientError):
    """No key, or not one for this."""


class TooManyJobs(ClientError):
    """As many as may wait, or as many as the key may have."""


class JobFailed(ClientError):
    """The job came to no results; `code` is the server's reason."""


class Damaged(ClientError):
    """Bytes that arrived, on either side, aren't those that were sent."""


class UploadHeld(ClientError):
    """Another process of this user is sending the same file."""


def error_of(response: httpx.Response) -> ClientError:
    """What an answer that isn't a success says; its body has been read."""
    retry_s = _retry_s(response) if response.status_code in AGAIN_STATUS else None
    try:
        told = ErrorAnswer.model_validate_json(response.content).error
    except ValidationError:
        return _from_elsewhere(response, retry_s)
    if told.code == "upload_offset_conflict":  # what came of a piece that broke off is seen later
        retry_s = 0.0
    return _kind_of(response.status_code, told.code)(
        told.code, told.message, response.status_code, told.request_id, retry_s=retry_s
    )


def unreachable(url: str, error: httpx.RequestError) -> Unreachable:
    """Of a connection that couldn't be made, or broke off."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        message = f"{url} has a certificate that isn't trusted here; name the file of its authority in SSL_CERT_FILE"
        return Unreachable("certificate_not_trusted", message)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        message = f"no server answers at {url}; start one there with overtile serve, or give its address with --url"
        return Unreachable("no_server", message, retry_s=0)
    message = f"the connection to {url} broke off ({type(error).__name__}); the same command goes on where it was"
    return Unreachable("connection_lost", message, retry_s=0)


def _kind_of(status: int, code: str) -> type[ClientError]:
    if status in (401, 403):
        return NotAllowed
    return TooManyJobs if code in ("queue_full", "quota_exceeded") and status == 429 else ClientError


def _from_elsewhere(response: httpx.Response, retry_s: float | None) -> ClientError:
    message = f"the answer (HTTP {response.status_code}) isn't Overtile's; check the address and the proxies on the way to it"
    return ClientError("not_overtile", message, response.status_code, retry_s=retry_s)


def _retry_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
