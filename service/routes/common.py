"""What the routes share: the errors they document, the parameters they take, who asks."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from service.answers import ErrorAnswer
from service.errors import BadRequest

_MEANINGS = {
    400: "Broken, or a wrong parameter.",
    401: "No key, or one that isn't valid.",
    403: "The key isn't for this.",
    404: "There is no such thing.",
    408: "The body stopped coming.",
    409: "It stands in another state.",
    410: "Its time is over.",
    413: "More bytes or pixels than the limit.",
    415: "Not of a kind that is read here.",
    422: "Sound, but not for this.",
    429: "Too many requests; Retry-After says when to try again.",
    500: "The server failed.",
    503: "Busy or out of space; Retry-After says when to try again.",
    504: "It took longer than a client may wait.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its success; those that every route may are among them."""
    return {
        status: {"model": ErrorAnswer, "description": _MEANINGS[status]}
        for status in sorted({400, 401, 403, 429, 500, *statuses})
    }


def only(*allowed: str) -> Callable[[Request], None]:
    """A dependency that refuses every other query parameter, and any given twice."""

    def check(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        if not set(names) <= set(allowed):
            takes = " and ".join(allowed) or "none"
            raise BadRequest("parameter_unknown", f"the query has a parameter that this route doesn't know; it takes {takes}")
        for name in allowed:
            if names.count(name) > 1:
                raise BadRequest("parameter_invalid", f"{name} is given more than once; give it once", field=name)

    return check


def owner_of(request: Request) -> str:
    """Whose key it is; `local` where there are no keys."""
    return str(getattr(request.state, "owner", "local"))


def quota_of(request: Request, name: str) -> int | None:
    """What the key may have at most; None: no limit of its own."""
    found = getattr(request.state, name, None)
    return None if found is None else int(found)
