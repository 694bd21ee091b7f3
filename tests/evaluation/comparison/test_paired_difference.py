"""Mean difference and its interval, also with few cases, ties and missing values."""

from math import isnan, nan

import numpy as np
import pytest

from evaluation.comparison.paired_difference import paired_difference


def test_differences_are_second_minus_first() -> None:
    difference = paired_difference([0.5, 0.6, 0.7, 0.5], [0.6, 0.5, 0.9, 0.9])
    assert difference.second_minus_first == pytest.approx((0.1, -0.1, 0.2, 0.4))
    assert difference.mean == pytest.approx(0.15)
    assert difference.means == pytest.approx((0.575, 0.725))
    assert difference.pairs == 4


def test_the_interval_holds_the_mean_and_repeats() -> None:
    random = np.random.default_rng(1)
    first = random.uniform(0.4, 0.6, 30)
    second = first + random.normal(0.05, 0.05, 30)
    difference = paired_difference(list(first), list(second))
    assert difference.interval is not None
    low, high = difference.interval
    assert low < difference.mean < high
    standard_error = np.std(second - first, ddof=1) / np.sqrt(30)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    assert paired_difference(list(first), list(second)) == difference
    assert paired_difference(list(second), list(first)).mean == pytest.approx(-difference.mean)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [([], [], 0), ([0.5], [0.6], 1), ([0.5, 0.6], [0.6, 0.9], 2), ([0.5, 0.6, nan, 0.1], [0.6, 0.9, 0.1, nan], 2)],
)
def test_too_few_cases_have_no_interval(first: list[float], second: list[float], pairs: int) -> None:
    difference = paired_difference(first, second)
    assert difference.interval is None
    assert difference.omitted == f"{pairs} of the needed 3 cases have a value for both"
    assert difference.pairs == pairs
    assert isnan(difference.mean) == (pairs == 0)


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_ties_have_no_interval(step: float) -> None:
    difference = paired_difference([0.1, 0.2, 0.3, 0.4], [value + step for value in (0.1, 0.2, 0.3, 0.4)])
    assert difference.mean == pytest.approx(step)
    assert difference.interval is None
    assert "by the same amount" in (difference.omitted or "")


def test_cases_without_a_value_are_left_out_of_both_means() -> None:
    difference = paired_difference([0.5, 0.5, 0.5, 1.0], [0.6, 0.7, 0.8, nan])
    assert difference.means == pytest.approx((0.5, 0.7))
    assert isnan(difference.second_minus_first[3])


def test_one_case_that_differs_is_enough_for_numbers() -> None:
    difference = paired_difference([0.5] * 5, [0.5] * 4 + [0.6])
    assert (difference.interval is None) == (difference.omitted is not None)


def test_ten_thousand_cases_are_resampled_in_pieces() -> None:
    random = np.random.default_rng(0)
    difference = paired_difference([0.0] * 10_000, list(random.normal(0.1, 0.1, 10_000)))
    assert difference.interval is not None
    assert difference.interval == pytest.approx((difference.mean - 0.00196, difference.mean + 0.00196), abs=2e-4)
