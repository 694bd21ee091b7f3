"""What the routes share: the errors they document, and bodies of JSON."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from service.errors import UnsupportedBody
from service.http import request_body
from service.limits import Limits
from service.schemas import ErrorAnswer

Body = TypeVar("Body", bound=BaseModel)

_MEANINGS = {
    400: "Broken, or a wrong parameter.",
    401: "No key, or one that isn't valid.",
    403: "The key isn't for this.",
    404: "There is no such thing.",
    408: "The body stopped coming.",
    409: "It stands in another state.",
    410: "Its time is over.",
    412: "Another version of tus; Tus-Version says which is spoken.",
    413: "More bytes or pixels than the limit.",
    415: "Not of a kind that is read here.",
    416: "No such part; Content-Range says how long the whole is.",
    422: "Sound, but not for this.",
    423: "Another request is writing to the upload.",
    429: "Too many requests; Retry-After says when to try again.",
    460: "The body hasn't the checksum that was sent; nothing of it was kept.",
    500: "The server failed.",
    503: "Busy or out of space; Retry-After says when to try again.",
    504: "It took longer than a client may wait.",
}
_OFTEN = (400, 401, 403, 429, 500)  # what every route may answer


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """For OpenAPI: a header that such an answer always has."""
    return {"required": True, "description": description, "schema": {"type": kind}}


def files(media_types: Iterable[str]) -> dict[str, Any]:
    """For OpenAPI: an answer's body that is a file of one of these kinds."""
    binary, json = {"type": "string", "format": "binary"}, {"type": "object"}
    return {kind: {"schema": json if kind.endswith("json") else binary} for kind in sorted(media_types)}


_RETRY = {"Retry-After": header("Seconds.", "integer")}
_HEADERS = {
    401: {"WWW-Authenticate": header("Bearer.")},
    412: {"Tus-Version": header("That is spoken.")},
    416: {"Content-Range": header("The whole's length, as bytes */LENGTH.")},
    429: _RETRY,
    503: _RETRY,
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside its success; those that every route may are among them."""
    return {status: _error(status) for status in sorted({*_OFTEN, *statuses})}


def _error(status: int) -> dict[str, Any]:
    known = {"X-Request-ID": header("For whoever runs the server."), **_HEADERS.get(status, {})}
    return {"model": ErrorAnswer, "description": _MEANINGS[status], "headers": known}


def json_of(model: type[Body], limits: Limits) -> Callable[[Request], Awaitable[Body]]:
    """A dependency: the request's body as a model. Nothing is read beyond the limit, however deep or long it is.

    Raises:
        UnsupportedBody: the body isn't said to be JSON.
        BodyTooLarge: more than `max_json_bytes`.
        RequestValidationError: it isn't JSON, or not the model's.
    """

    async def read(request: Request) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedBody("content_type_not_supported", "the body must be JSON; send it as application/json")
        blocks = [block async for block in request_body.capped_blocks(request, limits, setting="max_json_bytes")]
        try:
            return model.model_validate_json(b"".join(blocks))
        except ValidationError as error:
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error

    return read


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """For OpenAPI: what `json_of` takes."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
