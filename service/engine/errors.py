"""Errors of the engine, and the JSON form in which they travel from the engine's process to the gateway's."""

import logging
from typing import Any

from imaging.errors import BrokenImage, DataError, ImageTooLarge, UnsuitableImage, UnsupportedFormat
from service.event_log import place_of

_log = logging.getLogger("overtile.engine")


class EngineCrashed(Exception):
    """The engine's process ended during the request."""


class EngineFailed(Exception):
    """The engine failed at the request in an unexpected way."""


class Cancelled(Exception):
    """The request was cancelled."""


class ModelGone(Exception):
    """The model is no longer loaded."""


class OutOfMemory(Exception):
    """The request needs more memory than there is."""


_DATA_ERRORS = {kind.__name__: kind for kind in (DataError, BrokenImage, UnsuitableImage, UnsupportedFormat)}
_ENGINE_ERRORS = {kind.__name__: kind for kind in (Cancelled, ModelGone, OutOfMemory, EngineFailed)}


def encode_error(error: Exception) -> dict[str, Any]:
    """Return an error as a JSON object; an unexpected one is logged without its text, and none of it is sent."""
    if isinstance(error, ImageTooLarge):
        return {"kind": ImageTooLarge.__name__, "code": error.code, "message": error.message, "limit": error.limit}
    if isinstance(error, DataError):
        kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _DATA_ERRORS)
        return {"kind": kind, "code": error.code, "message": error.message}
    if isinstance(error, Cancelled | ModelGone):
        return {"kind": type(error).__name__}
    import torch  # the gateway, which only decodes, doesn't load it

    is_host_memory = isinstance(error, RuntimeError) and "allocate memory" in str(error)  # torch has no class for it
    if is_host_memory or isinstance(error, MemoryError | torch.OutOfMemoryError):
        return {"kind": OutOfMemory.__name__}
    if isinstance(error, OSError) and error.errno is not None:
        return {"kind": OSError.__name__, "errno": error.errno}
    _log.error("a request failed: %s", place_of(error))
    return {"kind": EngineFailed.__name__}


def decode_error(message: dict[str, Any]) -> Exception:
    """Return the error that `encode_error` encoded; EngineFailed for a kind that isn't in the tables."""
    kind = message["kind"]
    if kind == ImageTooLarge.__name__:
        return ImageTooLarge(message["code"], message["message"], message["limit"])
    if kind in _DATA_ERRORS:
        return _DATA_ERRORS[kind](message["code"], message["message"])
    if kind == OSError.__name__:
        return OSError(message["errno"], "in the engine")
    return _ENGINE_ERRORS.get(kind, EngineFailed)()
