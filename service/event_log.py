"""Log lines: one JSON object an event of limited length, without anything that clients send or exception texts."""

import atexit
import json
import logging
import sys
import time
import traceback
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

FIELDS = ("method", "route", "status", "seconds", "request_id", "owner")  # of a request's log line
MAX_LENGTH = 2000
_OWN_LOGGER = "overtile"
_LIBRARIES = ("bentoml", "uvicorn", "uvicorn.error", "uvicorn.access", "dbos")  # they add handlers of their own


def place_of(error: BaseException) -> str:
    """Return an exception's class and place, such as `ValueError at inference/tiling/stitch.py:40`.

    The text is left out, as it may repeat what a client sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    return f"{type(error).__name__} at {'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}"


class JsonLines(logging.Formatter):
    """Formatter that writes a record as one line of JSON: time, level, logger, message, and the fields of a request.

    An exception becomes its class and place, as its text may repeat values from the request. Control characters are escaped,
    and the length is limited.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        message = record.getMessage()
        if not record.name.startswith(_OWN_LOGGER):  # libraries' tracebacks contain values, too
            message = message.partition("\n")[0]
        if record.exc_info and record.exc_info[1]:
            message = f"{message} {place_of(record.exc_info[1])}"
        fields = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        time_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": time_text, "level": record.levelname, "logger": record.name, "message": message[:MAX_LENGTH], **fields}
        return json.dumps(line)


_lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
_writer = QueueListener(_lines, logging.StreamHandler(sys.stderr))


def configure() -> None:
    """Write all log lines of this process to standard error as JSON, those of libraries, too.

    A thread writes them: standard error may be a file on a disk that is busy with an upload, and would block the event loop.
    """
    handler = QueueHandler(_lines)
    handler.setFormatter(JsonLines())
    if _writer._thread is None:
        _writer.start()
        atexit.register(finish)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate, logger.disabled = True, False
    for name in ("overtile", "overtile.service", "overtile.engine"):
        logging.getLogger(name).disabled = False
    logging.getLogger("overtile").setLevel(logging.INFO)


def finish() -> None:
    """Write the pending lines; needed before os._exit, which skips Python's own exit handlers."""
    if _writer._thread is not None:
        _writer.stop()
