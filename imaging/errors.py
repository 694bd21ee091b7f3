"""Errors of images, as a tree; the command line exits with 3 on each, and the service maps each to its HTTP status.

    DataError                 3
    ├── BrokenImage           400  a damaged, incomplete or contradictory file
    ├── ImageTooLarge         413  more pixels or bytes than the limit
    ├── UnsupportedFormat     415  a file that isn't an image, or whose format isn't supported
    └── UnsuitableImage       422  an intact image that doesn't fit the request

Messages say what the file contains, what is allowed and what to do; they never contain a path, a file's text or a library's
message, so that the service can send them to clients. The command line puts the path before them.
"""

from configs.errors import DATA, OvertileError


class DataError(OvertileError):
    """An image or a data set can't be used; `code` is a stable identifier for programs."""

    exit_code = DATA
    status: int = 422  # of the HTTP response

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # the arguments with which pickle creates it in another process
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class BrokenImage(DataError):
    """The file is incomplete, damaged or contradicts itself."""

    status = 400


class ImageTooLarge(DataError):
    """The image has more pixels or bytes, or a longer side, than `limit`."""

    status = 413

    def __init__(self, code: str, message: str, limit: int) -> None:
        super().__init__(code, message)
        self.args = (code, message, limit)
        self.limit = limit


class UnsupportedFormat(DataError):
    """The file isn't an image, or its format isn't supported."""

    status = 415


class UnsuitableImage(DataError):
    """The file is intact, but its channels, dimensions, spacing or labels don't fit."""

    status = 422
