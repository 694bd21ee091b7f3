"""Jobs: handed over, followed, fetched, called off."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from service.engine.errors import EngineCrashed, ModelGone, OutOfMemory
from service.errors import BadRequest, OutOfRange
from service.http.owner import is_still_admitted, max_jobs_of, owner_of
from service.http.parameters import only
from service.http.routes.common import errors, files, header, json_of, json_schema
from service.http.routes.segmentation import unavailable
from service.jobs.registry import Jobs, Wanted
from service.limits import Limits
from service.media_types import MEDIA_TYPES
from service.schemas import JobAnswer, JobRequest, JobsAnswer
from service.uploads.registry import Uploads

EVENT_S = 0.3  # between two looks
COMMENT_S = 10.0  # without news a comment keeps the connection open
FINISHED = ("done", "failed", "cancelled")

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": JobAnswer,
        "description": "Accepted: files and job are on the disk.",
        "headers": {"Location": header("Where to follow it.")},
    }
}
_REFUSED = errors(404, 408, 409, 413, 415, 422, 503)
_PART = {"schema": {"type": "string", "format": "binary"}}
_KNOWN = {"ETag": header("Of the whole file, its SHA-256."), "Repr-Digest": header("The same, as RFC 9530 has it.")}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": files({*MEDIA_TYPES.values(), "application/octet-stream"}),
        "headers": {**_KNOWN, "Accept-Ranges": header("bytes."), "Content-Digest": header("Of the body, its SHA-256.")},
    },
    206: {
        "description": "The part of it that Range names, or several.",
        "content": dict.fromkeys([*MEDIA_TYPES.values(), "application/octet-stream", "multipart/byteranges"], _PART),
        "headers": _KNOWN,
    },
    304: {"description": "As If-None-Match has it.", "headers": _KNOWN},
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
        "description": "Server-sent events `job`, whose data are what GET /v1/jobs/ID answers.",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
_CALLED_OFF: dict[int | str, dict[str, Any]] = {202: {"description": "Called off; it ends within seconds."}}
_RANGES = re.compile(r"bytes=(?: *(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18}) *(?:,|$))+")


def add_jobs(api: FastAPI, jobs: Jobs, uploads: Uploads, limits: Limits) -> None:
    """The routes of jobs."""
    _add_create(api, jobs, uploads, limits)
    _add_follow(api, jobs)
    _add_results(api, jobs)


def _add_create(api: FastAPI, jobs: Jobs, uploads: Uploads, limits: Limits) -> None:
    @api.post("/v1/jobs", summary="Hand over a job", status_code=202, dependencies=[Depends(only())],
              openapi_extra=json_schema(JobRequest), responses=_ACCEPTED | _REFUSED)  # fmt: skip
    async def create(
        request: Request,
        wanted: Annotated[JobRequest, Depends(json_of(JobRequest, limits))],
        idempotency_key: Annotated[
            str | None,
            Header(
                description="The same job under the same key is accepted once.",
                min_length=1,
                max_length=200,
                pattern="^[!-~]+$",
            ),
        ] = None,
    ) -> Response:
        """Accepts images that were uploaded; the answer comes when the job survives a kill."""
        answer = await run_in_threadpool(_created, jobs, uploads, request, wanted, idempotency_key)
        return JSONResponse(answer.model_dump(mode="json"), 202, {"Location": f"/v1/jobs/{answer.id}"})


def _created(jobs: Jobs, uploads: Uploads, request: Request, wanted: JobRequest, key: str | None) -> JobAnswer:
    owner = owner_of(request)
    files = [uploads.data_of(upload_id, owner) for upload_id in wanted.uploads]
    names = [uploads.find(upload_id, owner).filename for upload_id in wanted.uploads]
    try:
        job_id = jobs.create(Wanted(owner, wanted, files, names, key), max_jobs_of(request))
    except (EngineCrashed, ModelGone, OutOfMemory) as error:
        raise unavailable(error) from error
    return jobs.answer(job_id, owner)


def _add_follow(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs", summary="Your jobs", dependencies=[Depends(only("state", "limit"))], responses=errors())
    def owned(
        request: Request,
        state: Annotated[
            Literal["queued", "running", "done", "failed", "cancelled"] | None, Query(description="Only those.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="Of the newest.")] = 100,
    ) -> JobsAnswer:
        """Newest first."""
        return JobsAnswer(jobs=jobs.owned(owner_of(request), state, limit))

    @api.get("/v1/jobs/{job_id}", summary="How it stands with a job", dependencies=[Depends(only())], responses=errors(404))
    def answer(request: Request, job_id: str) -> JobAnswer:
        """State, progress, place in the queue, what went wrong, and what it made."""
        return jobs.answer(job_id, owner_of(request))

    @api.get("/v1/jobs/{job_id}/events", summary="The same, whenever it changes", dependencies=[Depends(only())],
             response_class=StreamingResponse,
             responses=_EVENTS | errors(404))  # fmt: skip
    async def events(request: Request, job_id: str) -> StreamingResponse:
        """A stream that ends with the job, or with the key."""
        first = await run_in_threadpool(jobs.answer, job_id, owner_of(request))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(jobs, first, request), media_type="text/event-stream", headers=headers)

    @api.delete("/v1/jobs/{job_id}", summary="Call a job off, or forget it", status_code=204,
                dependencies=[Depends(only("keep"))],
                responses=_CALLED_OFF | errors(404, 409))  # fmt: skip
    def end(
        request: Request,
        job_id: str,
        keep: Annotated[bool, Query(description="Only calls off: one that is finished meanwhile stays.")] = False,
    ) -> Response:
        """Calls off one that isn't finished; forgets one that is, with its results."""
        return Response(status_code=202 if jobs.end(job_id, owner_of(request), keep=keep) else 204)


