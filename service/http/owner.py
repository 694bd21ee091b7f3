"""Owner of a request and the owner's limits, which access control puts into the request's state."""

from starlette.requests import Request

LOCAL = "local"


def owner_of(request: Request) -> str:
    """Return the owner of the request's uploads and jobs; `local` on a server without keys."""
    return str(getattr(request.state, "owner", LOCAL))


def is_still_admitted(request: Request) -> bool:
    """Return whether the request would be admitted now; its key may have been revoked or have expired."""
    return bool(getattr(request.state, "still_admitted", lambda: True)())


def max_stored_bytes_of(request: Request) -> int | None:
    """Return the owner's quota in bytes; None for no quota."""
    quota_bytes: int | None = getattr(request.state, "max_stored_bytes", None)
    return quota_bytes


def max_jobs_of(request: Request) -> int | None:
    """Return the most jobs that the owner may have waiting and running; None for no limit."""
    max_jobs: int | None = getattr(request.state, "max_jobs", None)
    return max_jobs
