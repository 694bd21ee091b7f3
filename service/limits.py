"""What one request may take, and who may send how many; set by environment variables, OVERTILE_MAX_BODY_BYTES and so on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

PREFIX = "OVERTILE_"
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Limits:
    """Limits of the direct routes and of uploads.

    Args:
        max_body_bytes: most bytes of an image to segment.
        compare_max_body_bytes: most bytes of an image to compare models on.
        compare_max_pixels: most pixels of that image; both masks are held in memory.
        max_json_bytes: most bytes of a body of JSON.
        stall_timeout_s: a body of which nothing came for so long is given up.
        min_bytes_per_s: a body that comes slower, over any `stall_timeout_s` of waiting for it, is given up, too.
        max_waiting: requests that may wait for the device; each holds one of the server's 40 worker threads. Of one key about
            three in four: the rest is left to others.
        direct_timeout_s: a direct call that takes longer is ended.
        engine_timeout_s: an engine that says nothing for so long is ended and started again.
        jobs_at_once: jobs that an engine works on together.
        max_queued: jobs that may wait.
        memory_bytes: that an engine may have in all; 0: as the bundles say, or a quarter of what is free.
        results_expire_s: results are kept so long; that there was a job, twice as long.
        max_upload_bytes: most bytes of an uploaded file.
        max_unfinished_uploads: uploads that one owner may have begun and not finished.
        upload_expires_s: an upload is forgotten so long after the last byte of it came.
        storage_reserve_bytes: of the store's disk that stays free, so that jobs can still end and write down that they did.
    """

    max_body_bytes: int = 2 * 2**30
    compare_max_body_bytes: int = 256 * 2**20
    compare_max_pixels: int = 25_000_000
    max_json_bytes: int = 2**20
    stall_timeout_s: int = 15
    min_bytes_per_s: int = 1024
    max_waiting: int = 8
    direct_timeout_s: int = 300
    engine_timeout_s: int = 60
    jobs_at_once: int = 1
    max_queued: int = 1000
    results_expire_s: int = 7 * 24 * 3600
    memory_bytes: int = 0
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


@dataclass(frozen=True)
class AccessSettings:
    """What holds for every key, and for all who come without one where there are no keys.

    Args:
        requests_per_minute: of each key that has no number of its own.
        cors_origins: pages of other sites that may read answers, as browsers write them: https://viewer.example.org.
    """

    requests_per_minute: int = 3000
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The defaults, with what the environment sets.

        Raises:
            ValueError: a number that isn't a whole one above 0, or an origin that isn't one.
        """
        rate, origins = setting_of("requests_per_minute"), setting_of("cors_origins")
        return cls(
            _number(rate, environment[rate]) if rate in environment else cls.requests_per_minute,
            _origins(origins, environment.get(origins, "")),
        )


def setting_of(field: str) -> str:
    """The environment variable of a limit."""
    return PREFIX + field.upper()


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{name} is {text!r}; give a whole number above 0")
    return int(text)


def _origins(name: str, text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{name} has {origin!r}; give origins with commas between, for example https://viewer.example.org")
    return origins
