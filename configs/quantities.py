"""Quantities as people type them: sizes of memory and pixel spacings."""

import math
import re

from configs.schema import ConfigError

UNITS = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def parse_memory(text: str, option: str = "--memory") -> int:
    """Return the bytes of a size such as 8GB, 7.5 GiB or 500MB.

    Args:
        text: the size.
        option: command-line option that the size comes from, for the error message.

    Raises:
        ConfigError: the text isn't such a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(MB|MiB|GB|GiB)\s*", text)
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{option} {text!r}: not a size; give a number above 0 with MB, MiB, GB or GiB, for example 8GB")
    return int(float(match[1]) * UNITS[match[2]])


def size_text(size_bytes: int, *, up: bool = False) -> str:
    """Return a size such as 1.5 GB or 300 MB; with `up` it is rounded up, else to the nearest."""
    unit, name = (10**9, "GB") if size_bytes >= 10**9 else (10**6, "MB")
    digits = 2 if unit == 10**9 else 0
    rounded = math.ceil(size_bytes / unit * 10**digits) / 10**digits if up else round(size_bytes / unit, digits)
    return f"{rounded:.{digits}f} {name}"


def parse_spacing(text: str, option: str = "--spacing-um") -> tuple[float, ...]:
    """Return the micrometres of a spacing such as 0.25, or 2000,500,500 with one number per axis in S order.

    Args:
        text: the spacing.
        option: command-line option that the spacing comes from, for the error message.

    Raises:
        ConfigError: the text isn't numbers with commas between.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: not a number, or one number per axis with commas between") from error
