"""Headers of the routes of uploads, as the OpenAPI document describes them."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from pydantic import WithJsonSchema

from service.http.routes.openapi import BINARY, errors, header
from service.uploads import tus

STATE = {
    "Upload-Offset": header("Number of bytes received; continue sending from here.", "integer"),
    "Upload-Length": header("Size of the whole file in bytes.", "integer"),
    "Upload-Expires": header("When the server deletes the upload, unless more bytes arrive."),
}
CREATED = {"Location": header("URL of the upload."), **STATE}
CAPABILITIES = {
    "Tus-Version": header("Supported versions of tus."),
    "Tus-Extension": header("Supported extensions of tus."),
    "Tus-Max-Size": header("Size of the largest file in bytes.", "integer"),
    "Tus-Checksum-Algorithm": header("Supported algorithms of Upload-Checksum."),
}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary", "description": "The image file; exactly one."}},
        "additionalProperties": False,
    }
}
PATCH_BODY = {"requestBody": {"required": True, "content": {tus.PATCH_TYPE: BINARY}}}
PUT_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": BINARY}}}
POST_BODY = {"requestBody": {"required": False, "content": {"multipart/form-data": _FORM, tus.PATCH_TYPE: BINARY}}}


def responses(success: int, headers: dict[str, Any], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of a route's answers; all but those of access control have the header Tus-Resumable."""
    access = (401, 403, 429)
    version = {"Tus-Resumable": header("Version of tus.")}
    answers: dict[int | str, dict[str, Any]] = {success: {"headers": headers}, **errors(*statuses)}
    return {
        status: answer if status in access else {**answer, "headers": {**answer["headers"], **version}}
        for status, answer in answers.items()
    }


def _text(description: str, pattern: str = "") -> WithJsonSchema:
    """Return the schema of a header whose value the route checks itself."""
    return WithJsonSchema({"type": "string", "description": description, **({"pattern": pattern} if pattern else {})})


TusVersion = Annotated[str | None, Header(alias="Tus-Resumable"), _text("Version of tus: 1.0.0.", r"^1\.0\.0$")]
UploadLength = Annotated[
    str | None, Header(alias="Upload-Length"), _text("Size of the whole file in bytes.", "^[1-9][0-9]{0,17}$")
]
UploadOffset = Annotated[
    str | None,
    Header(alias="Upload-Offset"),
    _text("Number of bytes received so far, after which the body is written.", "^[0-9]{1,18}$"),
]
UploadMetadata = Annotated[
    str | None,
    Header(alias="Upload-Metadata"),
    _text(
        "The word filename, a space, and the file's name in base64; other keys are ignored.", "^filename ([A-Za-z0-9+/]{4})+$"
    ),
]
UploadChecksum = Annotated[
    str | None,
    Header(alias="Upload-Checksum"),
    _text("Algorithm, a space, and the checksum of the body in base64.", "^(sha256|sha1) [A-Za-z0-9+/]+=$"),
]
ContentDigest = Annotated[
    str | None,
    Header(alias="Content-Digest"),
    _text("Digest of the body (RFC 9530), sha-256=:BASE64:; other algorithms are ignored."),
]
FileSha256 = Annotated[
    str | None, Header(alias="X-Content-SHA256"), _text("SHA-256 of the file in hexadecimal.", "^[0-9a-fA-F]{64}$")
]


@dataclass(frozen=True)
class CreationHeaders:
    """Headers of a request that creates an upload; those of tus are parsed by `service.uploads.tus`."""

    tus_resumable: TusVersion = None
    upload_length: UploadLength = None
    upload_metadata: UploadMetadata = None
    upload_checksum: UploadChecksum = None
    x_content_sha256: FileSha256 = None


@dataclass(frozen=True)
class AppendHeaders:
    """Headers of a request that appends to an upload; parsed by `service.uploads.tus`."""

    tus_resumable: TusVersion = None
    upload_offset: UploadOffset = None
    upload_checksum: UploadChecksum = None