async def _events(jobs: Jobs, answer: JobAnswer, request: Request) -> AsyncIterator[str]:
    told, silent_s = None, 0.0
    while True:
        text = answer.model_dump_json()
        if text != told:
            yield f"event: job\ndata: {text}\n\n"
            told, silent_s = text, 0.0
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


def _add_results(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs/{job_id}/results/{name}", summary="A result", response_class=FileResponse,
             dependencies=[Depends(only())], responses=_FILE | errors(404, 409, 410, 416))  # fmt: skip
    @api.head("/v1/jobs/{job_id}/results/{name}", include_in_schema=False, dependencies=[Depends(only())])
    async def result(request: Request, job_id: str, name: str) -> Response:
        """The file, or the part of it that Range names."""
        path, known = await run_in_threadpool(jobs.result, job_id, owner_of(request), name)
        tag = f'"{known.sha256}"'
        digest = f"sha-256=:{base64.b64encode(bytes.fromhex(known.sha256)).decode()}:"
        headers = {"ETag": tag, "Repr-Digest": digest, "Cache-Control": "private, no-cache"}
        if {tag, "*"} & {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}:
            return Response(status_code=304, headers=headers)
        ranges = request.headers.get("range")
        if ranges is None:  # else the content may be a part of it (RFC 9530)
            headers["Content-Digest"] = digest
        elif request.headers.get("if-range", tag) == tag:
            check_ranges(ranges, known.bytes)
        return FileResponse(path, media_type=known.media_type, filename=known.name, headers=headers)


def check_ranges(ranges: str, size: int) -> None:
    """Passes a Range header that names parts of a file; what is wrong with another, Starlette would say in its own way.

    Raises:
        BadRequest: it isn't one of bytes.
        OutOfRange: a part begins beyond the file's end.
    """
    if not _RANGES.fullmatch(ranges.lower()):
        raise BadRequest("range_invalid", "Range has to be bytes=FIRST-LAST, or several with commas between", field="Range")
    for part in ranges.partition("=")[2].strip(" ,").split(","):
        first, _, last = part.strip().partition("-")
        if (int(first) if first else size - int(last)) >= size:
            raise OutOfRange(size)
        if first and last and int(first) > int(last):
            raise BadRequest("range_invalid", "Range names a part that ends before it begins", field="Range")
