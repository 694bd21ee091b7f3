"""Dependencies of the routes: the server's state, checks of query parameters, and JSON bodies."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

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
from service.uploads.registry import Uploads

Body = TypeVar("Body", bound=BaseModel)

# These functions are async, as FastAPI would run each of the others in a worker thread.


async def limits_of(request: Request) -> ServiceLimits:
    """Return the server's limits."""
    limits: ServiceLimits = request.app.state.limits
    return limits


async def engine_calls_of(request: Request) -> EngineCalls:
    """Return the server's calls to the engine."""
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
    """Return a dependency that refuses unknown query parameters, and parameters that are given twice."""

    async def check_query(request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        if not set(names) <= set(allowed):
            names_allowed = " and ".join(allowed) or "none"
            raise BadRequest("parameter_unknown", f"the query has an unknown parameter; the route takes {names_allowed}")
        for name in allowed:
            if names.count(name) > 1:
                raise BadRequest("parameter_invalid", f"the query has {name} more than once; give it once", field=name)

    return check_query


def json_body(model: type[Body]) -> Callable[[Request, ServiceLimits], Awaitable[Body]]:
    """Return a dependency that reads the request's body as a model, and at most `max_json_bytes` of it.

    Raises:
        UnsupportedBody: the content type isn't JSON.
        BodyTooLarge: more than `max_json_bytes`.
        RequestValidationError: the body isn't JSON, or doesn't fit the model.
    """

    async def read(request: Request, limits: ServerLimits) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            message = "the body has to be JSON; send it with the Content-Type application/json"
            raise UnsupportedBody("content_type_not_supported", message)
        blocks = [block async for block in request_body.capped_blocks(request, limits, setting="max_json_bytes")]
        try:
            return model.model_validate_json(b"".join(blocks))
        except ValidationError as error:
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error

    return read
