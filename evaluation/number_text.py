"""Text of numbers on pages, with as many digits as are meaningful; NaN is a dash."""

import math
from collections.abc import Sequence
from statistics import median

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"


def score(value: float) -> str:
    """Format a score such as the Dice: 0.812."""
    return DASH if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Format a difference of scores with its sign: +0.067."""
    return DASH if math.isnan(value) else f"{value:+.3f}".replace("-", MINUS)


def measure(value: float, unit: str = "") -> str:
    """Format a value of a metric: with three decimals where it has no unit, else with three significant digits."""
    text = significant(value) if unit else score(round(value, 3) + 0.0)  # no -0.000
    return text.replace("-", MINUS)


def difference(value: float, unit: str = "") -> str:
    """Format a difference of two values of a metric with its sign."""
    text = measure(value, unit)
    return text if math.isnan(value) or text.startswith(MINUS) else f"+{text}"


def interval(ends: tuple[float, float] | None, unit: str = "") -> str:
    """Format an interval of a metric's values by its ends: 0.780 to 0.840."""
    return DASH if ends is None else f"{measure(ends[0], unit)} to {measure(ends[1], unit)}"


def difference_interval(ends: tuple[float, float] | None, unit: str = "") -> str:
    """Format an interval of differences by its ends with their signs."""
    return DASH if ends is None else f"{difference(ends[0], unit)} to {difference(ends[1], unit)}"


def p_value(value: float | None) -> str:
    """Format a p-value: 0.042, or below 0.001."""
    if value is None or math.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def unit_text(unit: str) -> str:
    """Write the unit of a metric as on pages: \N{MICRO SIGN}m for um."""
    return unit.replace("um", "\N{MICRO SIGN}m")


def short_number(value: float) -> str:
    """Format a large number with k, M, G or T for thousands, millions, and so on: 10k."""
    power = min(4, max(0, math.floor(math.log10(value) / 3 + 1e-9)))
    return f"{value / 1000**power:.12g}{('', 'k', 'M', 'G', 'T')[power]}"


def letter(number: int) -> str:
    """Return the letter of a method by its number from 0 on: A, B, .., Z, and numbers beyond."""
    return chr(ord("A") + number) if number < 26 else str(number + 1)


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


_FORMATS = (
    score, signed, measure, difference, interval, difference_interval, p_value, unit_text, letter, percent, significant,
    seconds, spread, memory, operations, size, spacing,
)  # fmt: skip
FILTERS = {function.__name__: function for function in _FORMATS}
