"""Log lines: one JSON object an event, and nothing of what clients sent: no texts of exceptions, no breaks, a capped length."""

import atexit
import json
import logging
import sys
import time
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue

from service.http.request_log import FIELDS, place_of

MAX_LENGTH = 2000
_OURS = "overtile"
_LOUD = ("bentoml", "uvicorn", "uvicorn.error", "uvicorn.access", "dbos")  # they bring handlers of their own


class JsonLines(logging.Formatter):
    """A record as one line: time, level, logger, message, and what a request's line says beside it.

    An exception becomes its class and place: its text may repeat values from the request. Control characters are escaped, and
    the length is capped.
    """

    def format(self, record: logging.LogRecord) -> str:
        """A line of JSON."""
        message = record.getMessage()
        if not record.name.startswith(_OURS):  # other people's tracebacks hold values, too
            message = message.partition("\n")[0]
        if record.exc_info and record.exc_info[1]:
            message = f"{message} {place_of(record.exc_info[1])}"
        known = {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        time_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        told = {"time": time_text, "level": record.levelname, "logger": record.name, "message": message[:MAX_LENGTH], **known}
        return json.dumps(told)


_lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
_writer = QueueListener(_lines, logging.StreamHandler(sys.stderr))


def configure() -> None:
    """Every line of this process goes to standard error as JSON, those of libraries, too.

    A thread writes them: a disk that is busy with an upload would hold up whoever writes to a file on it, and with the event
    loop every client.
    """
    handler = QueueHandler(_lines)
    handler.setFormatter(JsonLines())
    if _writer._thread is None:
        _writer.start()
        atexit.register(finish)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _LOUD:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate, logger.disabled = True, False
    for name in ("overtile", "overtile.service", "overtile.engine"):
        logging.getLogger(name).disabled = False
    logging.getLogger("overtile").setLevel(logging.INFO)


def finish() -> None:
    """Writes what is still to be written; for who ends the process without Python's own end."""
    if _writer._thread is not None:
        _writer.stop()
