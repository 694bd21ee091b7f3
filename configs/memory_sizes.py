"""Sizes of memory as people write them, and in bytes."""

import math
import re

from configs.schema import ConfigError

UNITS = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def parse_memory(text: str, option: str = "--memory") -> int:
    """Bytes of a size such as 8GB, 7.5 GiB or 500MB.

    Args:
        text: the size.
        option: of the command line, where it was given.

    Raises:
        ConfigError: it is no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(MB|MiB|GB|GiB)\s*", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{option} {text!r}: not a size; give a number above 0 with MB, MiB, GB or GiB, for example 8GB")
    return int(float(match[1]) * UNITS[match[2]])


def size_text(size_bytes: int, *, up: bool = False) -> str:
    """As people write it: 1.5 GB; `up`: rounded so that it is enough."""
    unit, name = (10**9, "GB") if size_bytes >= 10**9 else (10**6, "MB")
    digits = 2 if unit == 10**9 else 0
    shown = math.ceil(size_bytes / unit * 10**digits) / 10**digits if up else round(size_bytes / unit, digits)
    return f"{shown:.{digits}f} {name}"
