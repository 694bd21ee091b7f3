"""Axes: positions, round ticks, and values that lie nowhere."""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.figures.axis import MOST_TICKS, WIDTH, linear_axis, logarithmic_axis, round_step


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_values_lie_on_the_axis_in_their_order(values: list[float]) -> None:
    axis = linear_axis(values)
    positions = [axis.position(value) for value in sorted(values)]
    assert positions == sorted(positions)
    assert all(0 <= position <= WIDTH for position in positions)
    assert 1 <= len(axis.ticks) <= MOST_TICKS + 1
    assert [tick.position for tick in axis.ticks] == sorted(tick.position for tick in axis.ticks)


def test_ticks_are_round_numbers() -> None:
    assert [tick.text for tick in linear_axis([0.52, 1.0]).ticks] == ["0.6", "0.7", "0.8", "0.9", "1.0"]
    assert [tick.text for tick in linear_axis([-0.1, 0.1]).ticks][::2] == ["\N{MINUS SIGN}0.10", "0.00", "0.10"]
    assert [tick.text for tick in linear_axis([0, 5000]).ticks][-1] == "5,000"
    assert [tick.text for tick in logarithmic_axis([0.2, 30]).ticks] == ["0.2", "0.5", "1", "2", "5", "10", "20"]
    assert [tick.text for tick in logarithmic_axis([1, 1e9]).ticks][:5] == ["1", "10", "100", "1k", "10k"]


@pytest.mark.parametrize(("step", "expected"), [(0.011, 0.02), (0.02, 0.02), (0.21, 0.25), (3, 5), (6, 10), (1e-9, 1e-9)])
def test_round_steps(step: float, expected: float) -> None:
    assert round_step(step) == pytest.approx(expected)


def test_an_axis_ends_at_its_bounds() -> None:
    axis = linear_axis([0.1, 0.999], (0.0, 1.0))
    assert axis.high == 1.0
    assert axis.position(1.0) == WIDTH
    assert axis.position(2.0) == WIDTH


@pytest.mark.parametrize("values", [[], [nan], [inf], [0.5], [0.0], [-3.0, nan]])
def test_axes_of_few_values(values: list[float]) -> None:
    assert linear_axis(values).low < linear_axis(values).high
    assert logarithmic_axis(values).low < logarithmic_axis(values).high
