"""Routes of jobs: create, list, follow, cancel, and fetch results."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.engine.errors import EngineCrashed, ModelGone, OutOfMemory
from service.errors import BadRequest, OutOfRange
from service.http.access import is_still_admitted, max_jobs_of, owner_of
from service.http.engine_calls import unavailable
from service.http.routes.dependencies import ServerJobCreator, ServerJobs, ServerUploads, json_body, only
from service.http.routes.openapi import BINARY, errors, files, header, json_schema
from service.jobs.creation import Submission
from service.jobs.registry import Jobs
from service.schemas import MEDIA_TYPES, JobAnswer, JobRequest, JobsAnswer

EVENT_S = 0.3  # between two checks for a change
COMMENT_S = 10.0  # after so long without an event, a comment keeps the connection open
FINISHED = ("done", "failed", "cancelled")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobAnswer,
        "description": "The job is queued, and survives a restart of the server.",
        "headers": {"Location": header("URL of the job.")},
    }
}
_CREATE_ERRORS = errors(404, 408, 409, 413, 415, 422, 503)
_FILE_HEADERS = {"ETag": header("SHA-256 of the whole file."), "Repr-Digest": header("SHA-256 of the whole file (RFC 9530).")}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": files({*MEDIA_TYPES.values(), "application/octet-stream"}),
        "headers": {**_FILE_HEADERS, "Accept-Ranges": header("bytes."), "Content-Digest": header("SHA-256 of the body.")},
    },
    206: {
        "description": "The requested ranges of the file.",
        "content": dict.fromkeys([*MEDIA_TYPES.values(), "application/octet-stream", "multipart/byteranges"], BINARY),
        "headers": _FILE_HEADERS,
    },
    304: {"description": "The file has the ETag in If-None-Match.", "headers": _FILE_HEADERS},
}
_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"const": "job"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobAnswer"},
        },
    },
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events named `job`; their data are the answer of GET /v1/jobs/ID.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
_CANCELLED: dict[int | str, dict[str, Any]] = {202: {"description": "The job is cancelled, and ends within seconds."}}
_RANGES = re.compile(r"bytes=(?: *(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18}) *(?:,|$))+")


router = APIRouter()


@router.post("/v1/jobs", summary="Create a job", status_code=202, dependencies=[Depends(only())],
             openapi_extra=json_schema(JobRequest), responses=_ACCEPTED | _CREATE_ERRORS)  # fmt: skip
async def create(
    request: Request,
    body: Annotated[JobRequest, Depends(json_body(JobRequest))],
    jobs: ServerJobs,
    job_creator: ServerJobCreator,
    uploads: ServerUploads,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Key of your choice; requests with the same key create one job.",
            min_length=1,
            max_length=200,
            pattern="^[!-~]+$",
        ),
    ] = None,
) -> Response:
    """Create a job for an uploaded image; its files are checked before the answer is sent."""
    owner, max_jobs = owner_of(request), max_jobs_of(request)

    def create_job() -> JobAnswer:
        files = [uploads.data_of(upload_id, owner) for upload_id in body.uploads]
        names = [uploads.find(upload_id, owner).filename for upload_id in body.uploads]
        job_id = job_creator.create(Submission(owner, body, files, names, idempotency_key), max_jobs)
        return jobs.answer(job_id, owner)

    try:
        answer = await run_in_threadpool(create_job)
    except (EngineCrashed, ModelGone, OutOfMemory) as error:
        raise unavailable(error) from error
    return JSONResponse(answer.model_dump(mode="json"), 202, {"Location": f"/v1/jobs/{answer.id}"})


@router.get(
    "/v1/jobs", name="owned", summary="List your jobs", dependencies=[Depends(only("state", "limit"))], responses=errors()
)
def list_jobs(
    request: Request,
    jobs: ServerJobs,
    state: Annotated[
        Literal["queued", "running", "done", "failed", "cancelled"] | None, Query(description="Only jobs in this state.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Largest number of jobs to return.")] = 100,
) -> JobsAnswer:
    """Return the newest jobs of your key, newest first."""
    return JobsAnswer(jobs=jobs.answers(owner_of(request), state, limit))


@router.get("/v1/jobs/{job_id}", name="answer", summary="Get the state of a job", dependencies=[Depends(only())],
            responses=errors(404))  # fmt: skip
def job_status(request: Request, jobs: ServerJobs, job_id: str) -> JobAnswer:
    """Return a job's state, progress, position in the queue, error and results."""
    return jobs.answer(job_id, owner_of(request))


