"""What one request may take; set on the server by environment variables, OVERTILE_MAX_BODY_BYTES and so on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

PREFIX = "OVERTILE_"


@dataclass(frozen=True)
class Limits:
    """Limits of the direct routes and of uploads.

    Args:
        max_body_bytes: most bytes of an image to segment.
        compare_max_body_bytes: most bytes of an image to compare models on.
        compare_max_pixels: most pixels of that image; both masks are held in memory.
        stall_timeout_s: a body of which nothing came for so long is given up.
        min_bytes_per_s: a body that comes slower, over any `stall_timeout_s` of waiting for it, is given up, too.
        max_waiting: requests that may wait for the device; each holds one of the server's 40 worker threads.
        max_upload_bytes: most bytes of an uploaded file.
        max_unfinished_uploads: uploads that one owner may have begun and not finished.
        upload_expires_s: an upload is forgotten so long after the last byte of it came.
        storage_reserve_bytes: of the store's disk that stays free, so that jobs can still end and write down that they did.
    """

    max_body_bytes: int = 2 * 2**30
    compare_max_body_bytes: int = 256 * 2**20
    compare_max_pixels: int = 25_000_000
    stall_timeout_s: int = 15
    min_bytes_per_s: int = 1024
    max_waiting: int = 8
    max_upload_bytes: int = 100 * 2**30
    max_unfinished_uploads: int = 1000
    upload_expires_s: int = 24 * 3600
    storage_reserve_bytes: int = 2**30

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The defaults, with what the environment sets.

        Raises:
            ValueError: a setting that isn't a whole number above 0.
        """
        names = {field.name: setting_of(field.name) for field in fields(cls)}
        return cls(**{field: _number(name, environment[name]) for field, name in names.items() if name in environment})


def setting_of(field: str) -> str:
    """The environment variable of a limit."""
    return PREFIX + field.upper()


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{name} is {text!r}; give a whole number above 0")
    return int(text)
