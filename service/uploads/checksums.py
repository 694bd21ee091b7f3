"""Digests that come in headers -> bytes to compare with."""

import base64
import binascii
import hashlib
import hmac
import re

from service.errors import BadRequest

ALGORITHMS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1}  # sha1: tus demands it; against accidents, not against people
_SHA256_ITEM = re.compile(r"(?:^|,)[ \t]*sha-256=([^,;]*)")


class UploadedChecksum:
    """tus's Upload-Checksum, and what it is compared with.

    Args:
        header: `sha256 BASE64`.

    Raises:
        BadRequest: another algorithm, or not a digest of it.
    """

    def __init__(self, header: str) -> None:
        name, _, text = header.strip().partition(" ")
        if name not in ALGORITHMS:
            message = "Upload-Checksum takes sha256 or sha1, and the digest in base64"
            raise BadRequest("checksum_unsupported", message, field="Upload-Checksum")
        self._running = ALGORITHMS[name](usedforsecurity=False)
        self._sent = _from_base64(text)
        if len(self._sent) != self._running.digest_size:
            message = "Upload-Checksum isn't a digest in base64; send the algorithm, a space, and the digest"
            raise BadRequest("checksum_invalid", message, field="Upload-Checksum")

    def update(self, block: bytes) -> None:
        """Takes what came."""
        self._running.update(block)

    def agrees(self) -> bool:
        """Whether all that came is what was sent."""
        return hmac.compare_digest(self._running.digest(), self._sent)


def sha256_of_headers(content_digest: str | None, x_content_sha256: str | None) -> bytes | None:
    """What the body's SHA-256 has to be: of Content-Digest (RFC 9530) or X-Content-SHA256; None where neither says.

    Raises:
        BadRequest: not a SHA-256, or two that differ.
    """
    digests = {digest for digest in (_of_structured(content_digest), _of_hexadecimal(x_content_sha256)) if digest is not None}
    if len(digests) > 1:
        raise _invalid("X-Content-SHA256")
    return digests.pop() if digests else None


def _of_structured(header: str | None) -> bytes | None:
    """`sha-256=:BASE64:`, among digests by other algorithms, which aren't compared."""
    found = _SHA256_ITEM.search(header) if header is not None else None
    if found is None:
        return None
    item = found[1].strip()
    digest = _from_base64(item[1:-1]) if len(item) > 2 and item[0] == item[-1] == ":" else b""
    if len(digest) != hashlib.sha256().digest_size:
        raise _invalid("Content-Digest")
    return digest


def _of_hexadecimal(header: str | None) -> bytes | None:
    if header is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", header.strip()):
        raise _invalid("X-Content-SHA256")
    return bytes.fromhex(header.strip())


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _invalid(field: str) -> BadRequest:
    message = "Content-Digest takes sha-256=:BASE64:, X-Content-SHA256 64 hexadecimal digits; with both, the same SHA-256"
    return BadRequest("digest_invalid", message, field=field)