@router.get("/v1/jobs/{job_id}/events", summary="Follow a job as server-sent events", dependencies=[Depends(only())],
            response_class=StreamingResponse, responses=_EVENTS | errors(404))  # fmt: skip
async def events(request: Request, jobs: ServerJobs, job_id: str) -> StreamingResponse:
    """Send the state of a job whenever it changes, until the job ends or the key is no longer valid."""
    answer = await run_in_threadpool(jobs.answer, job_id, owner_of(request))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(event_stream(jobs, answer, request), media_type="text/event-stream", headers=headers)


@router.delete("/v1/jobs/{job_id}", name="end", summary="Cancel or delete a job", status_code=204,
               dependencies=[Depends(only("keep"))], responses=_CANCELLED | errors(404, 409))  # fmt: skip
def end_job(
    request: Request,
    jobs: ServerJobs,
    job_id: str,
    keep: Annotated[bool, Query(description="Keep a job that has finished in the meantime, and answer 409.")] = False,
) -> Response:
    """Cancel an unfinished job; delete a finished one with its results."""
    is_cancelled = jobs.end(job_id, owner_of(request), keep=keep)
    return Response(status_code=202 if is_cancelled else 204)


@router.get("/v1/jobs/{job_id}/results/{name}", summary="Download a result", response_class=FileResponse,
            dependencies=[Depends(only())], responses=_FILE | errors(404, 409, 410, 416))  # fmt: skip
@router.head("/v1/jobs/{job_id}/results/{name}", include_in_schema=False, dependencies=[Depends(only())])
async def result(request: Request, jobs: ServerJobs, job_id: str, name: str) -> Response:
    """Return a result file, or the ranges of it in the header Range."""
    path, answer = await run_in_threadpool(jobs.result, job_id, owner_of(request), name)
    tag = f'"{answer.sha256}"'
    digest = f"sha-256=:{base64.b64encode(bytes.fromhex(answer.sha256)).decode()}:"
    headers = {"ETag": tag, "Repr-Digest": digest, "Cache-Control": "private, no-cache"}
    if {tag, "*"} & {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    ranges = request.headers.get("range")
    if ranges is None:  # otherwise the content may be a part of the file (RFC 9530)
        headers["Content-Digest"] = digest
    elif request.headers.get("if-range", tag) == tag:
        check_ranges(ranges, answer.bytes)
    return FileResponse(path, media_type=answer.media_type, filename=answer.name, headers=headers)


async def event_stream(jobs: Jobs, answer: JobAnswer, request: Request) -> AsyncIterator[str]:
    """Yield a server-sent event for each change of a job, until it is finished or the key is no longer valid."""
    last, silent_s = None, 0.0
    while True:
        text = answer.model_dump_json()
        if text != last:
            yield f"event: job\ndata: {text}\n\n"
            last, silent_s = text, 0.0
        elif silent_s > COMMENT_S:
            yield ": still here\n\n"
            silent_s = 0.0
        if answer.state in FINISHED:
            return
        await asyncio.sleep(EVENT_S)
        silent_s += EVENT_S
        if not is_still_admitted(request):
            return
        answer = await run_in_threadpool(jobs.answer, answer.id, owner_of(request))


def check_ranges(ranges: str, size: int) -> None:
    """Check a Range header against the file's size; Starlette would report errors in another shape.

    Raises:
        BadRequest: the header isn't a list of byte ranges.
        OutOfRange: a range begins beyond the file's end.
    """
    if not _RANGES.fullmatch(ranges.lower()):
        raise BadRequest(
            "range_invalid", "Range has to be bytes=FIRST-LAST, or several ranges separated by commas", field="Range"
        )
    for part in ranges.partition("=")[2].strip(" ,").split(","):
        first, _, last = part.strip().partition("-")
        if (int(first) if first else size - int(last)) >= size:
            raise OutOfRange(size)
        if first and last and int(first) > int(last):
            raise BadRequest(
                "range_invalid",
                "Range has a range that ends before it begins; send FIRST-LAST with FIRST up to LAST",
                field="Range",
            )
