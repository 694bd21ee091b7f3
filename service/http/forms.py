"""A multipart/form-data body with one file -> the file's bytes, as they come; nothing of it is ever held."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequest
from service.http.filenames import cleaned

if TYPE_CHECKING:  # there for type checkers alone
    from python_multipart.multipart import MultipartCallbacks

OVERHEAD_BYTES = 2**16  # what a form with one file has around it, at most
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of each broken form
_PLAIN_ENCODINGS = {"", "7bit", "8bit", "binary"}


class OneFile:
    """A form; `filename` is what it calls its file.

    Args:
        content_type: the request's header.
        write: gets the file's bytes, block by block.

    Raises:
        BadRequest: no form, or one without a boundary.
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
        self._ended = False
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise _bad_form() from error

    def feed(self, block: bytes) -> None:
        """Passes on what of the block is the file's.

        Raises:
            BadRequest: not a form as it should be, or not one with one file.
        """
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise _bad_form() from error

    def finish(self) -> None:
        """Passes a form that has all its parts.

        Raises:
            BadRequest: it ended before its last boundary, or has no file.
        """
        if not self._ended:
            raise _bad_form()
        if not self._parts:
            raise _no_file()

    def _callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
            "on_header_field": lambda data, start, end: self._headers[-1][0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._headers[-1][1].extend(data[start:end]),
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": lambda data, start, end: self._write(memoryview(data)[start:end]),
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _bad_form()

    def _on_end(self) -> None:
        self._ended = True

    def _on_headers_finished(self) -> None:
        headers = {bytes(name).lower().decode("latin-1"): value.decode("latin-1") for name, value in self._headers}
        nested = headers.get("content-type", "").strip().lower().startswith("multipart/")
        encoded = headers.get("content-transfer-encoding", "").strip().lower() not in _PLAIN_ENCODINGS
        kind, options = _options(headers.get("content-disposition", ""))
        if nested or encoded or len(headers) < len(self._headers) or kind != b"form-data":
            raise _bad_form()
        if b"filename" not in options:
            raise _no_file()
        self.filename = cleaned(options[b"filename"].decode("utf-8", "replace"))


def _options(header: str) -> tuple[bytes, dict[bytes, bytes]]:
    try:
        return parse_options_header(header)
    except ValueError as error:  # characters that no header has
        raise _bad_form() from error


def _bad_form() -> BadRequest:
    message = (
        "the form can't be read, or has more than one file; send multipart/form-data with one file, or PUT the file itself"
    )
    return BadRequest("bad_multipart", message)


def _no_file() -> BadRequest:
    message = "the form has a text where the file should be; send the file's bytes, as with curl -F file=@FILE"
    return BadRequest("file_required", message)
