"""Query parameters: the ones that a route knows, each once."""

from collections.abc import Callable

from fastapi import Request

from service.errors import BadRequest


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
