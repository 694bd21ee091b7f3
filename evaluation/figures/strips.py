"""Strip figures: rows of dots along one axis, a dot for each case, with the mean and its interval."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.figures.axis import Axis

ROW_PX, TALL_ROW_PX = 46, 76  # height of a row, and of one that lines leave
STACK_PX = 30  # height of the dots of a row
DOT_STEP_PX = 5.0
BIN = 8  # units of the axis; dots nearer than this lie above each other


@dataclass(frozen=True, kw_only=True)
class Dots:
    """Dots of one colour: number of the method whose colour it is, and the path that draws them."""

    method: int
    path: str


@dataclass(frozen=True, kw_only=True)
class StripRow:
    """Row of a strip figure.

    Args:
        label: name of the row; empty where the letters of its methods are enough.
        methods: numbers of the methods that the row is about, whose letters stand before its name.
        note: text below the name, such as the mean.
        dots: dots of the cases.
        mean: position of the mean; None without one.
        interval: positions of the interval's ends; None without one.
        method: number of the method whose colour the mean has; None: the colour of text.
    """

    label: str
    methods: tuple[int, ...] = ()
    note: str = ""
    dots: tuple[Dots, ...] = ()
    mean: float | None = None
    interval: tuple[float, float] | None = None
    method: int | None = None


@dataclass(frozen=True, kw_only=True)
class CaseLine:
    """Line of a case through the rows: its path, its colour's method, and the text that it shows under the pointer."""

    path: str
    method: int
    text: str


@dataclass(frozen=True, kw_only=True)
class StripFigure:
    """Rows that share an axis.

    Args:
        axis: the axis.
        rows: rows from top to bottom.
        description: what the figure shows, for readers who don't see it.
        row_px: height of a row.
        lines: lines of the cases through all rows.
        line_opacity: opacity of the lines, lower the more there are.
        zero: position of a vertical line at 0; None without one.
        sides: what values at the left and at the right mean; None without such texts.
    """

    axis: Axis
    rows: tuple[StripRow, ...]
    description: str
    row_px: int = ROW_PX
    lines: tuple[CaseLine, ...] = ()
    line_opacity: float = 1.0
    zero: float | None = None
    sides: tuple[str, str] | None = None

    @property
    def height_px(self) -> int:
        """Height of all rows."""
        return self.row_px * len(self.rows)

    def middle_px(self, row: int) -> float:
        """Return the height of a row's middle."""
        return self.row_px * (row + 0.5)


def stack_dots(values: Sequence[float], axis: Axis, middle_px: float, methods: Sequence[int]) -> tuple[Dots, ...]:
    """Return the dots of a row's values, stacked around the row's middle where they would hide each other.

    Args:
        values: one value for each case; NaN draws nothing.
        axis: axis of the figure.
        middle_px: height of the row's middle.
        methods: number of the method whose colour each dot has.
    """
    stacks: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for value, method in zip(values, methods, strict=True):
        if not math.isnan(value):
            position = axis.position(value)
            stacks[int(position // BIN)].append((position, method))
    highest = max(map(len, stacks.values()), default=1)
    step = min(DOT_STEP_PX, STACK_PX / highest)
    paths: dict[int, list[str]] = defaultdict(list)
    for stack in stacks.values():
        for number, (position, method) in enumerate(sorted(stack)):
            offset = round((number + 1) // 2 * step * (-1 if number % 2 else 1), 1)
            paths[method].append(f"M{position:g} {middle_px + offset:g}h0")
    return tuple(Dots(method=method, path="".join(paths[method])) for method in sorted(paths))


def line_through(values: Sequence[float], axis: Axis, row_px: int) -> str:
    """Return the path of a case's line through the rows' middles; it has a gap where a value is NaN."""
    commands = []
    for row, value in enumerate(values):
        if not math.isnan(value):
            starts = row == 0 or math.isnan(values[row - 1])
            commands.append(f"{'M' if starts else 'L'}{axis.position(value):g} {row_px * (row + 0.5):g}")
    return "".join(commands)


def opacity_of(lines: int) -> float:
    """Return the opacity at which this number of lines can still be told apart."""
    return round(min(0.75, max(0.06, 25 / max(lines, 1))), 2)
