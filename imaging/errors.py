"""Errors of images, as a tree; the command line exits with 3 on each, and the service maps each to its HTTP status.

    DataError                 3
    ├── BrokenImage           400  bytes that aren't what they claim to be
    ├── ImageTooLarge         413  more than the limit given
    ├── UnsupportedFormat     415  a file that isn't an image, or not one that is read here
    └── UnsuitableImage       422  a sound image that doesn't fit what is asked of it

Messages say what came, what is allowed and what to do; they never carry a path, a file's text or a library's words, so
that the service can hand them out. The command line puts the path before them.
"""

from configs.errors import DATA, OvertileError


class DataError(OvertileError):
    """An image or a data set can't be used; `code` is stable and meant for programs."""

    exit_code = DATA
    status: int = 422  # of the HTTP answer

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)  # what pickle makes it of again in another process
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class BrokenImage(DataError):
    """Bytes that aren't what they claim to be: cut, corrupted, contradictory."""

    status = 400


class ImageTooLarge(DataError):
    """More pixels than the limit, or more bytes, or a longer side; `limit` is that limit."""

    status = 413

    def __init__(self, code: str, message: str, limit: int) -> None:
        super().__init__(code, message)
        self.args = (code, message, limit)
        self.limit = limit


class UnsupportedFormat(DataError):
    """The file isn't an image, or its format isn't supported."""

    status = 415


class UnsuitableImage(DataError):
    """A sound image with the wrong channels, dimensions, spacing or labels."""

    status = 422
