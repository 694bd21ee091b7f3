"""ServiceLimits of requests, uploads, jobs and keys; environment variables such as OVERTILE_MAX_BODY_BYTES set them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

PREFIX = "OVERTILE_"
_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True)
class ServiceLimits:
    """ServiceLimits of direct requests, uploads and jobs.

    Args:
        max_body_bytes: largest body of an image to segment.
        compare_max_body_bytes: largest body of an image to compare models on.
        compare_max_pixels: most pixels of that image, as both masks are in memory.
        max_json_bytes: largest body of JSON.
        stall_timeout_s: a request is refused if no bytes of its body arrive for this time.
        min_bytes_per_s: a request is refused if its body arrives more slowly, measured over `stall_timeout_s` of waiting.
        max_waiting: requests that may wait for the device; each uses one of the server's 40 worker threads. One key gets at
            most about three quarters of them.
        direct_timeout_s: longest time of a direct call.
        engine_timeout_s: an engine that sends nothing for this time is restarted.
        jobs_at_once: number of jobs that an engine runs at a time.
        max_queued: most jobs in the queue.
        memory_bytes: memory of an engine; 0: as the bundles' configs say, or a quarter of the free memory.
        results_expire_s: time after which results are deleted; the job's record is deleted after twice that time.
        max_upload_bytes: largest uploaded file.
        max_unfinished_uploads: most unfinished uploads of one owner.
        upload_expires_s: time after the last byte of an upload after which it is deleted.
        storage_reserve_bytes: space that stays free on the store's disk, so that running jobs can still finish.
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
        """Return the limits with the settings of the environment.

        Raises:
            ValueError: a setting isn't a whole number above 0.
        """
        names = {field.name: setting_of(field.name) for field in fields(cls)}
        return cls(**{field: _number(name, environment[name]) for field, name in names.items() if name in environment})


@dataclass(frozen=True)
class AccessSettings:
    """Settings of access for all keys, and for all clients of a server without keys.

    Args:
        requests_per_minute: limit of each key that has no limit of its own.
        cors_origins: origins of pages that may read answers, as browsers send them: https://viewer.example.org.
    """

    requests_per_minute: int = 3000
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Return the settings of the environment, or the defaults.

        Raises:
            ValueError: a number isn't a whole number above 0, or an origin is invalid.
        """
        rate, origins = setting_of("requests_per_minute"), setting_of("cors_origins")
        return cls(
            _number(rate, environment[rate]) if rate in environment else cls.requests_per_minute,
            parse_origins(origins, environment.get(origins, "")),
        )


def setting_of(field: str) -> str:
    """Return the name of the environment variable of a limit."""
    return PREFIX + field.upper()


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError(f"{name} is {text!r}; give a whole number above 0")
    return int(text)


def parse_origins(name: str, text: str) -> tuple[str, ...]:
    """Return the origins in the text of a setting; raise ValueError if one is invalid."""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{name} has {origin!r}; give origins separated by commas, for example https://viewer.example.org")
    return origins
