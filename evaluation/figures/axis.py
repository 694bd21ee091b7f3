"""Axes of figures: where a value lies on a drawing that is 1,000 units wide, and which values are labelled."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from evaluation.number_text import MINUS

WIDTH = 1000  # units; the page stretches them to its own width
MOST_TICKS = 7


@dataclass(frozen=True)
class Tick:
    """Labelled value of an axis: its position in units, and its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Axis:
    """Linear or logarithmic axis from `low` to `high`.

    Args:
        low: value at position 0; above 0 on a logarithmic axis.
        high: value at the last position.
        ticks: labelled values, in rising order.
        logarithmic: positions follow the logarithm of the value.
    """

    low: float
    high: float
    ticks: tuple[Tick, ...]
    logarithmic: bool = False

    def position(self, value: float) -> float:
        """Return where a value lies from 0 to `WIDTH`; values beyond the axis lie at its ends."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.logarithmic else (self.low, self.high)
        share = ((math.log10(value) if self.logarithmic else value) - low) / (high - low)
        return round(min(max(share, 0.0), 1.0) * WIDTH, 1)


def linear_axis(values: Iterable[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Axis:
    """Return a linear axis around the values that are not NaN, which ends at round numbers within the bounds."""
    numbers = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    space = (high - low) * 0.04 or abs(low) * 0.1 or 0.1
    low, high = max(bounds[0], low - space), min(bounds[1], high + space)
    step = round_step((high - low) / MOST_TICKS)
    values_of_ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    axis = Axis(low, high, ())
    decimals = max(0, -math.floor(math.log10(step) + 1e-9) + (0 if _leading_digits(step) in (1, 2, 5) else 1))
    return Axis(low, high, tuple(Tick(axis.position(value), _tick_text(value, decimals)) for value in values_of_ticks))


def logarithmic_axis(values: Iterable[float]) -> Axis:
    """Return a logarithmic axis around the values above 0, with ticks at powers of ten and, where few, between."""
    numbers = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low, high = min(numbers) / 1.5, max(numbers) * 1.5
    axis = Axis(low, high, (), logarithmic=True)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        candidates = [digit * 10.0**power for power in powers for digit in digits]
        ticks = [value for value in candidates if low <= value <= high]
        if len(ticks) <= MOST_TICKS:
            break
    return Axis(low, high, tuple(Tick(axis.position(value), _short_number(value)) for value in ticks), logarithmic=True)


def round_step(step: float) -> float:
    """Return the next larger number of 1, 2, 2.5 and 5 times powers of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digits * power for digits in (1, 2, 2.5, 5, 10) if digits * power >= step * (1 - 1e-9))


def _leading_digits(step: float) -> float:
    return round(step / 10.0 ** math.floor(math.log10(step) + 1e-9), 6)


def _short_number(value: float) -> str:
    """Write a large number with k, M, G or T for thousands, millions, and so on."""
    power = min(4, max(0, math.floor(math.log10(value) / 3 + 1e-9)))
    return f"{value / 1000**power:.12g}{('', 'k', 'M', 'G', 'T')[power]}"


def _tick_text(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)
