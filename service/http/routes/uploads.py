"""Routes of uploads: tus 1.0.0, a plain PUT, and a form."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.http import request_body
from service.http.access import max_stored_bytes_of, owner_of
from service.http.forms import OVERHEAD_BYTES, FormParser
from service.http.routes.dependencies import ServerLimits, ServerUploads, only
from service.http.routes.upload_headers import (
    CAPABILITIES,
    CREATED,
    PATCH_BODY,
    POST_BODY,
    PUT_BODY,
    STATE,
    AppendHeaders,
    ContentDigest,
    CreationHeaders,
    FileSha256,
    TusVersion,
    responses,
)
from service.limits import ServiceLimits
from service.schemas import UploadAnswer
from service.uploads import tus
from service.uploads.checksums import UploadedChecksum, sha256_of_headers
from service.uploads.registry import Upload, Uploads


class TusRoute(APIRoute):
    """Route that adds the header Tus-Resumable to every answer, also to errors."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = tus.VERSION
            await send(message)

        await super().handle(scope, receive, send_with_version)


class MethodNotAllowed:
    """ASGI app that answers 405 with all methods of a path in Allow; Starlette would name only those of the first route."""

    def __init__(self, allowed: str) -> None:
        self._headers = {"Allow": allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse one request."""
        raise HTTPException(405, headers=self._headers)


def other_methods() -> list[Route]:
    """Return the routes that refuse the methods that uploads don't have; add them after all others."""
    return [
        Route("/v1/uploads", MethodNotAllowed("OPTIONS, POST, PUT"), include_in_schema=False),
        Route("/v1/uploads/{upload_id}", MethodNotAllowed("DELETE, GET, HEAD, PATCH"), include_in_schema=False),
    ]


router = APIRouter(route_class=TusRoute, dependencies=[Depends(only())])


@router.options(
    "/v1/uploads", summary="Get the supported extensions of tus", status_code=204, responses=responses(204, CAPABILITIES)
)
def options(limits: ServerLimits) -> Response:
    """Return the supported version, extensions, file size and checksum algorithms of tus in headers."""
    return Response(status_code=204, headers=tus.capabilities(limits))


@router.post("/v1/uploads", summary="Create an upload, or upload a form", status_code=201, response_model=UploadAnswer,
             responses=responses(201, CREATED, 408, 412, 413, 415, 460, 503),
             openapi_extra=POST_BODY)  # fmt: skip
async def create(
    request: Request,
    uploads: ServerUploads,
    limits: ServerLimits,
    headers: Annotated[CreationHeaders, Depends()],
) -> Response:
    """Create a tus upload of Upload-Length bytes and append the body to it; or upload one file as a form."""
    if request_body.is_form(request):
        await tus.check_version_if_any(request)
        return creation_response(await receive_form(request, uploads, limits, headers.x_content_sha256))
    await tus.check_version(request)
    return creation_response(await create_resumable(request, uploads, limits))


@router.put("/v1/uploads", summary="Upload a file as the body", status_code=201, response_model=UploadAnswer,
            responses=responses(201, CREATED, 408, 412, 413, 415, 503), openapi_extra=PUT_BODY,
            dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
async def put(
    request: Request,
    uploads: ServerUploads,
    limits: ServerLimits,
    content_digest: ContentDigest = None,
    x_content_sha256: FileSha256 = None,
) -> Response:
    """Upload a whole file in one request; if the request breaks off, its bytes are discarded."""
    request_body.refuse_form(request)
    return creation_response(await receive_body(request, uploads, limits, sha256_of_headers(content_digest, x_content_sha256)))


@router.head("/v1/uploads/{upload_id}", summary="Get the offset of an upload", responses=responses(200, STATE, 404, 412),
             response_class=Response, dependencies=[Depends(tus.check_version)])  # fmt: skip
def head(request: Request, uploads: ServerUploads, upload_id: str, tus_resumable: TusVersion = None) -> Response:
    """Return the state of an upload in headers; continue sending from Upload-Offset."""
    upload = uploads.find(upload_id, owner_of(request))
    return Response(headers=tus.state_of(upload) | tus.metadata_of(upload))


@router.patch("/v1/uploads/{upload_id}", summary="Append to an upload", status_code=204,
              responses=responses(204, STATE, 404, 408, 409, 412, 413, 415, 423, 460, 503),
              openapi_extra=PATCH_BODY, dependencies=[Depends(tus.check_version), Depends(AppendHeaders)])  # fmt: skip
async def patch(request: Request, uploads: ServerUploads, limits: ServerLimits, upload_id: str) -> Response:
    """Append the body to an upload; if the request breaks off, the received bytes stay unless they have a checksum."""
    tus.check_type(request)
    upload = await append(request, uploads, limits, upload_id, tus.offset_of(request))
    return Response(status_code=204, headers=tus.state_of(upload))


@router.get("/v1/uploads/{upload_id}", summary="Get the state of an upload", responses=responses(200, {}, 404, 412),
            dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
def get(request: Request, response: Response, uploads: ServerUploads, upload_id: str) -> UploadAnswer:
    """Return the number of received bytes, and the SHA-256 of a complete upload."""
    response.headers["Cache-Control"] = "no-store"
    return upload_answer(uploads.find(upload_id, owner_of(request)))


@router.delete("/v1/uploads/{upload_id}", summary="Delete an upload", status_code=204,
               responses=responses(204, {}, 404, 412, 423), dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
def delete(request: Request, uploads: ServerUploads, upload_id: str) -> Response:
    """Delete an upload; jobs that use its file keep it."""
    uploads.delete(upload_id, owner_of(request))
    return Response(status_code=204)


async def create_resumable(request: Request, uploads: Uploads, limits: ServiceLimits) -> Upload:
    """Create an upload and append the body, if there is one; delete the upload if that fails, as nobody knows its ID."""
    length, filename, owner = tus.length_of(request), tus.filename_of(request), owner_of(request)
    if length > limits.max_upload_bytes:
        raise request_body.body_too_large(limits, "max_upload_bytes")
    has_body = request_body.length_of(request) != 0 and not {"content-length", "transfer-encoding"}.isdisjoint(request.headers)
    if has_body:
        tus.check_type(request)
    quota_bytes = max_stored_bytes_of(request)
    upload = await run_in_threadpool(uploads.create, owner, length, filename=filename, max_stored_bytes=quota_bytes)
    if not has_body:
        return upload
    try:
        return await append(request, uploads, limits, upload.upload_id, 0)
    except BaseException:
        await run_in_threadpool(uploads.delete, upload.upload_id, owner)
        raise


async def append(request: Request, uploads: Uploads, limits: ServiceLimits, upload_id: str, offset: int) -> Upload:
    """Write the body at `offset` of an upload, and return its new state."""
    checksum = request.headers.get("upload-checksum")
    expected = UploadedChecksum(checksum) if checksum is not None else None
    resumed = await run_in_threadpool(uploads.resume, upload_id, owner_of(request), offset)
    try:
        resumed.check_length(request_body.length_of(request) or 0)
        resumed.checksum = expected
        async for block in request_body.blocks(request, limits):
            await run_in_threadpool(resumed.write, block)
        await run_in_threadpool(resumed.finish)
    finally:
        await run_in_threadpool(resumed.release)
    return await run_in_threadpool(uploads.find, upload_id, owner_of(request))


async def receive_body(request: Request, uploads: Uploads, limits: ServiceLimits, sha256: bytes | None) -> Upload:
    """Write the body as a new upload, which is deleted if that fails."""
    request_body.check_length(request, limits, setting="max_upload_bytes")
    length, owner = request_body.length_of(request), owner_of(request)
    incoming = await run_in_threadpool(uploads.begin, owner, length, max_stored_bytes=max_stored_bytes_of(request))
    try:
        async for block in request_body.capped_blocks(request, limits, setting="max_upload_bytes"):
            await run_in_threadpool(incoming.write, block)
        await run_in_threadpool(incoming.finish, None, sha256)
    finally:
        await run_in_threadpool(incoming.release)
    return await run_in_threadpool(uploads.find, incoming.upload_id, owner)


async def receive_form(request: Request, uploads: Uploads, limits: ServiceLimits, x_content_sha256: str | None) -> Upload:
    """Write the file of a form as a new upload, which is deleted if that fails."""
    sha256 = sha256_of_headers(None, x_content_sha256)
    request_body.check_length(request, limits, setting="max_upload_bytes", more_bytes=OVERHEAD_BYTES)
    length, owner = request_body.length_of(request), owner_of(request)
    least_bytes = max(length - OVERHEAD_BYTES, 0) if length is not None else None
    incoming = await run_in_threadpool(uploads.begin, owner, least_bytes, max_stored_bytes=max_stored_bytes_of(request))
    try:
        form = FormParser(request.headers["content-type"], incoming.write)
        async for block in request_body.capped_blocks(request, limits, setting="max_upload_bytes", more_bytes=OVERHEAD_BYTES):
            await run_in_threadpool(form.feed, block)
            if incoming.size_bytes > limits.max_upload_bytes:
                raise request_body.body_too_large(limits, "max_upload_bytes")
        form.finish()
        await run_in_threadpool(incoming.finish, form.filename, sha256)
    finally:
        await run_in_threadpool(incoming.release)
    return await run_in_threadpool(uploads.find, incoming.upload_id, owner)


def creation_response(upload: Upload) -> JSONResponse:
    """Return the answer to a request that created an upload."""
    headers = tus.state_of(upload) | {"Location": f"/v1/uploads/{upload.upload_id}"}
    return JSONResponse(upload_answer(upload).model_dump(mode="json"), 201, headers)


def upload_answer(upload: Upload) -> UploadAnswer:
    """Return an upload as clients see it."""
    return UploadAnswer(
        id=upload.upload_id,
        bytes=upload.size_bytes,
        received=upload.received_bytes,
        complete=upload.complete,
        sha256=upload.sha256,
        filename=upload.filename,
        expires_at=datetime.fromtimestamp(int(upload.expires_at), UTC),
    )
