"""Log lines without what clients sent: no exception texts, no line breaks, no endless lines."""

import logging

from service.boundary import place_of

MAX_LENGTH = 2000
_OURS = ("overtile", "service", "imaging", "inference")


class ClientValues(logging.Filter):
    """Rewrites every record: an exception becomes its class and place, control characters are escaped, length is capped.

    BentoML and uvicorn log a failed request with the exception's text, which may repeat values from the request.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """True: nothing is dropped."""
        message = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            message = f"{message} {place_of(record.exc_info[1])}"
        printable = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message[:MAX_LENGTH])
        record.msg, record.args, record.exc_info, record.exc_text, record.stack_info = printable, None, None, None, None
        return True


def configure() -> None:
    """Puts the filter on every handler of the server, and lets our own request lines through."""
    logging.getLogger("overtile").setLevel(logging.INFO)
    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in _OURS:  # BentoML's configuration turns off every logger that was there before it
            logging.getLogger(name).disabled = False
    for handler in {*logging.getLogger().handlers, *logging.getLogger("bentoml").handlers}:
        handler.addFilter(ClientValues())
