"""The mean difference and its interval; what happens with few cases, ties and missing values."""

from math import isnan, nan

import numpy as np
import pytest

from evaluation.comparison.paired_difference import paired_difference


def test_differences_are_second_minus_first() -> None:
    found = paired_difference([0.5, 0.6, 0.7, 0.5], [0.6, 0.5, 0.9, 0.9])
    assert found.second_minus_first == pytest.approx((0.1, -0.1, 0.2, 0.4))
    assert found.mean == pytest.approx(0.15)
    assert found.means == pytest.approx((0.575, 0.725))
    assert found.pairs == 4


def test_the_interval_holds_the_mean_and_repeats() -> None:
    random = np.random.default_rng(1)
    first = random.uniform(0.4, 0.6, 30)
    second = first + random.normal(0.05, 0.05, 30)
    found = paired_difference(list(first), list(second))
    assert found.interval is not None
    low, high = found.interval
    assert low < found.mean < high
    standard_error = np.std(second - first, ddof=1) / np.sqrt(30)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
    assert paired_difference(list(first), list(second)) == found
    assert paired_difference(list(second), list(first)).mean == pytest.approx(-found.mean)


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [([], [], 0), ([0.5], [0.6], 1), ([0.5, 0.6], [0.6, 0.9], 2), ([0.5, 0.6, nan, 0.1], [0.6, 0.9, 0.1, nan], 2)],
)
def test_too_few_cases_have_no_interval(first: list[float], second: list[float], pairs: int) -> None:
    found = paired_difference(first, second)
    assert found.interval is None
    assert found.omitted == f"{pairs} of the needed 3 cases have a value for both"
    assert found.pairs == pairs
    assert isnan(found.mean) == (pairs == 0)


@pytest.mark.parametrize("step", [0.0, 0.1])
def test_ties_have_no_interval(step: float) -> None:
    found = paired_difference([0.1, 0.2, 0.3, 0.4], [value + step for value in (0.1, 0.2, 0.3, 0.4)])
    assert found.mean == pytest.approx(step)
    assert found.interval is None
    assert "by the same amount" in (found.omitted or "")


def test_cases_without_a_value_are_left_out_of_both_means() -> None:
    found = paired_difference([0.5, 0.5, 0.5, 1.0], [0.6, 0.7, 0.8, nan])
    assert found.means == pytest.approx((0.5, 0.7))
    assert isnan(found.second_minus_first[3])


def test_one_case_that_differs_is_enough_for_numbers() -> None:
    found = paired_difference([0.5] * 5, [0.5] * 4 + [0.6])
    assert (found.interval is None) == (found.omitted is not None)


def test_ten_thousand_cases_are_resampled_in_pieces() -> None:
    random = np.random.default_rng(0)
    found = paired_difference([0.0] * 10_000, list(random.normal(0.1, 0.1, 10_000)))
    assert found.interval is not None
    assert found.interval == pytest.approx((found.mean - 0.00196, found.mean + 0.00196), abs=2e-4)
