"""What one request may take; set on the server by environment variables, OVERTILE_MAX_BODY_BYTES and so on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

PREFIX = "OVERTILE_"


@dataclass(frozen=True)
class Limits:
    """Limits of the direct routes.

    Args:
        max_body_bytes: most bytes of an image to segment.
        compare_max_body_bytes: most bytes of an image to compare models on.
        compare_max_pixels: most pixels of that image; both masks are held in memory.
        stall_timeout_s: a body of which nothing came for so long is given up.
        max_waiting: requests that may wait for the device; each holds one of the server's 40 worker threads.
        direct_timeout_s: a direct call that takes longer is ended.
        engine_timeout_s: an engine that says nothing for so long is ended and started again.
        jobs_at_once: jobs that an engine works on together.
        max_queued: jobs that may wait.
        memory_bytes: that an engine may have in all; 0: as the bundles say, or a quarter of what is free.
        results_expire_s: results are kept so long; that there was a job, twice as long.
    """

    max_body_bytes: int = 2 * 2**30
    compare_max_body_bytes: int = 256 * 2**20
    compare_max_pixels: int = 25_000_000
    stall_timeout_s: int = 15
    max_waiting: int = 8
    direct_timeout_s: int = 300
    engine_timeout_s: int = 60
    jobs_at_once: int = 1
    max_queued: int = 1000
    results_expire_s: int = 7 * 24 * 3600
    memory_bytes: int = 0

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
