"""Parts of the OpenAPI document that the routes share: errors, headers and bodies."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from service.schemas import ErrorAnswer

BINARY = {"schema": {"type": "string", "format": "binary"}}

_DESCRIPTIONS = {
    400: "A parameter is invalid, or the image is broken.",
    401: "The key is missing or invalid.",
    403: "The key lacks the scope of the route.",
    404: "There is no such resource.",
    408: "The body stopped arriving, or arrives too slowly.",
    409: "The state of the resource doesn't allow the request; `code` says why.",
    410: "The results have expired.",
    412: "The version of tus isn't supported; Tus-Version has the supported one.",
    413: "The body or the image is larger than `limit`.",
    415: "The file format, content type or encoding isn't supported.",
    416: "Range begins beyond the end of the file; Content-Range has the file's size.",
    422: "The image is valid but doesn't suit the model, or the options can't be combined.",
    423: "Another request is writing to the upload.",
    429: "Too many requests, uploads or jobs; Retry-After says when to try again.",
    460: "The body doesn't match its checksum; nothing of it was kept.",
    500: "The server failed; name the request_id when you report it.",
    503: "The server is busy, or its disk is full; Retry-After says when to try again.",
    504: "The image takes longer than a direct call may; send it as a job.",
}
_EVERYWHERE = (400, 401, 403, 429, 500)  # statuses of every route


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """Return the description of a header that the answer always has."""
    return {"required": True, "description": description, "schema": {"type": kind}}


_RETRY = {"Retry-After": header("Seconds to wait before the next attempt.", "integer")}
_HEADERS = {
    401: {"WWW-Authenticate": header("Always Bearer.")},
    412: {"Tus-Version": header("Supported version.")},
    416: {"Content-Range": header("Size of the file, as bytes */SIZE.")},
    429: _RETRY,
    503: _RETRY,
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of a route's errors: these statuses, and those of every route."""
    request_id = {"X-Request-ID": header("ID of the request in the server's log.")}
    return {
        status: {
            "model": ErrorAnswer,
            "description": _DESCRIPTIONS[status],
            "headers": request_id | _HEADERS.get(status, {}),
        }
        for status in sorted({*_EVERYWHERE, *statuses})
    }


def files(media_types: Iterable[str]) -> dict[str, Any]:
    """Return the description of a body that is a file of one of these media types."""
    return {kind: {"schema": {"type": "object"}} if kind.endswith("json") else BINARY for kind in sorted(media_types)}


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a body that `dependencies.json_body` reads."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
