"""Axes of figures: where a value lies on a drawing that is 1,000 units wide, and which values are labelled."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from evaluation.number_text import MINUS, short_number

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
    """Return a linear axis around the values that are not NaN, with some space, and within the bounds."""
    numbers = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(numbers), max(numbers)
    space = (high - low) * 0.04 or abs(low) * 0.1 or 0.1
    low, high = max(bounds[0], low - space), min(bounds[1], high + space)
    step = round_step((high - low) / MOST_TICKS)
    values_of_ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    axis = Axis(low, high, ())
    decimals = max(0, -int(Decimal(f"{step:.3g}").as_tuple().exponent))
    texts = [f"{value:,.{decimals}f}".replace("-", MINUS) for value in values_of_ticks]
    return Axis(low, high, tuple(Tick(axis.position(value), text) for value, text in zip(values_of_ticks, texts, strict=True)))


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
    return Axis(low, high, tuple(Tick(axis.position(value), short_number(value)) for value in ticks), logarithmic=True)


def round_step(step: float) -> float:
    """Return the next larger number of 1, 2, 2.5 and 5 times powers of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digits * power for digits in (1, 2, 2.5, 5, 10) if digits * power >= step * (1 - 1e-9))
