"""Forms (multipart/form-data) with one file, whose bytes are passed on as they arrive, and never collected in memory."""

import logging
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

OVERHEAD_BYTES = 2**16  # most bytes of a form around its file
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns about each broken form
_PLAIN_ENCODINGS = {"", "7bit", "8bit", "binary"}
_MAX_FILENAME_LENGTH = 255
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: control characters, text direction, line ends


class FormParser:
    """Parser of a form with one file; `filename` is the name that the form gives it.

    Args:
        content_type: the request's header.
        write: is called with the file's bytes, block by block.

    Raises:
        BadRequest: the content type isn't a form's, or has no boundary.
    """

    def __init__(self, content_type: str, write: Callable[[memoryview], None]) -> None:
        kind, options = _options(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise _bad_form()
        self.filename: str | None = None
        self._write = write
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._parts = 0
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
            "on_header_field": lambda data, start, end: self._headers[-1][0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._headers[-1][1].extend(data[start:end]),
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._write(memoryview(data)[start:end]),
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _bad_form() from error

    def feed(self, block: bytes) -> None:
        """Parse a block of the body, and write the file's bytes in it.

        Raises:
            BadRequest: the form is broken, or has more than one part.
        """
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise _bad_form() from error

    def finish(self) -> None:
        """Check that the form is complete.

        Raises:
            BadRequest: it ended before its last boundary, or has no file.
        """
        if not self._is_complete:
            raise _bad_form()
        if not self._parts:
            raise _no_file()

    def _on_end(self) -> None:
        self._is_complete = True

    def _on_headers_finished(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _bad_form()
        headers = {bytes(name).lower().decode("latin-1"): value.decode("latin-1") for name, value in self._headers}
        is_nested = headers.get("content-type", "").strip().lower().startswith("multipart/")
        is_encoded = headers.get("content-transfer-encoding", "").strip().lower() not in _PLAIN_ENCODINGS
        has_duplicates = len(headers) < len(self._headers)
        kind, options = _options(headers.get("content-disposition", ""))
        if is_nested or is_encoded or has_duplicates or kind != b"form-data":
            raise _bad_form()
        if b"filename" not in options:
            raise _no_file()
        self.filename = clean_filename(options[b"filename"].decode("utf-8", "replace"))


def clean_filename(name: str) -> str | None:
    """Return a client's file name without invisible characters, and not too long; None if nothing is left.

    The name is only displayed, never part of a path.
    """
    start = name[: 4 * _MAX_FILENAME_LENGTH]
    visible = "".join(character for character in start if unicodedata.category(character) not in _INVISIBLE)
    return visible.strip()[:_MAX_FILENAME_LENGTH] or None


def _options(header: str) -> tuple[bytes, dict[bytes, bytes]]:
    try:
        return parse_options_header(header)
    except ValueError as error:  # characters that aren't allowed in headers
        raise _bad_form() from error


def _bad_form() -> BadRequest:
    message = "the form is invalid, or has more than one file; send multipart/form-data with one file, or PUT the file itself"
    return BadRequest("bad_multipart", message)


def _no_file() -> BadRequest:
    message = "the form has text instead of a file; send the file's bytes, as with curl -F file=@FILE"
    return BadRequest("file_required", message)
