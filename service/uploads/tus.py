"""Headers of tus 1.0.0 (https://tus.io/protocols/resumable-upload), parsed from requests and built for answers."""

import base64
import binascii
import re
from email.utils import formatdate

from fastapi import Request

from service.errors import BadRequest, UnknownVersion, UnsupportedBody
from service.http.forms import clean_filename
from service.limits import ServiceLimits
from service.uploads.registry import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,checksum,expiration"
PATCH_TYPE = "application/offset+octet-stream"
_NUMBER = re.compile(r"[0-9]{1,18}")
_METADATA_KEY = re.compile(r"[!-+\--~]+")  # visible ASCII but the comma


def capabilities(limits: ServiceLimits) -> dict[str, str]:
    """Return the headers of the answer to OPTIONS."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(limits.max_upload_bytes),
        "Tus-Checksum-Algorithm": "sha256,sha1",
    }


def state_of(upload: Upload) -> dict[str, str]:
    """Return the headers with an upload's length, offset and expiry."""
    return {
        "Upload-Offset": str(upload.received_bytes),
        "Upload-Length": str(upload.size_bytes),
        "Upload-Expires": formatdate(upload.expires_at, usegmt=True),
        "Cache-Control": "no-store",
    }


async def check_version(request: Request) -> None:
    """Check, as a dependency, that the request has a Tus-Resumable header with this version.

    Raises:
        UnknownVersion: the header is missing, or has another version.
    """
    if request.headers.get("tus-resumable") != VERSION:
        message = "the header Tus-Resumable isn't 1.0.0; send that version, or send the whole file at once by PUT or as a form"
        raise UnknownVersion("tus_version", message, field="Tus-Resumable")


async def check_version_if_any(request: Request) -> None:
    """Check, as a dependency, the version of tus of a request that names one.

    Raises:
        UnknownVersion: the header has another version.
    """
    if "tus-resumable" in request.headers:
        await check_version(request)


def length_of(request: Request) -> int:
    """Return the length of the file in bytes, from Upload-Length.

    Raises:
        BadRequest: the header is missing or deferred, isn't a number, or is 0.
    """
    if "upload-defer-length" in request.headers or "upload-length" not in request.headers:
        message = "Upload-Length is required: the size of the file in bytes; Upload-Defer-Length isn't supported"
        raise BadRequest("upload_length_required", message, field="Upload-Length")
    length = _number(request, "Upload-Length", "upload_length_invalid")
    if not length:
        raise BadRequest("body_empty", "the file is empty; send the image file's bytes", field="Upload-Length")
    return length


def offset_of(request: Request) -> int:
    """Return the position in the file where the body begins, in bytes, from Upload-Offset.

    Raises:
        BadRequest: the header is missing or isn't a number.
    """
    return _number(request, "Upload-Offset", "upload_offset_invalid")


def check_type(request: Request) -> None:
    """Check the content type of a body that is a part of a file.

    Raises:
        UnsupportedBody: the content type is another, or missing.
    """
    if request.headers.get("content-type", "").strip().lower() != PATCH_TYPE:
        message = f"the body's Content-Type has to be {PATCH_TYPE}; to send a whole file at once use PUT /v1/uploads"
        raise UnsupportedBody("content_type_not_supported", message)


def filename_of(request: Request) -> str | None:
    """Return the file's name from Upload-Metadata; None without a name. Other keys are ignored.

    Raises:
        BadRequest: the header can't be parsed.
    """
    header = request.headers.get("upload-metadata", "").strip()
    metadata: dict[str, bytes] = {}
    for item in header.split(",") if header else ():
        key, _, value = item.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in metadata:
            raise _invalid_metadata()
        try:
            metadata[key] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid_metadata() from error
    try:
        return clean_filename(metadata.get("filename", b"").decode())
    except UnicodeDecodeError as error:
        raise _invalid_metadata() from error


def metadata_of(upload: Upload) -> dict[str, str]:
    """Return the Upload-Metadata header with the file's name; empty without a name."""
    if upload.filename is None:
        return {}
    return {"Upload-Metadata": f"filename {base64.b64encode(upload.filename.encode()).decode()}"}


def _number(request: Request, header: str, code: str) -> int:
    text = request.headers.get(header, "").strip()
    if not _NUMBER.fullmatch(text):
        raise BadRequest(code, f"{header} has to be a number of bytes, in digits", field=header)
    return int(text)


def _invalid_metadata() -> BadRequest:
    message = "Upload-Metadata is invalid; send pairs of a key, a space and the value in base64, separated by commas"
    return BadRequest("upload_metadata_invalid", message, field="Upload-Metadata")
