"""The routes of uploads: tus 1.0.0, a plain PUT, a form; thin: headers in, blocks to the disk, headers out."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import WithJsonSchema
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.http import request_body
from service.http.forms import OVERHEAD_BYTES, OneFile
from service.http.owner import max_stored_bytes_of, owner_of
from service.http.parameters import only
from service.http.routes.common import errors, header
from service.limits import Limits
from service.schemas import UploadAnswer
from service.uploads import tus
from service.uploads.checksums import SentChecksum, sha256_of_headers
from service.uploads.registry import Upload, Uploads

_VERSION = {"Tus-Resumable": header("The version of tus that is spoken.")}
_STATE = {
    "Upload-Offset": header("Where sending goes on.", "integer"),
    "Upload-Length": header("Of the whole file.", "integer"),
    "Upload-Expires": header("When the server forgets it, unless more of it comes."),
}
_CREATED = {"Location": header("The upload's."), **_STATE}
_CAPABILITIES = {
    "Tus-Version": header("Versions that are spoken."),
    "Tus-Extension": header("What of tus is there."),
    "Tus-Max-Size": header("Most bytes of a file.", "integer"),
    "Tus-Checksum-Algorithm": header("For Upload-Checksum."),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary", "description": "The image file; a form has one."}},
        "additionalProperties": False,
    }
}


def _text(description: str, pattern: str = "") -> WithJsonSchema:
    """How a header is documented; what is wrong with it we say ourselves."""
    return WithJsonSchema({"type": "string", "description": description, **({"pattern": pattern} if pattern else {})})


_Version = Annotated[str | None, Header(alias="Tus-Resumable"), _text("1.0.0", r"^1\.0\.0$")]
_Length = Annotated[str | None, Header(alias="Upload-Length"), _text("Bytes of the whole file.", "^[1-9][0-9]{0,17}$")]
_Offset = Annotated[
    str | None, Header(alias="Upload-Offset"), _text("Where the upload ends: the body goes there.", "^[0-9]{1,18}$")
]
_Metadata = Annotated[
    str | None,
    Header(alias="Upload-Metadata"),
    _text("Name and base64; other keys are left.", "^filename ([A-Za-z0-9+/]{4})+$"),
]
_Checksum = Annotated[
    str | None,
    Header(alias="Upload-Checksum"),
    _text("Of the body, base64.", "^(sha256|sha1) [A-Za-z0-9+/]+=$"),
]
_Digest = Annotated[
    str | None,
    Header(alias="Content-Digest"),
    _text("Of the body (RFC 9530), sha-256=:BASE64:; those by other algorithms aren't compared."),
]
_Sha256 = Annotated[str | None, Header(alias="X-Content-SHA256"), _text("Of the file, hexadecimal.", "^[0-9a-fA-F]{64}$")]


class _TusRoute(APIRoute):
    """Every answer says which version of tus is spoken, errors too."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = tus.VERSION
            await send(message)

        await super().handle(scope, receive, send_with_version)


