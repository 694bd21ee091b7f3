"""Who asks, for how long, and how much they may keep; whatever checks keys says it in the request's state."""

from starlette.requests import Request

LOCAL = "local"


def owner_of(request: Request) -> str:
    """Whose uploads and jobs the request is about; `local` on a server without keys."""
    return str(getattr(request.state, "owner", LOCAL))


def is_still_admitted(request: Request) -> bool:
    """Whether the request would be let in now, too: its key may have been revoked since, or have expired."""
    return bool(getattr(request.state, "still_admitted", lambda: True)())


def max_stored_bytes_of(request: Request) -> int | None:
    """The most that the owner may keep; None for as much as there is room for."""
    most: int | None = getattr(request.state, "max_stored_bytes", None)
    return most


def max_jobs_of(request: Request) -> int | None:
    """The most jobs that the owner may have waiting and running; None for as many as the queue takes."""
    most: int | None = getattr(request.state, "max_jobs", None)
    return most
