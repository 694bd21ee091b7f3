"""Text of numbers on pages, with as many digits as are meaningful; NaN is a dash."""

import math
from collections.abc import Sequence
from statistics import median

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def score(value: float) -> str:
    """Format a score such as the Dice: 0.812."""
    return DASH if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Format a difference of scores with its sign: +0.067."""
    return DASH if math.isnan(value) else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def percent(value: float) -> str:
    """Format a share as a percentage: 98.7%."""
    return DASH if math.isnan(value) else f"{value:.1%}"


def significant(value: float) -> str:
    """Format a number with three significant digits: 1,230, 45.6, 0.0123."""
    if math.isnan(value):
        return DASH
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{decimals}f}"


def seconds(value: float) -> str:
    """Format a time in a suitable unit: 0.123 s, 45.6 s, 12.3 min, 4.5 h."""
    if value >= 7200:
        return f"{value / 3600:.1f} h"
    return f"{value / 60:.1f} min" if value >= 120 else f"{significant(value)} s"


def spread(values: Sequence[float]) -> str:
    """Format times by their median, smallest and largest: 0.320 s (0.301 to 0.512)."""
    if not values:
        return DASH
    return f"{significant(median(values))} s ({significant(min(values))} to {significant(max(values))})"


def memory(value: int | None) -> str:
    """Format bytes as MiB or GiB: 12.3 MiB."""
    if value is None:
        return DASH
    return f"{significant(value / 2**30)} GiB" if value >= 2**30 else f"{significant(value / 2**20)} MiB"


def operations(value: float | None) -> str:
    """Format a number of multiply-adds: 219 thousand, 1.53 million."""
    if value is None or math.isnan(value):
        return DASH
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"{significant(value / size)} {word}"
    return significant(value)


def size(shape: Sequence[int]) -> str:
    """Format a shape in S order: 512 x 512."""
    return f" {TIMES} ".join(str(length) for length in shape)


def spacing(spacing_um: Sequence[float] | None) -> str:
    """Format a spacing in S order: 0.5 x 0.5 µm in 2D, 3 x 0.9 x 0.9 mm in 3D."""
    if not spacing_um:
        return "not given"
    factor, unit = (1e-3, "mm") if len(spacing_um) == 3 else (1, "µm")
    return f"{f' {TIMES} '.join(f'{value * factor:.4g}' for value in spacing_um)} {unit}"


_FORMATS = (score, signed, percent, significant, seconds, spread, memory, operations, size, spacing)
FILTERS = {function.__name__: function for function in _FORMATS}
