"""Shared by the routes: access to the server's state, query parameters, JSON bodies, and parts of the OpenAPI document."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from service.errors import BadRequest, UnsupportedBody
from service.http import request_body
from service.http.engine_calls import EngineCalls
from service.jobs.creation import JobCreator
from service.jobs.registry import Jobs
from service.limits import ServiceLimits
from service.schemas import ErrorAnswer
from service.uploads.registry import Uploads

Body = TypeVar("Body", bound=BaseModel)

_DESCRIPTIONS = {
    400: "Broken image, or an invalid parameter.",
    401: "Missing or invalid key.",
    403: "The key lacks the scope.",
    404: "There is no such resource.",
    408: "The body stopped coming.",
    409: "The resource is in another state.",
    410: "The results have expired.",
    412: "Unsupported version of tus; Tus-Version has the supported one.",
    413: "More bytes or pixels than the limit.",
    415: "Unsupported file format, content type or encoding.",
    416: "Range beyond the end; Content-Range has the size of the file.",
    422: "Valid image that the model can't use, or options that can't be combined.",
    423: "Another request is writing to the upload.",
    429: "Too many requests; Retry-After says when to try again.",
    460: "The body doesn't have the checksum; nothing of it is kept.",
    500: "The server failed.",
    503: "Busy or out of space; Retry-After says when to try again.",
    504: "It took longer than a client may wait.",
}
_EVERYWHERE = (400, 401, 403, 429, 500)  # statuses of every route


def header(description: str, kind: str = "string") -> dict[str, Any]:
    """Return the OpenAPI description of a header that the answer always has."""
    return {"required": True, "description": description, "schema": {"type": kind}}


def files(media_types: Iterable[str]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that is a file of one of these media types."""
    binary, json = {"type": "string", "format": "binary"}, {"type": "object"}
    return {kind: {"schema": json if kind.endswith("json") else binary} for kind in sorted(media_types)}


_RETRY = {"Retry-After": header("Seconds to wait.", "integer")}
_HEADERS = {
    401: {"WWW-Authenticate": header("Bearer.")},
    412: {"Tus-Version": header("Supported version.")},
    416: {"Content-Range": header("Size of the file, as bytes */SIZE.")},
    429: _RETRY,
    503: _RETRY,
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of a route's errors: these statuses, and those of every route."""
    request_id = {"X-Request-ID": header("ID of the request in the server's log.")}
    return {
        status: {
            "model": ErrorAnswer,
            "description": _DESCRIPTIONS[status],
            "headers": request_id | _HEADERS.get(status, {}),
        }
        for status in sorted({*_EVERYWHERE, *statuses})
    }


# Dependencies are async: FastAPI runs the others in a worker thread each.


async def limits_of(request: Request) -> ServiceLimits:
    """Return the server's limits."""
    limits: ServiceLimits = request.app.state.limits
    return limits


async def engine_calls_of(request: Request) -> EngineCalls:
    """Return the access to the engine."""
    calls: EngineCalls = request.app.state.engine_calls
    return calls


async def uploads_of(request: Request) -> Uploads:
    """Return the server's uploads."""
    uploads: Uploads = request.app.state.uploads
    return uploads


async def jobs_of(request: Request) -> Jobs:
    """Return the server's jobs."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def job_creator_of(request: Request) -> JobCreator:
    """Return the creator of jobs."""
    job_creator: JobCreator = request.app.state.job_creator
    return job_creator


ServerLimits = Annotated[ServiceLimits, Depends(limits_of)]
ServerEngine = Annotated[EngineCalls, Depends(engine_calls_of)]
ServerUploads = Annotated[Uploads, Depends(uploads_of)]
ServerJobs = Annotated[Jobs, Depends(jobs_of)]
ServerJobCreator = Annotated[JobCreator, Depends(job_creator_of)]


def only(*allowed: str) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses other query parameters than those allowed, and any that is given twice."""

    async def check_query(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        if not set(names) <= set(allowed):
            takes = " and ".join(allowed) or "none"
            raise BadRequest("parameter_unknown", f"the query has a parameter that this route doesn't know; it takes {takes}")
        for name in allowed:
            if names.count(name) > 1:
                raise BadRequest("parameter_invalid", f"{name} is given more than once; give it once", field=name)

    return check_query


def json_body(model: type[Body]) -> Callable[[Request, ServiceLimits], Awaitable[Body]]:
    """Return a dependency that reads the request's body as a model, and never more than `max_json_bytes` of it.

    Raises:
        UnsupportedBody: the content type isn't JSON.
        BodyTooLarge: more than `max_json_bytes`.
        RequestValidationError: the body isn't JSON, or doesn't fit the model.
    """

    async def read(request: Request, limits: ServerLimits) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedBody("content_type_not_supported", "the body must be JSON; send it as application/json")
        blocks = [block async for block in request_body.capped_blocks(request, limits, setting="max_json_bytes")]
        try:
            return model.model_validate_json(b"".join(blocks))
        except ValidationError as error:
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error

    return read


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that `json_body` reads."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