class _OtherMethods:
    """Where none of the methods of a place was asked for: says all of them, not those of its first route."""

    def __init__(self, allowed: str) -> None:
        self._headers = {"Allow": allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(405, headers=self._headers)


def add_uploads(api: FastAPI, uploads: Uploads, limits: Limits) -> None:
    """Adds /v1/uploads and what is under it."""
    router = APIRouter(route_class=_TusRoute, dependencies=[Depends(only())])
    _add_options(router, limits)
    _add_post(router, uploads, limits)
    _add_put(router, uploads, limits)
    _add_head(router, uploads)
    _add_patch(router, uploads, limits)
    _add_get(router, uploads)
    _add_delete(router, uploads)
    api.include_router(router)
    for place, allowed in (("/v1/uploads", "OPTIONS, POST, PUT"), ("/v1/uploads/{upload_id}", "DELETE, GET, HEAD, PATCH")):
        api.router.routes.append(Route(place, _OtherMethods(allowed), include_in_schema=False))


def _add_options(router: APIRouter, limits: Limits) -> None:
    @router.options("/v1/uploads", summary="What of tus is spoken", status_code=204, responses=_answers(204, _CAPABILITIES))
    def options() -> Response:
        """Version, extensions, the largest file and the checksums, in headers."""
        return Response(status_code=204, headers=tus.capabilities(limits))


def _add_post(router: APIRouter, uploads: Uploads, limits: Limits) -> None:
    body = {"required": False, "content": {"multipart/form-data": _FORM, tus.PATCH_TYPE: _BINARY}}

    @router.post("/v1/uploads", summary="Begins an upload, or takes a form", status_code=201, response_model=UploadAnswer,
                 responses=_answers(201, _CREATED, 408, 412, 413, 415, 460, 503),
                 openapi_extra={"requestBody": body})  # fmt: skip
    async def create(
        request: Request,
        tus_resumable: _Version = None,
        upload_length: _Length = None,
        upload_metadata: _Metadata = None,
        upload_checksum: _Checksum = None,
        x_content_sha256: _Sha256 = None,
    ) -> Response:
        """With Upload-Length begins a tus upload, and takes what of the file is in the body; or takes a form with one file."""
        if request_body.is_form(request):
            tus.check_version_if_any(request)
            return _created(await _take_form(request, uploads, limits, x_content_sha256))
        tus.check_version(request)
        return _created(await _begin(request, uploads, limits))


def _add_put(router: APIRouter, uploads: Uploads, limits: Limits) -> None:
    body = {"required": True, "content": {"application/octet-stream": _BINARY}}

    @router.put("/v1/uploads", summary="Takes a file as the body", status_code=201, response_model=UploadAnswer,
                responses=_answers(201, _CREATED, 408, 412, 413, 415, 503), openapi_extra={"requestBody": body},
                dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
    async def put(request: Request, content_digest: _Digest = None, x_content_sha256: _Sha256 = None) -> Response:
        """The whole file in one request; nothing of it stays when the request breaks off."""
        request_body.refuse_form(request)
        sha256 = sha256_of_headers(content_digest, x_content_sha256)
        return _created(await _take_body(request, uploads, limits, sha256))


def _add_head(router: APIRouter, uploads: Uploads) -> None:
    @router.head("/v1/uploads/{upload_id}", summary="How far an upload has come", responses=_answers(200, _STATE, 404, 412),
                 response_class=Response, dependencies=[Depends(tus.check_version)])  # fmt: skip
    def head(request: Request, upload_id: str, tus_resumable: _Version = None) -> Response:
        """Upload-Offset says where to send on from."""
        upload = uploads.find(upload_id, owner_of(request))
        return Response(headers=tus.state_of(upload) | tus.metadata_of(upload))


def _add_patch(router: APIRouter, uploads: Uploads, limits: Limits) -> None:
    body = {"required": True, "content": {tus.PATCH_TYPE: _BINARY}}

    @router.patch("/v1/uploads/{upload_id}", summary="Sends more of a file", status_code=204,
                  responses=_answers(204, _STATE, 404, 408, 409, 412, 413, 415, 423, 460, 503),
                  openapi_extra={"requestBody": body}, dependencies=[Depends(tus.check_version)])  # fmt: skip
    async def patch(
        request: Request,
        upload_id: str,
        tus_resumable: _Version = None,
        upload_offset: _Offset = None,
        upload_checksum: _Checksum = None,
    ) -> Response:
        """What came stays when the request breaks off, unless there was a checksum to compare it with."""
        tus.check_type(request)
        upload = await _append(request, uploads, limits, upload_id, tus.offset_of(request))
        return Response(status_code=204, headers=tus.state_of(upload))


def _add_get(router: APIRouter, uploads: Uploads) -> None:
    @router.get("/v1/uploads/{upload_id}", summary="What is known of an upload", responses=_answers(200, {}, 404, 412),
                dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
    def get(request: Request, response: Response, upload_id: str) -> UploadAnswer:
        """How much of it has come, and its SHA-256 once all has."""
        response.headers["Cache-Control"] = "no-store"
        return _answer(uploads.find(upload_id, owner_of(request)))


def _add_delete(router: APIRouter, uploads: Uploads) -> None:
    @router.delete("/v1/uploads/{upload_id}", summary="Forgets an upload", status_code=204,
                   responses=_answers(204, {}, 404, 412, 423), dependencies=[Depends(tus.check_version_if_any)])  # fmt: skip
    def delete(request: Request, upload_id: str) -> Response:
        """Jobs that use it keep its file."""
        uploads.delete(upload_id, owner_of(request))
        return Response(status_code=204)


async def _begin(request: Request, uploads: Uploads, limits: Limits) -> Upload:
    """A new upload; when it fails to take what is in the body, it goes again: nobody would know its ID."""
    length, filename, owner = tus.length_of(request), tus.filename_of(request), owner_of(request)
    if length > limits.max_upload_bytes:
        raise request_body.body_too_large(limits, "max_upload_bytes")
    has_body = request_body.length_of(request) != 0 and not {"content-length", "transfer-encoding"}.isdisjoint(request.headers)
    if has_body:
        tus.check_type(request)
    most = max_stored_bytes_of(request)
    upload = await run_in_threadpool(uploads.create, owner, length, filename=filename, max_stored_bytes=most)
    if not has_body:
        return upload
    try:
        return await _append(request, uploads, limits, upload.upload_id, 0)
    except BaseException:
        await run_in_threadpool(uploads.delete, upload.upload_id, owner)
        raise


async def _append(request: Request, uploads: Uploads, limits: Limits, upload_id: str, offset: int) -> Upload:
    checksum = request.headers.get("upload-checksum")
    sent = SentChecksum(checksum) if checksum is not None else None
    resumed = await run_in_threadpool(uploads.resume, upload_id, owner_of(request), offset)
    try:
        resumed.check_length(request_body.length_of(request) or 0)
        resumed.checksum = sent
        async for block in request_body.blocks(request, limits):
            await run_in_threadpool(resumed.write, block)
        await run_in_threadpool(resumed.finish)
    finally:
        await run_in_threadpool(resumed.release)
    return await run_in_threadpool(uploads.find, upload_id, owner_of(request))


async def _take_body(request: Request, uploads: Uploads, limits: Limits, sha256: bytes | None) -> Upload:
    request_body.check_length(request, limits, setting="max_upload_bytes")
    length, owner = request_body.length_of(request), owner_of(request)
    fresh = await run_in_threadpool(uploads.begin, owner, length, max_stored_bytes=max_stored_bytes_of(request))
    try:
        async for block in request_body.capped_blocks(request, limits, setting="max_upload_bytes"):
            await run_in_threadpool(fresh.write, block)
        await run_in_threadpool(fresh.finish, None, sha256)
    finally:
        await run_in_threadpool(fresh.release)
    return await run_in_threadpool(uploads.find, fresh.upload_id, owner)


async def _take_form(request: Request, uploads: Uploads, limits: Limits, x_content_sha256: str | None) -> Upload:
    sha256 = sha256_of_headers(None, x_content_sha256)
    request_body.check_length(request, limits, setting="max_upload_bytes", more_bytes=OVERHEAD_BYTES)
    length, owner = request_body.length_of(request), owner_of(request)
    at_least = max(length - OVERHEAD_BYTES, 0) if length is not None else None
    fresh = await run_in_threadpool(uploads.begin, owner, at_least, max_stored_bytes=max_stored_bytes_of(request))
    try:
        form = OneFile(request.headers["content-type"], fresh.write)
        async for block in request_body.capped_blocks(request, limits, setting="max_upload_bytes", more_bytes=OVERHEAD_BYTES):
            await run_in_threadpool(form.feed, block)
            if fresh.size_bytes > limits.max_upload_bytes:
                raise request_body.body_too_large(limits, "max_upload_bytes")
        form.finish()
        await run_in_threadpool(fresh.finish, form.filename, sha256)
    finally:
        await run_in_threadpool(fresh.release)
    return await run_in_threadpool(uploads.find, fresh.upload_id, owner)


def _created(upload: Upload) -> JSONResponse:
    headers = tus.state_of(upload) | {"Location": f"/v1/uploads/{upload.upload_id}"}
    return JSONResponse(_answer(upload).model_dump(mode="json"), 201, headers)


def _answer(upload: Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.upload_id,
        bytes=upload.size_bytes,
        received=upload.received_bytes,
        complete=upload.complete,
        sha256=upload.sha256,
        filename=upload.filename,
        expires_at=datetime.fromtimestamp(int(upload.expires_at), UTC),
    )


def _answers(success: int, headers: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: what a route may answer. Every answer of its own says the version; who may ask is found out before."""
    known = {success: {"headers": headers}, **errors(*statuses)}
    before = (401, 403, 429)
    return {
        status: answer if status in before else {**answer, "headers": {**answer["headers"], **_VERSION}}
        for status, answer in known.items()
    }
