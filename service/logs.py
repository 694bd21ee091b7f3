"""Log lines: one JSON object an event, and nothing of what clients sent: no texts of exceptions, no breaks, a capped length."""

import json
import logging
import sys
import time

from service.boundary import FIELDS, place_of

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


def configure() -> None:
    """Every line of this process goes to standard error as JSON, those of libraries, too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
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
