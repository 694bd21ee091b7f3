"""Checksums in request headers, and their comparison with the bytes received."""

import base64
import binascii
import hashlib
import hmac
import re

from service.errors import BadRequest

ALGORITHMS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}  # tus requires sha1; it protects against accidents, not attacks
_SHA256_ITEM = re.compile(r"(?:^|,)[ \t]*sha-256=([^,;]*)")


class UploadedChecksum:
    """Checksum of tus's Upload-Checksum header, and the running digest of the bytes received.

    Args:
        header: the header's value, such as `sha256 BASE64`.

    Raises:
        BadRequest: the algorithm is unsupported, or the digest invalid.
    """

    def __init__(self, header: str) -> None:
        name, _, text = header.strip().partition(" ")
        if name not in ALGORITHMS:
            message = "Upload-Checksum takes sha256 or sha1, and the digest in base64"
            raise BadRequest("checksum_unsupported", message, field="Upload-Checksum")
        self._digest = ALGORITHMS[name](usedforsecurity=False)
        self._expected = _from_base64(text)
        if len(self._expected) != self._digest.digest_size:
            message = "Upload-Checksum isn't a digest in base64; send the algorithm, a space, and the digest"
            raise BadRequest("checksum_invalid", message, field="Upload-Checksum")

    def update(self, block: bytes) -> None:
        """Add received bytes to the digest."""
        self._digest.update(block)

    def agrees(self) -> bool:
        """Return whether the received bytes have the checksum."""
        return hmac.compare_digest(self._digest.digest(), self._expected)


def sha256_of_headers(content_digest: str | None, x_content_sha256: str | None) -> bytes | None:
    """Return the body's SHA-256 from Content-Digest (RFC 9530) or X-Content-SHA256; None without these headers.

    Raises:
        BadRequest: a header has no SHA-256, or they differ.
    """
    digest = _parse_content_digest(content_digest)
    if x_content_sha256 is None:
        return digest
    text = x_content_sha256.strip()
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text) or digest not in (None, bytes.fromhex(text)):
        raise _invalid("X-Content-SHA256")
    return bytes.fromhex(text)


def _parse_content_digest(header: str | None) -> bytes | None:
    """Return the digest of `sha-256=:BASE64:`; digests by other algorithms are ignored."""
    match = _SHA256_ITEM.search(header) if header is not None else None
    if match is None:
        return None
    item = match[1].strip()
    digest = _from_base64(item[1:-1]) if len(item) > 2 and item[0] == item[-1] == ":" else b""
    if len(digest) != hashlib.sha256().digest_size:
        raise _invalid("Content-Digest")
    return digest


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _invalid(field: str) -> BadRequest:
    message = "Content-Digest takes sha-256=:BASE64:, X-Content-SHA256 takes 64 hexadecimal digits; both have to be the same"
    return BadRequest("digest_invalid", message, field=field)
